"""The contract of the sandbox back ends, and what hostile builds try against bubblewrap.

The attacks run as small Python programs inside, judge from inside, and would do no harm if the protection failed: they
open without writing, count to a bound, and talk to nothing but this test's own sockets.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

import pytest

from tests.support.containers import require_podman_runs
from tests.support.waiting import wait_until
from wheelfarm.errors import SandboxUnavailable
from wheelfarm_workers.sandbox import Ending, Limits, Mount, Sandbox, SandboxRun
from wheelfarm_workers.sandbox.bubblewrap import BubblewrapSandbox
from wheelfarm_workers.sandbox.containers import ContainerSandbox
from wheelfarm_workers.sandbox.diagnosis import diagnose
from wheelfarm_workers.sandbox.engines import PODMAN
from wheelfarm_workers.sandbox.limits import open_cgroups, own_folder
from wheelfarm_workers.sandbox.processes import child_pids
from wheelfarm_workers.sandbox.slot_users import FIRST_UID, LAST_UID, SlotUsers
from wheelfarm_workers.sandbox.unconfined import UnconfinedSandbox

MIB = 1 << 20
LIMITS = Limits(
    wall_s=120, memory_bytes=512 * MIB, processes=128, build_bytes=16 * MIB, tmp_bytes=8 * MIB, file_bytes=64 * MIB
)
PREFIX = Path(sys.base_prefix)
PYTHON = os.path.realpath(sys.executable)
PRELUDE = """
import json, os, sys, time
ROOT = os.environ["WHEELFARM_ROOT"]
def tell(value):
    with open(int(os.environ["WHEELFARM_RESULT_FD"]), "w", closefd=False) as file:
        json.dump(value, file)
def outcome(action):
    try:
        value = action()
    except OSError as error:
        import errno
        return errno.errorcode[error.errno]
    return "succeeded"
"""
MAKERS: dict[str, Callable[[Path], Sandbox]] = {
    "bubblewrap": lambda folder: BubblewrapSandbox(2, folder),
    "bubblewrap-watchdog": lambda folder: BubblewrapSandbox(2, folder, use_cgroups=False),
    "none": lambda folder: UnconfinedSandbox(2, folder),
    "none-watchdog": lambda folder: UnconfinedSandbox(2, folder, use_cgroups=False),
    "podman": lambda folder: ContainerSandbox(PODMAN, 2, folder),
}
CONFINED = ("bubblewrap", "podman")
SOON_S = 45.0
"""Long before the runs here would end by themselves, and longer than any back end takes on a busy machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A run's end, with its log and result read."""

    ending: Ending
    returncode: int
    log: bytes
    result: bytes
    elapsed_s: float

    def told(self) -> Any:
        assert (self.ending, self.returncode) == (Ending.EXITED, 0), self
        return json.loads(self.result)


def execute(sandbox: Sandbox, run: SandboxRun, cancelled: threading.Event | None = None) -> Outcome:
    log: list[bytes] = []
    began = time.monotonic()
    ended = sandbox.run(run, log=log.append, cancelled=cancelled or threading.Event())
    elapsed_s = time.monotonic() - began
    with ended.result as file:
        result = file.read()
    return Outcome(
        ending=ended.ending, returncode=ended.returncode, log=b"".join(log), result=result, elapsed_s=elapsed_s
    )


def program(source: str, *arguments: str, limits: Limits = LIMITS, **fields: Any) -> SandboxRun:
    """A run of this Python source after the prelude."""
    argv = (PYTHON, "-I", "-S", "-c", PRELUDE + source, *arguments)
    return SandboxRun(**{"argv": argv, "input": b"", "interpreter_prefix": PREFIX, "limits": limits, **fields})


def processes_with(token: str) -> set[int]:
    """The living processes that have the token in their command line."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if token.encode() in path.read_bytes():
                found.add(int(path.parent.name))
        except OSError:
            continue
    return found


@contextmanager
def once_it_runs(token: str, action: Callable[[], object], *, processes: int = 1) -> Iterator[None]:
    """Do something in a thread as soon as so many processes with the token live."""

    def act() -> None:
        assert wait_until(lambda: len(processes_with(token)) >= processes, SOON_S)
        action()

    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(act)
        yield
        acting.result()


@contextmanager
def made(kind: str, folder: Path) -> Iterator[Sandbox]:
    if kind == "podman":
        require_podman_runs()
    sandbox = MAKERS[kind](folder)
    try:
        sandbox.probe()
        yield sandbox
    finally:
        sandbox.close()
        assert list(folder.iterdir()) == []


@pytest.fixture(scope="module", params=MAKERS)
def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Each back end in each of its forms."""
    with made(request.param, tmp_path_factory.mktemp("work")) as sandbox:
        yield sandbox


