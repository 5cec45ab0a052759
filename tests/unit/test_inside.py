"""The driver's script, by its path: it is no part of any package where it runs."""

import ast
import calendar
import gzip
import importlib.util
import io
import json
import marshal
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import Member, make_tar, make_zip, tar_file, tar_special
from wheelfarm_workers import driver

SCRIPT = Path(driver.__file__).with_name("inside.py")
TIME = 1_600_000_000


def load_script() -> Any:
    os.environ["WHEELFARM_RESULT_FD"] = "-1"
    spec = importlib.util.spec_from_file_location("inside", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


inside = load_script()


class Unpacking:
    """A folder to unpack archives into, beside what none of them may touch."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.outside = self.root / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(b"untouched")

    def unpack(self, data: bytes, *, zipped: bool = False) -> tuple[Path, int]:
        archive = self.root / "sdist"
        archive.write_bytes(data)
        filename = "app-1.0.zip" if zipped else "app-1.0.tar.gz"
        source, epoch = inside.unpack(str(archive), filename, str(self.root / "source"))
        return Path(source), epoch

    def refuse(self, data: bytes, reason: str | None = None, *, zipped: bool = False) -> None:
        with pytest.raises(inside.Refused, match=reason):
            self.unpack(data, zipped=zipped)
        assert {path.name for path in self.root.iterdir()} <= {"sdist", "source", "outside"}
        assert {path.name: path.read_bytes() for path in self.outside.iterdir()} == {"secret": b"untouched"}


@pytest.fixture
def unpacking(tmp_path: Path) -> Unpacking:
    return Unpacking(tmp_path)


def tar(*members: Member) -> bytes:
    return make_tar([tar_file("app-1.0/setup.py", b"setup"), *members])


def test_sdist_is_unpacked_into_its_top_folder(unpacking: Unpacking) -> None:
    source, epoch = unpacking.unpack(
        tar(
            tar_file("app-1.0/run", b"#!/bin/sh", mode=0o4775),
            tar_file("./app-1.0/src/app.py", b"code", mode=0o600),
            tar_special("app-1.0/empty", tarfile.DIRTYPE),
            tar_special("app-1.0/link", tarfile.SYMTYPE, "src/app.py"),
            tar_special("app-1.0/src/up", tarfile.SYMTYPE, ".."),
            tar_special("app-1.0/src/aside", tarfile.SYMTYPE, "../run"),
            tar_special("app-1.0/hard", tarfile.LNKTYPE, "app-1.0/src/app.py"),
        )
    )
    assert source.name == "app-1.0"
    assert epoch == TIME
    assert (source / "setup.py").read_bytes() == b"setup"
    assert (source / "link").read_bytes() == (source / "hard").read_bytes() == b"code"
    assert (source / "src" / "up" / "run").read_bytes() == (source / "src" / "aside").read_bytes() == b"#!/bin/sh"
    assert (source / "empty").is_dir()
    assert stat.S_IMODE((source / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE((source / "src" / "app.py").stat().st_mode) == 0o644


def test_zip_is_unpacked_with_its_executables(unpacking: Unpacking) -> None:
    files = {"app-1.0/": b"", "app-1.0/setup.py": b"setup", "app-1.0/run": b"#!/bin/sh"}
    data = make_zip(files, modes={"app-1.0/run": 0o100755, "app-1.0/": 0o40755})
    source, epoch = unpacking.unpack(data, zipped=True)
    assert (source / "setup.py").read_bytes() == b"setup"
    assert stat.S_IMODE((source / "run").stat().st_mode) == 0o755
    assert epoch == calendar.timegm((2020, 9, 13, 12, 26, 40))


def test_later_member_of_a_name_stands(unpacking: Unpacking) -> None:
    source, _ = unpacking.unpack(tar(tar_file("app-1.0/setup.py", b"later")))
    assert (source / "setup.py").read_bytes() == b"later"


@pytest.mark.parametrize(
    "path",
    ["../evil", "app-1.0/../../evil", "app-1.0/../../outside/secret", "..", "app-1.0/../..", "/tmp/evil", "//tmp/evil"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_member_whose_name_leads_out_is_refused(unpacking: Unpacking, path: str, zipped: bool) -> None:
    files = {"app-1.0/setup.py": b"", path: b"evil"}
    data = make_zip(files) if zipped else tar(tar_file(path, b"evil"))
    unpacking.refuse(data, "leads out of the archive", zipped=zipped)


def test_directory_whose_name_leads_out_is_refused(unpacking: Unpacking) -> None:
    unpacking.refuse(tar(tar_special("app-1.0/../../evil", tarfile.DIRTYPE)), "leads out")


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "/", "../..", "../../outside", "../../outside/secret", "src/../../../x"]
)
def test_symbolic_link_that_leads_out_is_refused(unpacking: Unpacking, target: str) -> None:
    unpacking.refuse(tar(tar_special("app-1.0/link", tarfile.SYMTYPE, target)), "leads out")


def test_hard_link_that_leads_out_is_refused(unpacking: Unpacking) -> None:
    for target in ("../outside/secret", "/etc/passwd", "app-1.0/../../outside/secret"):
        unpacking.refuse(tar(tar_special("app-1.0/hard", tarfile.LNKTYPE, target)), "leads out")
        shutil.rmtree(unpacking.root / "source")


def test_links_that_lead_out_only_together_cannot_be_written_through(unpacking: Unpacking) -> None:
    """`a` stays inside for as long as there is no `b`; with `b` it leads to what stands beside the folder."""
    members = [
        tar_special("app-1.0/a", tarfile.SYMTYPE, "b/../../outside"),
        tar_special("app-1.0/b", tarfile.SYMTYPE, "."),
    ]
    unpacking.refuse(tar(*members, tar_file("app-1.0/a/secret", b"evil")), "leads out")


def test_file_in_a_links_place_replaces_the_link(unpacking: Unpacking) -> None:
    members = [tar_special("app-1.0/link", tarfile.SYMTYPE, "setup.py"), tar_file("app-1.0/link", b"own")]
    source, _ = unpacking.unpack(tar(*members))
    assert (source / "link").read_bytes() == b"own"
    assert not (source / "link").is_symlink()
    assert (source / "setup.py").read_bytes() == b"setup"


def test_file_in_a_hard_links_place_leaves_the_other_name_alone(unpacking: Unpacking) -> None:
    members = [tar_special("app-1.0/hard", tarfile.LNKTYPE, "app-1.0/setup.py"), tar_file("app-1.0/hard", b"own")]
    source, _ = unpacking.unpack(tar(*members))
    assert (source / "setup.py").read_bytes() == b"setup"


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_device_or_fifo_is_refused(unpacking: Unpacking, kind: bytes) -> None:
    unpacking.refuse(tar(tar_special("app-1.0/dev", kind)), "special file")


@pytest.mark.parametrize(
    "extra", [tar_file("other/setup.py"), tar_file("README"), tar_special("app-1.0/../aside", tarfile.DIRTYPE)]
)
def test_several_entries_at_the_top_are_refused(unpacking: Unpacking, extra: Member) -> None:
    unpacking.refuse(tar(extra), "at its top, but 2 entries")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("project", ["setup.py", "pyproject.toml"])
def test_flat_archive_is_its_own_source_tree(unpacking: Unpacking, zipped: bool, project: str) -> None:
    files = {project: b"", "README": b"", "app/__init__.py": b""}
    data = make_zip(files) if zipped else make_tar([tar_file(path, data) for path, data in files.items()])
    source, _ = unpacking.unpack(data, zipped=zipped)
    assert sorted(path.name for path in source.iterdir()) == sorted(["README", "app", project])


@pytest.mark.parametrize("leftover", ["._app-1.0", ".DS_Store", "__MACOSX/._app-1.0", "pax_global_header"])
def test_what_macos_leaves_beside_the_folder_is_not_counted(unpacking: Unpacking, leftover: str) -> None:
    source, _ = unpacking.unpack(tar(tar_file(leftover, b"")))
    assert source.name == "app-1.0"


@pytest.mark.parametrize(
    ("data", "zipped"),
    [
        (b"", False),
        (b"", True),
        (b"not an archive", False),
        (b"not an archive", True),
        (gzip.compress(b"not a tar archive" * 100, mtime=0), False),
        (make_tar([]), False),
        (make_tar([tar_file("app-1.0", b"a file")]), False),
        (make_zip({}), True),
        (tar(tar_file("app-1.0/setup.py/below", b"")), False),
        (tar(tar_special("app-1.0/hard", tarfile.LNKTYPE, "app-1.0/absent")), False),
    ],
)
def test_what_is_no_sdist_is_refused(unpacking: Unpacking, data: bytes, zipped: bool) -> None:
    unpacking.refuse(data, zipped=zipped)


def test_archive_that_is_cut_off_is_refused(unpacking: Unpacking) -> None:
    unpacking.refuse(tar(tar_file("app-1.0/big", os.urandom(100_000)))[:-50_000])


@pytest.mark.parametrize(
    ("mtime", "epoch"),
    [
        (TIME + 5.75, TIME + 5),
        (0, inside.OLDEST_ZIP_TIME),
        (-1e12, inside.OLDEST_ZIP_TIME),
        (1e15, inside.NEWEST_ZIP_TIME),
        (float("inf"), inside.NEWEST_ZIP_TIME),
        (float("nan"), inside.OLDEST_ZIP_TIME),
    ],
)
def test_epoch_is_the_newest_time_that_a_zip_can_state(unpacking: Unpacking, mtime: float, epoch: int) -> None:
    info, data = tar_file("app-1.0/setup.py", b"")
    info.pax_headers = {"mtime": str(mtime)}
    assert unpacking.unpack(make_tar([(info, data)]))[1] == epoch


def test_limits_of_the_epoch_can_be_stated_in_zips() -> None:
    for epoch in (inside.OLDEST_ZIP_TIME, inside.NEWEST_ZIP_TIME):
        year, month, day, hour, minute, second = time.gmtime(epoch)[:6]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(zipfile.ZipInfo("x", (year, month, day, hour, minute, second)), b"")
        with zipfile.ZipFile(packed) as archive:
            assert calendar.timegm((*archive.infolist()[0].date_time, 0, 0, 0)) == epoch


def test_zip_without_a_date_is_unpacked(unpacking: Unpacking) -> None:
    data = bytearray(make_zip({"app-1.0/setup.py": b""}))
    at = data.index(b"PK\x01\x02")
    data[10:14] = data[at + 12 : at + 16] = b"\0\0\0\0"
    assert unpacking.unpack(bytes(data), zipped=True)[1] == inside.OLDEST_ZIP_TIME


def judged(folder: Path, *asked: str) -> dict[str, list[str]]:
    """What the driver finds required and missing, asked in an interpreter of its own."""
    code = (
        "import importlib.util, json, sys\n"
        f"spec = importlib.util.spec_from_file_location('inside', {str(SCRIPT)!r})\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print(json.dumps(dict(zip(['required', 'missing'], module.missing_requirements(json.loads(sys.argv[1]))))))\n"
    )
    environment = {"WHEELFARM_RESULT_FD": "-1", "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code, json.dumps(asked)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment with tool 1.5, whose extras need parts that are there, that are too old, or that are not."""
    fields = {
        "tool-1.5": [
            "Requires-Dist: absent",
            'Requires-Dist: part>=2 ; extra == "good"',
            'Requires-Dist: part>=9 ; extra == "old"',
            'Requires-Dist: gone ; extra == "bad"',
            'Requires-Dist: tool[good,all] ; extra == "all"',
            'Requires-Dist: gone ; extra == "nt" and os_name == "nt"',
        ],
        "part-2.0": [],
        "pre-3.0rc1": [],
    }
    for stem, lines in fields.items():
        name, version = stem.split("-")
        info = tmp_path / f"{stem}.dist-info"
        info.mkdir()
        text = "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines])
        (info / "METADATA").write_text(text + "\n")
    return tmp_path


MET: list[str] = ["tool", "Tool>=1", "tool==1.5", "pre>=3.0rc1", "tool[good]", "tool[all]", "tool[nt]", "tool[unknown]"]
MISSING = ["gone", "tool>=2", "tool[old]", "tool[bad]", "tool[good,bad]", "part<2"]


def test_requirements_that_the_environment_meets_are_not_missing(environment: Path) -> None:
    found = judged(environment, *MET)
    assert found["missing"] == []
    assert len(found["required"]) == len(MET)


def test_requirements_that_it_does_not_meet_are(environment: Path) -> None:
    found = judged(environment, *MISSING, "tool")
    assert {requirement.replace("bad,good", "good,bad") for requirement in found["missing"]} == set(MISSING)


def test_direct_reference_is_always_missing(environment: Path) -> None:
    assert judged(environment, "tool @ https://example.org/tool.whl")["missing"] != []


def test_requirement_that_does_not_apply_here_is_not_required(environment: Path) -> None:
    found = judged(environment, "gone; os_name == 'nt'", "gone; extra == 'x'", "tool; os_name == 'posix'")
    assert found == {"required": ["tool"], "missing": []}


def test_sources_are_compiled_as_where_they_will_be_shown_and_what_cannot_be_is_passed_over(tmp_path: Path) -> None:
    for name, text in (("good", "import sys\n"), ("bad", "def\n"), ("other", "x = 1\n")):
        (tmp_path / f"{name}.py").write_text(text)
    inside.compile_sources(inside.python_sources(str(tmp_path), str(tmp_path), "/env/lib"), 2)
    compiled = {path.name.partition(".")[0]: path.read_bytes() for path in tmp_path.glob("__pycache__/*.pyc")}
    assert set(compiled) == {"good", "other"}
    for name, data in compiled.items():
        assert int.from_bytes(data[4:8], "little") == 1  # by hash, and never checked (PEP 552)
        code = marshal.loads(data[16:])  # noqa: S302  (compiled here)
        assert code.co_filename == f"/env/lib/{name}.py"


@pytest.fixture
def imported() -> Iterator[None]:
    """Whatever is imported meanwhile is forgotten again."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


@pytest.mark.usefixtures("imported")
def test_backend_in_the_tree_is_imported_from_there_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("source/tools", "environment"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "environment" / "farm_backend.py").write_text("where = 'environment'\n")
    monkeypatch.syspath_prepend(tmp_path / "environment")
    build_system = {"backend": "farm_backend:api", "backend_path": ["tools"]}
    inside.preload(str(tmp_path / "source"), build_system)
    assert "farm_backend" not in sys.modules

    text = "import os, sys\nwhere = os.getcwd()\nsys.path.append('/added')\n"
    (tmp_path / "source" / "tools" / "farm_backend.py").write_text(text)
    inside.preload(str(tmp_path / "source"), build_system)
    assert sys.modules["farm_backend"].where == str(tmp_path / "source")
    assert "/added" in sys.path
    assert str(tmp_path / "source" / "tools") not in sys.path


def test_script_is_understood_by_every_python_from_3_8_on() -> None:
    assert ast.parse(SCRIPT.read_text(), feature_version=(3, 8)).body


def test_scripts_find_their_environment_by_path_and_folders_among_them_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "tool").write_bytes(b"#!/env/bin/python\nprint()\n")
    (tmp_path / "other").write_bytes(b"#!/bin/sh\n")
    inside.relocate_scripts(str(tmp_path))
    assert (tmp_path / "tool").read_bytes() == b"#!/usr/bin/env python\nprint()\n"
    assert (tmp_path / "other").read_bytes() == b"#!/bin/sh\n"
