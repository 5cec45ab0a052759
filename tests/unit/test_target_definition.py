import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.values import make_target
from wheelfarm.errors import InputError
from wheelfarm.recipe import RecipeLimits
from wheelfarm.target import Target
from wheelfarm.target_definition import TargetDefinition, parse_definition, read_definitions, unknown_target
from wheelfarm_services import layout
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.targets import define
from wheelfarm_workers.machines import require_runnable
from wheelfarm_workers.roots import Roots

WHOLE = TargetDefinition(
    name="debian12",
    made_from="debootstrap:bookworm",
    root="a" * 64,
    python="/usr/bin/python3.11",
    tag_policy="portable",
    variant="avx2",
    environment={"CFLAGS": '-O2 -D"x"'},
    system_packages=("libyaml-dev", "g++"),
    external_libraries=("libcuda.so.1",),
    limits=RecipeLimits(timeout_s=60, cores=2),
    resource_class="large",
    interpreter={"version": "3.11.2", "abi": "cp311", "platform": "linux-x86_64", "prefix": "/usr"},
)


def no_host(python: str) -> Target:
    raise AssertionError(python)


def test_a_definition_reads_as_it_was_written() -> None:
    assert parse_definition(WHOLE.to_toml(), name="debian12", origin="file") == WHOLE


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ('colour = "red"', "unknown key 'colour'"),
        ('root = "sha256:123"', "'root' is not accepted: sha256: and 64 hex digits"),
        ('sandbox = "none"', "'sandbox' is not accepted: bubblewrap or podman or docker is expected"),
        ('tag-policy = "manylinux"', "'tag-policy' is not accepted: native or portable"),
        ('variant = "Ävx"', "'variant' is not accepted"),
        ('environment = { PATH = "/" }', "the variable 'PATH' is the farm's own"),
        ('system-packages = ["libyaml-dev; rm -rf /"]', "'system-packages' is not accepted"),
        ('system-packages = ["--force"]', "'system-packages' is not accepted"),
        ("limits = { timeout-h = 1 }", "unknown key 'timeout-h'"),
        ('interpreter = { version = "3.11.2" }', "there is no 'root'"),
        (f'root = "sha256:{"a" * 64}"', "'version' is not accepted: '' is none"),
        ("python = 3", "'python' is not accepted: a string is expected"),
    ],
)
def test_what_nobody_knows_and_what_is_malformed_is_refused_by_name(lines: str, reason: str) -> None:
    text = lines if lines.startswith("python") else f'python = "/usr/bin/python3"\n{lines}'
    with pytest.raises(InputError) as error:
        parse_definition(text, name="mine", origin="mine.toml")
    assert reason in error.value.message
    assert "mine.toml" in error.value.message


@pytest.mark.parametrize("name", ["host", "host-cp311-12345678", "Debian", "../x", ""])
def test_names_of_the_farms_own_targets_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="can't be the name of a target"):
        parse_definition("", name=name, origin="file")


def test_the_root_filesystem_is_part_of_the_revision() -> None:
    other = replace(WHOLE, root="b" * 64)
    assert WHOLE.target(no_host).revision != other.target(no_host).revision
    assert WHOLE.target(no_host) == replace(
        other.target(no_host), revision=WHOLE.target(no_host).revision, root="a" * 64
    )


def test_an_unknown_target_is_refused_with_what_is_near_or_known() -> None:
    assert "Near: debian12, debian11." in unknown_target("debian13", ["debian12", "debian11", "rhel"], "X").message
    assert "Known: debian12, rhel." in unknown_target("zz", ["rhel", "debian12"], "X").message
    assert "None is known." in unknown_target("zz", [], "X").message


def test_a_folder_that_is_not_there_defines_nothing(tmp_path: Path) -> None:
    assert read_definitions(tmp_path / "absent") == {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"tag_policy": "portable"}, r"tag policy portable \(not native\)"),
        ({"variant": "avx2"}, r"variant avx2 \(not none\)"),
        ({"abi": "cp312"}, r"ABI cp312 \(not cp311\)"),
    ],
)
def test_wheels_of_another_kind_never_come_to_an_index(tmp_path: Path, change: dict[str, str], told: str) -> None:
    store = DirectoryStore.create(tmp_path)
    define(store, make_target("debian12"))
    define(store, replace(make_target("debian12"), revision="f" * 64))
    with pytest.raises(InputError, match=told):
        define(store, replace(make_target("debian12"), revision="d" * 64, **change))


def test_targets_of_earlier_farms_are_native_and_of_this_machine(tmp_path: Path) -> None:
    later = ("root", "tag_policy", "variant")
    value = {name: text for name, text in make_target().to_json().items() if name not in later}
    assert Target.from_json(json.loads(json.dumps(value))) == make_target()
    assert layout.target_definitions("x") == "targets/x/"


class TestRoots:
    """Archives of root filesystems."""

    def test_a_kept_tree_is_unpacked_without_what_sandboxes_have_of_their_own(self, tmp_path: Path) -> None:
        tree = tmp_path / "tree"
        for name in ("usr/bin", "usr/share/doc", "dev", "proc"):
            (tree / name).mkdir(parents=True)
            (tree / name / "file").write_text(name)
        (tree / "bin").symlink_to("usr/bin")
        roots = Roots(tmp_path / "targets", tmp_path / "cache")
        sha256 = roots.keep(tree)
        root = roots.root(sha256)
        assert (root.folder / "bin" / "file").read_text() == "usr/bin"
        assert [path for path in ("usr/share/doc", "dev", "proc") if list((root.folder / path).iterdir())] == []
        assert Roots(tmp_path / "targets", tmp_path / "other").root(sha256).sha256 == sha256

    def test_an_archive_that_is_gone_or_changed_is_told_with_the_remedy(self, tmp_path: Path) -> None:
        (tmp_path / "tree").mkdir()
        roots = Roots(tmp_path / "targets", tmp_path / "cache")
        sha256 = roots.keep(tmp_path / "tree")
        roots.archive(sha256).write_bytes(b"other")
        with pytest.raises(InputError, match="is not the root filesystem that the target was defined with"):
            roots.root(sha256)
        roots.archive(sha256).unlink()
        with pytest.raises(InputError, match=f"sha256:{sha256} is gone") as error:
            roots.root(sha256)
        assert "wheelfarm target add" in error.value.hint


def test_another_architecture_without_binfmt_is_refused_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="no binfmt handler qemu-s390x") as error:
        require_runnable("s390x", tmp_path)
    assert "apt-get install qemu-user-static binfmt-support" in str(getattr(error.value, "hint", ""))
    (tmp_path / "qemu-s390x").write_text("enabled\ninterpreter /usr/bin/qemu-s390x-static\n")
    require_runnable("s390x", tmp_path)
