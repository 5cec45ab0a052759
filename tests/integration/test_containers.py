"""What engines of containers are told, what is left of containers, and what is said where an engine does not work."""

import csv
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.integration.test_sandbox import LIMITS, execute, program
from tests.support.containers import podman, require_podman_runs
from wheelfarm.errors import SandboxUnavailable
from wheelfarm_workers.sandbox import Ending, Limits, Mount, Root, SandboxRun
from wheelfarm_workers.sandbox.container_line import (
    frame,
    furniture,
    isolation_words,
    mapped_user,
    mount_words,
    top_level,
)
from wheelfarm_workers.sandbox.containers import ContainerFiles, ContainerSandbox
from wheelfarm_workers.sandbox.engines import DOCKER, PODMAN, Engine, chosen_runtime, explain_engine
from wheelfarm_workers.sandbox.seccomp import seccomp_profile
from wheelfarm_workers.sandbox.slot_users import Claim


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[ContainerSandbox]:
    require_podman_runs()
    sandbox = ContainerSandbox(PODMAN, 1, tmp_path)
    try:
        yield sandbox
    finally:
        sandbox.close()


def containers(*workers: str) -> set[str]:
    """The names of all that were made for these workers."""
    labels = [word for worker in workers for word in ("--filter", f"label=wheelfarm.worker={worker}")]
    return set(podman("ps", "--all", *labels, "--format", "{{.Names}}").split())


class TestWhatIsLeft:
    """Containers of workers that live are theirs; those of others are removed."""

    def test_containers_of_the_dead_are_removed_as_a_worker_starts_and_others_are_not(
        self, sandbox: ContainerSandbox, tmp_path: Path
    ) -> None:
        dead, living = (uuid4().hex for _ in range(2))
        claim = Claim(f"wheelfarm-containers-{living}")
        names = {worker: f"wheelfarm-{worker}-0" for worker in (dead, living)}
        others = f"not-{uuid4().hex}"
        try:
            for worker, name in names.items():
                label = f"wheelfarm.worker={worker}"
                podman("create", "--name", name, "--label", label, "--rootfs", str(tmp_path), "true")
            podman("create", "--name", others, "--rootfs", str(tmp_path), "true")
            sandbox.probe()
            assert (containers(dead), containers(living)) == (set(), {names[living]})
            podman("inspect", others)
        finally:
            claim.release()
            podman("rm", "--force", "--ignore", *names.values(), others)

    def test_nothing_is_left_of_runs_however_they_end(self, sandbox: ContainerSandbox, tmp_path: Path) -> None:
        cancelled = threading.Event()
        threading.Timer(0.5, cancelled.set).start()
        assert execute(sandbox, program("time.sleep(60)"), cancelled).ending is Ending.CANCELLED
        assert execute(sandbox, program("sys.exit(125)")).returncode == 125  # an engine's own, too
        assert execute(sandbox, program("sys.exit(213)")).ending is Ending.EXITED  # what out of memory is told by
        tmp_path.chmod(0o755)
        with pytest.raises(SandboxUnavailable, match="podman does not work"):
            execute(sandbox, program("tell(1)", mounts=(Mount(source=tmp_path, target="/proc/nobody/there"),)))
        assert execute(sandbox, program("tell(1)")).told() == 1
        assert containers(sandbox.worker) == set()