@pytest.fixture(scope="module", params=CONFINED)
def confined(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Each back end that holds hostile builds in."""
    with made(request.param, tmp_path_factory.mktemp("work")) as sandbox:
        yield sandbox


@pytest.fixture
def token() -> str:
    """A word by which this test's processes are found."""
    return f"token-{uuid4().hex}"


class TestContract:
    """What every back end does."""

    def test_command_reads_its_input_and_returns_its_result(self, sandbox: Sandbox) -> None:
        outcome = execute(sandbox, program("tell(json.load(sys.stdin)[::-1])", input=b"[1, 2, 3]"))
        assert outcome.told() == [3, 2, 1]

    def test_log_has_stdout_and_stderr_in_order(self, sandbox: Sandbox) -> None:
        outcome = execute(sandbox, program("os.write(1, b'a'); os.write(2, b'b'); os.write(1, b'c')"))
        assert outcome.log == b"abc"

    def test_return_code_is_the_commands(self, sandbox: Sandbox) -> None:
        outcome = execute(sandbox, program("sys.exit(7)"))
        assert (outcome.ending, outcome.returncode) == (Ending.EXITED, 7)

    def test_return_code_of_a_signal_is_negative(self, sandbox: Sandbox) -> None:
        outcome = execute(sandbox, program("os.kill(os.getpid(), 15)"))
        assert (outcome.ending, outcome.returncode) == (Ending.EXITED, -15)

    def test_result_larger_than_a_pipe_arrives_whole(self, sandbox: Sandbox) -> None:
        outcome = execute(sandbox, program("tell('x' * 5_000_000)"))
        assert outcome.told() == "x" * 5_000_000

    def test_working_directory_is_home_and_empty_and_so_is_tmp(self, sandbox: Sandbox) -> None:
        source = "tell([os.getcwd(), os.environ['HOME'], ROOT + '/build', os.listdir('.'), os.listdir(ROOT + '/tmp')])"
        directory, home, build, *contents = execute(sandbox, program(source)).told()
        assert directory == home == build
        assert contents == [[], []]

    def test_files_of_one_run_are_gone_in_the_next(self, sandbox: Sandbox) -> None:
        source = "open('file', 'w').close(); open(ROOT + '/tmp/file', 'w').close(); tell(os.listdir('.'))"
        assert execute(sandbox, program(source)).told() == ["file"]
        assert execute(sandbox, program(source)).told() == ["file"]

    def test_undeletable_tree_is_removed(self, sandbox: Sandbox) -> None:
        source = """
for _ in range(1500):
    os.mkdir("deep"); os.chdir("deep")
os.chdir(ROOT + "/build"); os.mkdir("shut"); open("shut/file", "w").close(); os.chmod("shut", 0)
tell(None)
"""
        assert execute(sandbox, program(source)).told() is None

    def test_environment_is_the_runs(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WHEELFARM_TEST_SECRET", "secret")
        outcome = execute(sandbox, program("tell(dict(os.environ))", environment={"NAME": "value"}))
        names = set(outcome.told()) - {"PWD", "LC_CTYPE", "TMPDIR"}
        assert names == {"PATH", "HOME", "LANG", "TZ", "WHEELFARM_ROOT", "WHEELFARM_RESULT_FD", "NAME"}
        assert outcome.told()["NAME"] == "value"

    def test_umask_is_022(self, sandbox: Sandbox) -> None:
        assert execute(sandbox, program("tell(os.umask(0))")).told() == 0o022

    def test_mounts_directories_and_symlinks_are_there(self, sandbox: Sandbox, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "module").write_text("content")
        (tmp_path / "sdist").write_text("bytes")
        run = program(
            "tell([open(ROOT + path).read() for path in ('/site/module', '/in/sdist')] + os.listdir(ROOT + '/empty'))",
            mounts=(
                Mount(source=tmp_path / "tree", target="/tree/0"),
                Mount(source=tmp_path / "sdist", target="/in/sdist"),
            ),
            directories=("/empty", "/site"),
            symlinks={"/site/module": "/tree/0/module"},
        )
        assert execute(sandbox, run).told() == ["content", "bytes"]

    def test_words_of_the_command_may_be_inside_paths(self, sandbox: Sandbox, tmp_path: Path) -> None:
        tmp_path.chmod(0o755)
        (tmp_path / "driver.py").write_text("import sys; print(open(sys.argv[1]).read(), end='')")
        run = SandboxRun(
            argv=("/env/bin/python", "-I", "-S", "/driver/driver.py", "/driver/driver.py"),
            input=b"",
            interpreter_prefix=PREFIX,
            limits=LIMITS,
            mounts=(Mount(source=tmp_path, target="/driver"),),
            symlinks={"/env/bin/python": PYTHON},
        )
        assert execute(sandbox, run).log == (tmp_path / "driver.py").read_bytes()

    def test_writable_mount_takes_files_out(self, sandbox: Sandbox, tmp_path: Path) -> None:
        run = program(
            "open(ROOT + '/out/file', 'w').write('made inside'); tell(None)",
            mounts=(Mount(source=tmp_path, target="/out", writable=True),),
        )
        execute(sandbox, run).told()
        assert (tmp_path / "file").read_text() == "made inside"
        assert tmp_path.stat().st_uid == os.getuid()

    def test_runs_are_parallel_in_their_slots_and_wait_for_one(self, sandbox: Sandbox) -> None:
        begun: SimpleQueue[bytes] = SimpleQueue()
        run, ends = program("print('begun', flush=True); time.sleep(90)"), [threading.Event() for _ in range(3)]

        def occupy(end: threading.Event) -> None:
            sandbox.run(run, log=begun.put, cancelled=end).result.close()

        threads = [threading.Thread(target=occupy, args=(end,)) for end in ends]
        try:
            for thread in threads[:2]:
                thread.start()
            assert [begun.get(timeout=SOON_S) for _ in range(2)] == [b"begun\n"] * 2
            threads[2].start()
            with pytest.raises(Empty):
                begun.get(timeout=0.5)
            ends[0].set()
            assert begun.get(timeout=SOON_S) == b"begun\n"
        finally:
            for end in ends:
                end.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def test_run_that_is_cancelled_before_it_has_a_slot_ends(self, sandbox: Sandbox) -> None:
        cancelled = threading.Event()
        cancelled.set()
        assert execute(sandbox, program("tell(None)"), cancelled).ending is Ending.CANCELLED

    def test_cancelled_run_ends_long_before_its_command(self, sandbox: Sandbox, token: str) -> None:
        cancelled = threading.Event()
        with once_it_runs(token, cancelled.set, processes=2):
            outcome = execute(sandbox, program("os.fork(); time.sleep(90)", token), cancelled)
        assert (outcome.ending, outcome.returncode) == (Ending.CANCELLED, -9)
        assert outcome.elapsed_s < SOON_S
        assert processes_with(token) == set()

    def test_endless_run_is_killed_at_its_limit_whatever_it_ignores(self, sandbox: Sandbox, token: str) -> None:
        source = """
import signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
print("started", flush=True); os.fork(); time.sleep(90)
"""
        outcome = execute(sandbox, program(source, token, limits=Limits(wall_s=1)))
        assert outcome.ending is Ending.TIMEOUT
        assert outcome.log in (b"started\n", b"")  # a machine that is very busy has not begun by then
        assert outcome.elapsed_s < SOON_S
        assert processes_with(token) == set()

    def test_memory_is_bounded_over_all_processes(self, sandbox: Sandbox, token: str) -> None:
        source = """
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        block = bytearray(os.urandom(1 << 20) * 90); time.sleep(5); os._exit(0)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""
        outcome = execute(sandbox, program(source, token, limits=Limits(wall_s=60, memory_bytes=192 * MIB)))
        assert outcome.ending is Ending.MEMORY, outcome
        assert outcome.elapsed_s < SOON_S
        assert processes_with(token) == set()

    def test_log_flood_ends_the_run(self, sandbox: Sandbox) -> None:
        source = "for _ in range(1000): os.write(1, b'x' * 65536)"
        outcome = execute(sandbox, program(source, limits=Limits(wall_s=60, log_bytes=100_000)))
        assert (outcome.ending, len(outcome.log)) == (Ending.LOG_LIMIT, 100_000)

    def test_log_of_just_the_limit_is_fine(self, sandbox: Sandbox) -> None:
        outcome = execute(sandbox, program("os.write(1, b'x' * 1000)", limits=Limits(wall_s=60, log_bytes=1000)))
        assert (outcome.ending, len(outcome.log)) == (Ending.EXITED, 1000)

    def test_result_past_its_limit_ends_the_run(self, sandbox: Sandbox) -> None:
        source = "for _ in range(1000): os.write(int(os.environ['WHEELFARM_RESULT_FD']), b'x' * 65536)"
        outcome = execute(sandbox, program(source, limits=Limits(wall_s=60, result_bytes=100_000)))
        assert (outcome.ending, len(outcome.result)) == (Ending.RESULT_LIMIT, 100_000)

    def test_file_past_its_limit_is_refused(self, sandbox: Sandbox) -> None:
        source = """
def fill():
    with open("file", "wb", 0) as file:
        for _ in range(20): file.write(bytes(1 << 18))
tell([outcome(fill), os.stat("file").st_size])
"""
        limits = Limits(wall_s=60, file_bytes=MIB, build_bytes=8 * MIB)
        assert execute(sandbox, program(source, limits=limits)).told() == ["EFBIG", MIB]

    def test_daemon_holding_stdout_ends_with_the_run(self, sandbox: Sandbox, token: str) -> None:
        source = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for _ in range(900): time.sleep(0.1)
    os._exit(0)
os.wait(); print("left", flush=True); tell(None)
"""
        outcome = execute(sandbox, program(source, token))
        assert (outcome.told(), outcome.log) == (None, b"left\n")
        assert outcome.elapsed_s < SOON_S
        assert processes_with(token) == set()

    def test_log_that_raises_ends_the_run(self, sandbox: Sandbox, token: str) -> None:
        def log(_: bytes) -> None:
            raise RuntimeError("the disk is full")

        with pytest.raises(RuntimeError, match="the disk is full"):
            sandbox.run(program("print(1, flush=True); time.sleep(90)", token), log=log, cancelled=threading.Event())
        assert processes_with(token) == set()

    def test_descriptors_are_the_standard_ones_and_the_result(self, sandbox: Sandbox) -> None:
        source = """
def is_open(fd):
    return outcome(lambda: os.fstat(fd)) == "succeeded"
listed = [int(name) for name in os.listdir("/proc/self/fd")]  # and what it was listed through, closed now
tell(sorted(set(filter(is_open, listed)) - {int(os.environ["WHEELFARM_RESULT_FD"])}))
"""
        with tempfile.TemporaryFile() as leak:
            os.set_inheritable(leak.fileno(), True)
            assert execute(sandbox, program(source)).told() == [0, 1, 2]

    def test_fds_leave_no_trace_in_the_worker(self, sandbox: Sandbox) -> None:
        execute(sandbox, program("tell(None)")).told()
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            execute(sandbox, program("tell(None)")).told()
        assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("kind", MAKERS)
class TestDeaths:
    """What is left when the worker or the spawner dies: nothing."""

    def test_dead_spawner_loses_the_run_and_the_next_one_has_a_new_spawner(
        self, kind: str, tmp_path: Path, token: str
    ) -> None:
        others = set(child_pids(os.getpid()))
        with made(kind, tmp_path) as sandbox:
            (spawner,) = set(child_pids(os.getpid())) - others
            with once_it_runs(token, lambda: os.kill(spawner, signal.SIGKILL), processes=2):
                outcome = execute(sandbox, program("os.fork(); time.sleep(90)", token))
            assert outcome.ending is Ending.LOST
            assert outcome.elapsed_s < SOON_S
            assert wait_until(lambda: not processes_with(token), SOON_S)
            assert execute(sandbox, program("tell(1)")).told() == 1

    def test_spawner_outlives_the_signals_of_a_terminal(self, kind: str, tmp_path: Path) -> None:
        others = set(child_pids(os.getpid()))
        with made(kind, tmp_path) as sandbox:
            (spawner,) = set(child_pids(os.getpid())) - others
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(spawner, number)
            assert os.getsid(spawner) != os.getsid(0)
            assert execute(sandbox, program("tell(1)")).told() == 1

    def test_closing_ends_runs(self, kind: str, tmp_path: Path, token: str) -> None:
        with made(kind, tmp_path) as sandbox:
            with once_it_runs(token, sandbox.close):
                assert execute(sandbox, program("time.sleep(90)", token)).ending is Ending.CANCELLED
            with pytest.raises(SandboxUnavailable, match="closed"):
                execute(sandbox, program("tell(None)"))
        assert processes_with(token) == set()

    def test_killed_worker_leaves_no_process(self, kind: str, tmp_path: Path, token: str) -> None:
        source = f"""
import threading
from pathlib import Path
from tests.integration.test_sandbox import MAKERS, program
sandbox = MAKERS[{kind!r}](Path({str(tmp_path)!r}))
run = program("os.fork(); time.sleep(90)", {token!r})
sandbox.run(run, log=print, cancelled=threading.Event())
"""
        repository = Path(__file__).parents[2]
        path = os.pathsep.join([str(repository), *(path for path in sys.path if path)])
        environment = {**os.environ, "PYTHONPATH": path}
        with subprocess.Popen([sys.executable, "-c", source], env=environment) as worker:
            assert wait_until(lambda: len(processes_with(token) - {worker.pid}) >= 2, SOON_S)
            worker.kill()
        assert wait_until(lambda: not processes_with(token), SOON_S)


class TestAttacks:
    """What code in a sandbox tries."""

    def test_network_has_nobody_in_it(self, confined: Sandbox) -> None:
        source = """
import socket
def connect(family, address):
    with socket.socket(family) as client:
        client.settimeout(2); client.connect(address)
port, name = int(sys.argv[1]), sys.argv[2]
tell([
    outcome(lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
    outcome(lambda: connect(socket.AF_INET6, ("::1", port))),
    outcome(lambda: connect(socket.AF_UNIX, "\\0" + name)),
    [name for _, name in socket.if_nameindex()],
])
"""
        name = f"wheelfarm-{uuid4().hex}"
        with socket.create_server(("127.0.0.1", 0)) as service, socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind(f"\0{name}")
            abstract.listen()
            outcomes = execute(confined, program(source, str(service.getsockname()[1]), name)).told()
            for listener in (service, abstract):
                listener.setblocking(False)
                with pytest.raises(BlockingIOError):
                    listener.accept()
        assert outcomes[0] == outcomes[2] == "ECONNREFUSED"
        assert outcomes[1] in ("ECONNREFUSED", "EADDRNOTAVAIL", "EAFNOSUPPORT")
        assert outcomes[3] == ["lo"]

    @pytest.mark.parametrize("kind", CONFINED)
    def test_processes_of_the_machine_are_not_to_be_seen(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = """
import glob
pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
def read(path):
    try: return open(path, "rb").read().decode(errors="replace")
    except OSError: return ""
tell([max(pids), "".join(map(read, glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline")))])
"""
        monkeypatch.setenv("WHEELFARM_TEST_SECRET", "do-not-tell")
        with made(kind, tmp_path) as sandbox:
            highest, seen = execute(sandbox, program(source)).told()
        assert highest < 10
        assert "do-not-tell" not in seen

    def test_secrets_of_the_machine_are_not_there(self, confined: Sandbox, tmp_path: Path) -> None:
        secret = tmp_path / "credentials"
        secret.write_text("do-not-tell")
        paths = ["/etc/shadow", "/etc/pip.conf", "/var", "/boot", "/run/podman", "/run/docker.sock", str(secret)]
        paths += [] if confined.name == "podman" else ["/run", "/sys", "/etc/hosts"]
        paths += [str(path) for path in Path.home().iterdir() if not PREFIX.is_relative_to(path)]
        source = """
sizes = {name: os.path.getsize("/etc/" + name) for name in os.listdir("/etc")}
tell([[path for path in sys.argv[1:] if os.path.lexists(path)], sizes, [*os.walk("/run")]])
"""
        there, etc, run = execute(confined, program(source, *paths)).told()
        assert there == []
        own = {"alternatives", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "passwd"}
        assert {name for name, size in etc.items() if size} - own <= {"hostname", "mtab"}
        assert run in ([], [["/run", ["secrets"], [".containerenv"]], ["/run/secrets", [], []]])

    def test_nothing_but_build_tmp_and_shm_is_writable(self, confined: Sandbox, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("input")
        tmp_path.chmod(0o777)
        source = """
folders = ["/usr", "/usr/lib", "/usr/local", "/usr/bin", sys.argv[1], sys.argv[1] + "/lib", "/proc"]
for path, names, _ in os.walk("/"):
    folders.append(path)
    names[:] = [name for name in names if os.path.join(path, name) not in ("/proc", "/usr", sys.argv[1])]
unnamed = lambda path: outcome(lambda: os.open(path, os.O_WRONLY | os.O_TMPFILE, 0o600))
tell(sorted(path for path in set(folders) if unnamed(path) == "succeeded"))
"""
        run = program(source, str(PREFIX), mounts=(Mount(source=tmp_path, target="/in"),))
        assert execute(confined, run).told() == ["/build", "/dev/shm", "/tmp"]

    def test_files_outside_do_not_open_for_writing(self, confined: Sandbox, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("input")
        (tmp_path / "file").chmod(0o666)
        paths = ["/in/file", "/etc/ld.so.cache", "/etc/passwd", "/usr/bin/env", PYTHON]
        kernel = ("sysrq-trigger", "sys/kernel/core_pattern", "sys/vm/drop_caches", "sys/user/max_user_namespaces")
        paths += [f"/proc/{name}" for name in kernel if Path("/proc", name).exists()]
        source = "tell({path: outcome(lambda: os.open(path, os.O_WRONLY)) for path in sys.argv[1:]})"
        run = program(source, *paths, mounts=(Mount(source=tmp_path / "file", target="/in/file"),))
        told = execute(confined, run).told()
        assert {path: answer for path, answer in told.items() if answer not in ("EROFS", "EACCES", "EPERM")} == {}

    def test_user_inside_is_1000_without_privileges(self, confined: Sandbox) -> None:
        source = """
status = dict(map(str.strip, line.split(":", 1)) for line in open("/proc/self/status"))
tell([os.getresuid(), os.getresgid(), outcome(lambda: os.setuid(0)), outcome(lambda: os.setgroups([0])),
    outcome(lambda: os.chroot("/build")), outcome(lambda: os.mknod("/build/null", 0o20666, os.makedev(1, 3))),
    [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")]])
"""
        users, groups, *outcomes, status = execute(confined, program(source)).told()
        assert (users, groups) == ([1000] * 3, [1000] * 3)
        assert outcomes == ["EPERM" if confined.name == "podman" else "EINVAL", "EPERM", "EPERM", "EPERM"]
        assert status == ["0" * 16] * 5 + ["1", "2"]

    def test_user_outside_is_a_slots_own_and_never_root(self, confined: Sandbox, token: str) -> None:
        seen: set[int] = set()
        cancelled = threading.Event()

        def is_elsewhere(process: Path) -> bool:
            return (process / "ns" / "pid").readlink() != Path("/proc/self/ns/pid").readlink()

        def look() -> None:
            wait_until(lambda: any(is_elsewhere(Path("/proc", str(pid))) for pid in processes_with(token)), SOON_S)
            inside = [path for pid in processes_with(token) if (path := Path("/proc", str(pid))) and is_elsewhere(path)]
            seen.update(path.stat().st_uid for path in inside)
            cancelled.set()

        thread = threading.Thread(target=look)
        thread.start()
        execute(confined, program("time.sleep(90)", token), cancelled)
        thread.join()
        assert seen
        assert seen <= (set(range(FIRST_UID, LAST_UID + 1)) if os.getuid() == 0 else {os.getuid()})

    def test_users_of_two_workers_differ(self) -> None:
        users, others = SlotUsers(2), SlotUsers(2)
        assert len({users[0], users[1], others[0], others[1]}) == 4
        users.release()
        others.release()

    def test_setuid_file_gives_nothing(self, confined: Sandbox) -> None:
        source = """
import shutil, subprocess
shutil.copy("/usr/bin/id", "id"); os.chmod("id", 0o6755)
tell([subprocess.run([path, "-u"], capture_output=True, text=True).stdout.strip() for path in ("./id", "/usr/bin/id")])
"""
        assert execute(confined, program(source)).told() == ["1000", "1000"]

    def test_system_calls_of_namespaces_tracing_and_keys_are_refused(self, confined: Sandbox) -> None:
        source = """
import ctypes, errno, platform
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {"x86_64": dict(keyctl=250, add_key=248, bpf=321, perf_event_open=298, userfaultfd=323, ptrace=101,
        process_vm_readv=310, setns=308, open_by_handle_at=304, clone=56, socket=41, ioctl=16),
    "aarch64": dict(keyctl=219, add_key=217, bpf=280, perf_event_open=241, userfaultfd=282, ptrace=117,
        process_vm_readv=270, setns=268, open_by_handle_at=265, clone=220, socket=198, ioctl=29)}[platform.machine()]
NUMBERS.update(io_uring_setup=425, open_tree=428, fsopen=430, clone3=435, mount_setattr=442)
def call(name, *arguments):
    words = [ctypes.c_long(word) for word in (*arguments, *[0] * 6)[:6]]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(NUMBERS[name]), *words)
    if name == "clone" and result == 0: os._exit(0)
    return "succeeded" if result >= 0 else errno.errorcode[ctypes.get_errno()]
high = 1 << 32
calls = {name: call(name) for name in NUMBERS if name not in ("clone", "socket", "ioctl")}
told = {"calls": calls, "sockets": [call("socket", family, 5, 0) for family in (38, 40, 38 + high, 40 + high)]}
told["sockets_left"] = [call("socket", family, 1, 0) for family in (1, 2)]
flags = (0x20000, 0x2000000, 0x4000000, 0x10000000, 0x20000000, 0x40000000)
told["clone"] = [call("clone", flag | 17) for flag in flags]
told["ioctl"] = [call("ioctl", 0, request) for request in (0x5412, 0x541C, 0x5412 + high)]
libc.unshare.argtypes = [ctypes.c_int]
told["unshare"] = [libc.unshare(flag) for flag in (0x10000000, 0x20000, 0x40000000)]
told["mount"] = [libc.mount(b"none", b"/build", b"tmpfs", 0, None), libc.umount2(b"/usr", 2)]
tell(told)
"""
        told = execute(confined, program(source)).told()
        assert told["calls"].pop("clone3") == "ENOSYS"
        assert {name: answer for name, answer in told["calls"].items() if answer != "EPERM"} == {}
        assert told["sockets"] == ["EAFNOSUPPORT"] * 4
        assert told["sockets_left"] == ["succeeded"] * 2
        assert told["clone"] == ["EPERM"] * 6
        assert told["ioctl"] == ["EPERM"] * 3
        assert told["unshare"] == [-1] * 3
        assert told["mount"] == [-1] * 2

    def test_threads_and_subprocesses_work_all_the_same(self, confined: Sandbox) -> None:
        source = """
import subprocess, threading
thread = threading.Thread(target=time.sleep, args=(0,)); thread.start(); thread.join()
tell(subprocess.run(["/bin/sh", "-c", "echo $((6 * 7))"], capture_output=True, text=True).stdout)
"""
        assert execute(confined, program(source)).told() == "42\n"

    @pytest.mark.skipif(os.getuid() != 0, reason="sandboxes of other users than root run as these")
    @pytest.mark.parametrize("shut", [".", "bin", "bin/python3", "lib"])
    def test_interpreter_that_the_sandboxes_users_cannot_read_is_refused_with_the_remedy(
        self, confined: Sandbox, tmp_path: Path, shut: str
    ) -> None:
        prefix = tmp_path / "python"
        for folder in ("bin", "lib"):
            (prefix / folder).mkdir(parents=True)
        (prefix / "bin" / "python3").symlink_to("python3.11")
        (prefix / "bin" / "python3.11").touch(mode=0o755)
        (prefix / shut).chmod(0o700)
        with pytest.raises(SandboxUnavailable, match="can't be read by the sandboxes' users") as error:
            execute(confined, program("tell(None)", interpreter_prefix=prefix))
        assert error.value.hint == f"chmod -R o+rX {(prefix / shut).resolve()}"

    @pytest.mark.parametrize("kind", ["bubblewrap", "bubblewrap-watchdog", "podman"])
    def test_fork_bomb_stops_at_the_limit(self, kind: str, tmp_path: Path) -> None:
        source = """
count = 0
try:
    for _ in range(200):
        if os.fork() == 0:
            time.sleep(90); os._exit(0)
        count += 1
except BlockingIOError:
    pass
tell(count)
"""
        with made(kind, tmp_path) as sandbox:
            if os.getuid() != 0 and getattr(sandbox, "memory_limit", "") == "watchdog":
                pytest.skip("without root and cgroups the kernel counts all processes of the user")
            assert 30 < execute(sandbox, program(source, limits=Limits(wall_s=60, processes=60))).told() <= 60

    def test_fork_bomb_of_one_slot_leaves_the_other_alone(self, confined: Sandbox) -> None:
        source = """
count = 0
for _ in range(60):
    if os.fork() == 0:
        time.sleep(90); os._exit(0)
    count += 1
time.sleep(1); tell(count)
"""
        counts: list[int] = []
        run = program(source, limits=Limits(wall_s=60, processes=80))
        threads = [threading.Thread(target=lambda: counts.append(execute(confined, run).told())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts == [60, 60]

    def test_disk_fill_stops_at_the_limits(self, confined: Sandbox) -> None:
        source = """
def fill(folder):
    size, block = 0, bytes(1 << 20)
    try:
        with open(folder + "/fill", "wb", 0) as file:
            for _ in range(100): size += file.write(block)
    except OSError as error:
        return [size >> 20, error.errno]
    return [size >> 20, 0]
tell([fill(folder) for folder in ("/build", "/tmp", "/dev/shm")])
"""
        limits = Limits(wall_s=120, build_bytes=8 * MIB, tmp_bytes=4 * MIB, file_bytes=1 << 30)
        assert execute(confined, program(source, limits=limits)).told() == [[8, 28], [4, 28], [64, 28]]

    def test_neighbour_is_neither_seen_nor_reached(self, confined: Sandbox, token: str) -> None:
        holder = program("open('/build/mine', 'w').close(); open('/dev/shm/mine', 'w').close(); time.sleep(90)", token)
        cancelled = threading.Event()
        thread = threading.Thread(target=lambda: execute(confined, holder, cancelled))
        thread.start()
        assert wait_until(lambda: bool(processes_with(token)), SOON_S)
        source = """
pids = [pid for pid in range(3, 40) if pid != os.getpid() and outcome(lambda: os.kill(pid, 0)) == "succeeded"]
tell([os.listdir("/build"), os.listdir("/dev/shm"), pids])
"""
        seen = execute(confined, program(source)).told()
        cancelled.set()
        thread.join()
        assert seen == [[], [], []]


class TestCgroups:
    """Where a worker's cgroups go."""

    def test_own_folder_is_found_from_mounts_and_memberships(self) -> None:
        mounts = """\
30 20 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 20 0:27 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
32 20 0:28 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
33 20 0:29 / /proc rw - proc proc rw
"""
        memberships = "4:memory:/farm\n8:pids:/docker/abc/farm\n1:cpu,cpuacct:/\n0::/user.slice\n"
        found = [own_folder(kind, mounts=mounts, memberships=memberships) for kind in ("memory", "pids", "", "blkio")]
        folder = Path("/sys/fs/cgroup")
        assert found == [folder / "memory/farm", folder / "pids/farm", folder / "unified/user.slice", None]

    def test_version_2_goes_to_the_nearest_ancestor_that_hands_the_controllers_down(self, tmp_path: Path) -> None:
        service = tmp_path / "fs" / "farm.slice" / "farm.service"
        service.mkdir(parents=True)
        (service / "cgroup.subtree_control").write_text("")
        (service.parent / "cgroup.subtree_control").write_text("cpu memory pids")
        (service.parent / "wheelfarm-of-the-dead" / "run-0").mkdir(parents=True)
        (tmp_path / "mountinfo").write_text(f"30 20 0:26 / {tmp_path}/fs rw - cgroup2 cgroup2 rw\n")
        (tmp_path / "cgroup").write_text("0::/farm.slice/farm.service\n")
        cgroups = open_cgroups(tmp_path)
        assert cgroups is not None
        group = cgroups.make("run-0", LIMITS)
        assert group.folders[0].parent.parent == service.parent
        assert not (service.parent / "wheelfarm-of-the-dead").exists()
        group.remove()
        cgroups.remove()

    def test_cgroups_of_runs_are_removed(self, tmp_path: Path, token: str) -> None:
        others = set(child_pids(os.getpid()))
        with made("bubblewrap", tmp_path) as sandbox:
            if getattr(sandbox, "memory_limit", "") == "watchdog":
                pytest.skip("there are no rights to cgroups here")
            (spawner,) = set(child_pids(os.getpid())) - others

            def cgroups() -> list[Path]:
                return list(Path("/sys/fs/cgroup").glob(f"**/wheelfarm-{spawner}-*/run-*"))

            cancelled = threading.Event()
            thread = threading.Thread(target=lambda: execute(sandbox, program("time.sleep(90)", token), cancelled))
            thread.start()
            assert wait_until(lambda: bool(processes_with(token)), SOON_S)
            assert cgroups() != []
            cancelled.set()
            thread.join()
            assert cgroups() == []
        assert list(Path("/sys/fs/cgroup").glob(f"**/wheelfarm-{spawner}-*")) == []


class TestProbe:
    """Where it works and what it says where not."""

    def test_missing_bubblewrap_is_told_with_its_remedy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        sandbox = BubblewrapSandbox(1, tmp_path)
        try:
            with pytest.raises(SandboxUnavailable) as error:
                sandbox.probe()
        finally:
            sandbox.close()
        assert "bubblewrap is not installed" in error.value.message
        assert "apt-get install bubblewrap" in error.value.hint

    @pytest.mark.parametrize(
        ("log", "settings", "hint"),
        [
            ("bwrap: No permissions to create new namespace", {"user/max_user_namespaces": "0"}, "sysctl"),
            ("bwrap: No permissions to create new namespace", {"user/max_user_namespaces": "9"}, "seccomp=unconfined"),
            (
                "bwrap: setting up uid map: Permission denied",
                {"kernel/apparmor_restrict_unprivileged_userns": "1"},
                "bwrap-userns-restrict",
            ),
            ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", {}, "procMount Unmasked"),
            ("bwrap: Unknown option --disable-userns", {}, "0.8 or newer"),
        ],
    )
    def test_failure_is_explained_with_its_remedy(self, log: str, settings: dict[str, str], hint: str) -> None:
        error = diagnose(log, settings)
        assert log in error.message
        assert hint in error.hint

    @pytest.mark.skipif(os.getuid() != 0, reason="only root enters a chroot")
    def test_bubblewrap_works_in_a_chroot(self, tmp_path: Path) -> None:
        source = """
import os, sys
from pathlib import Path
from wheelfarm_workers.sandbox import linux, stage
from wheelfarm_workers.sandbox.bubblewrap import BubblewrapSandbox
stage.enter_private_namespace()
linux.mount("/", sys.argv[1], flags=linux.MS_BIND | linux.MS_REC)
os.chroot(sys.argv[1]); os.chdir("/")
sandbox = BubblewrapSandbox(1, Path("/tmp"))
sandbox.probe()
sandbox.close()
print("it works")
"""
        argv = [sys.executable, "-c", source, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=30)
        assert done.stdout == "it works\n", done.stderr