class TestTrouble:
    """Engines that don't work, and what mends them."""

    @pytest.mark.parametrize("engine", [PODMAN, DOCKER])
    def test_missing_engine_is_told_with_its_packages(
        self, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        sandbox = ContainerSandbox(engine, 1, tmp_path)
        try:
            with pytest.raises(SandboxUnavailable, match=f"{engine.name} is not installed") as error:
                sandbox.probe()
        finally:
            sandbox.close()
        assert error.value.hint.startswith("apt-get install")

    @pytest.mark.parametrize(
        ("said", "hint"),
        [
            ('Error: default OCI runtime "crun" not found', "Install runc"),
            ("Error: crun: cgroups in hybrid mode not supported, drop all controllers", "WHEELFARM_CONTAINER_RUNTIME"),
            ('Error: cannot find newuidmap: exec: "newuidmap": not found', "apt-get install uidmap; usermod"),
            ('no subuid ranges found for user "farm" in /etc/subuid', "--add-subuids"),
            ("Cannot connect to the Docker daemon at unix:///run/docker.sock.", "docker.service"),
            ("Error: something that nobody knows", "apt-get install"),
        ],
    )
    def test_failure_is_explained_with_its_remedy(self, said: str, hint: str) -> None:
        error = explain_engine(PODMAN, said)
        assert said in error.message
        assert hint in error.hint

    def test_engine_that_has_no_such_runtime_is_told_apart_from_a_failing_build(self, tmp_path: Path) -> None:
        require_podman_runs()
        sandbox = ContainerSandbox(PODMAN, 1, tmp_path, runtime="runtime-of-nobody")
        try:
            with pytest.raises(SandboxUnavailable, match="runtime-of-nobody"):
                sandbox.probe()
        finally:
            sandbox.close()

    def test_docker_refuses_the_hosts_own_system(self, tmp_path: Path) -> None:
        sandbox = ContainerSandbox(DOCKER, 1, tmp_path)
        try:
            with pytest.raises(SandboxUnavailable, match="docker runs root filesystems alone"):
                execute(sandbox, program("tell(1)"))
        finally:
            sandbox.close()


class TestLine:
    """What an engine is told."""

    def test_profile_refuses_what_the_program_for_bubblewrap_does(self) -> None:
        profile = json.loads(seccomp_profile())
        assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
        refused = {call["names"][0]: call for call in profile["syscalls"]}
        assert refused["mount"] == {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
        assert refused["clone3"]["errnoRet"] == 38
        assert refused["socket"]["args"][0]["op"] == "SCMP_CMP_MASKED_EQ"
        assert {"keyctl", "ptrace", "unshare", "setns", "bpf", "io_uring_setup", "userfaultfd"} <= refused.keys()

    def test_limits_are_told_in_the_units_that_engines_take(self) -> None:
        words = isolation_words(Limits(memory_bytes=1 << 30, processes=64, tmp_bytes=1 << 20, build_bytes=1 << 21))
        told = dict(itertools.pairwise(words))
        assert (told["--memory"], told["--memory-swap"], told["--pids-limit"]) == ("1073741824b", "1073741824b", "64")
        assert "/build:rw,nosuid,nodev,exec,size=2097152,mode=1777" in words
        assert "core=0:0" in words
        assert {"--read-only", "--pull=never", "no-new-privileges"} <= set(words)

    def test_paths_with_commas_and_quotes_are_one_part_of_a_mount(self) -> None:
        mount = Mount(source=Path('/srv/a, "b"'), target="/in/x")
        option, line = mount_words(str(mount.source), mount)
        assert option == "--mount"
        parts = ["type=bind", 'source=/srv/a, "b"', "target=/in/x", "readonly"]
        assert next(csv.reader([line])) == parts
        assert "readonly" not in mount_words("/srv", Mount(source=Path("/srv"), target="/out", writable=True))[1]

    def test_user_inside_is_the_slots_and_root_inside_is_nobody_else(self) -> None:
        assert mapped_user(20001)[:4] == (
            *("--uidmap=0:30000:1", "--gidmap=0:30000:1"),
            *("--uidmap=1000:20001:1", "--gidmap=1000:20001:1"),
        )
        assert mapped_user(None)[0] == "--userns=keep-id:uid=1000,gid=1000"

    def test_everything_that_is_mounted_has_its_place_in_the_frame(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        mounts = (Mount(source=tmp_path, target="/tree/0"), Mount(source=tmp_path / "file", target="/in/sdist"))
        run = SandboxRun(
            argv=("true",), input=b"", interpreter_prefix=None, limits=LIMITS, mounts=mounts,
            directories=("/env", "/env/bin"), symlinks={"/env/bin/python": "/usr/bin/python3"},
        )  # fmt: skip
        made = furniture(run, mounts, "/frame")
        assert (made.directories, made.files) == (("env", "env/bin", "tree/0"), ("in/sdist",))
        assert top_level(made, mounts) == ["env", "in", "tree"]
        whole_folder = (*mounts, Mount(source=tmp_path, target="/driver"))
        assert top_level(furniture(run, whole_folder, "/frame"), whole_folder) == ["env", "in", "tree"]
        whole = frame(run, mounts, {"bin": "usr/bin"}, "/frame")
        assert {"proc", "dev", "sys", "tree/0"} <= set(whole.directories)
        assert whole.symlinks == {"bin": "usr/bin", "env/bin/python": "/usr/bin/python3"}

    def test_etc_of_a_root_is_copied_without_what_others_may_not_read_of_it(self, tmp_path: Path) -> None:
        root = tmp_path / "root"
        (root / "etc" / "alternatives").mkdir(parents=True)
        (root / "usr").mkdir()
        (root / "etc" / "alternatives" / "cc").symlink_to("/usr/bin/gcc")
        (root / "etc" / "hostname").write_text("machine-of-somebody")
        (root / "etc" / "resolv.conf").symlink_to("/run/systemd/resolve/stub-resolv.conf")
        (root / "etc" / "shadow").write_text("root:*")
        (root / "etc" / "shadow").chmod(0o600)
        run = SandboxRun(
            argv=("true",), input=b"", interpreter_prefix=None, limits=LIMITS,
            root=Root(folder=root, archive=tmp_path / "root.tar", sha256="0" * 64),
        )  # fmt: skip
        work = tmp_path / "work"
        work.mkdir()
        files = ContainerFiles(work)
        shown = {mount.target: mount.source for mount in files.system(run, None)}
        assert set(shown) == {"/usr", "/etc"}
        etc = shown["/etc"]
        assert (etc / "alternatives" / "cc").readlink() == Path("/usr/bin/gcc")
        assert [(etc / name).read_bytes() for name in ("hostname", "hosts", "resolv.conf")] == [b""] * 3
        assert b"builder" in (etc / "passwd").read_bytes()
        assert (etc / "shadow").stat().st_mode & 0o077 == 0
        files.remove()
        assert list(work.iterdir()) == []

    def test_runtime_is_the_one_that_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert chosen_runtime(PODMAN, "runsc") == "runsc"
        assert chosen_runtime(DOCKER, "") == ""
        (tmp_path / "runc").touch(mode=0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert chosen_runtime(PODMAN, "") == "runc"
