"""Every kind of sdist that the farm is shown: how each is made, and what is to become of it."""

import io
import lzma
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.archives import make_tar, make_zip, tar_file, tar_special
from tests.support.projects import MTIME, Project, make_tar_gz

SDISTS = Path(__file__).parents[1] / "sdists"
ANSWER = "def answer():\n    return 42\n"
Files = Mapping[str, bytes]
Pack = Callable[[str, Files], bytes]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One trait of sdists. `what` and `note` are its row in docs/sdists.md; `code` is the exit code, 0 for built.

    A source tree of its name under `tests/sdists` has a module of the same name whose `answer()` is 42; where there is
    none, a tiny project with a backend in its own tree stands in, changed as `changes` says.
    """

    name: str
    what: str
    note: str = ""
    code: int = 0
    said: str = ""
    """Part of the message of a kind that is refused."""
    version: str = "1.0"
    filename: str = ""
    pack: Pack = field(default_factory=lambda: packed)
    changes: Mapping[str, bytes] = field(default_factory=dict)
    index: bool = False
    slow: bool = False
    python: str = ""
    """The interpreter to build for, such as "python3.12"; the tests' own where it is ""."""
    without: str = ""
    """A program whose presence on the system's PATH would change the result."""
    within: str = ""
    """A program that the system must have."""

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def sdist_name(self) -> str:
        return self.filename or f"{self.module}-{self.version}.tar.gz"

    def sdist(self) -> bytes:
        """Its sdist, the same bytes each time."""
        top = self.sdist_name.removesuffix(".tar.gz").removesuffix(".zip")
        return self.pack(top, {**self._files(), **self.changes})

    def is_shown_here(self) -> bool:
        """Whether this machine has, and lacks, what the kind supposes."""
        system = "/usr/local/bin:/usr/bin:/bin"
        if self.within and shutil.which(self.within, path=system) is None:
            return False
        return not (self.without and shutil.which(self.without, path=system))

    def _files(self) -> Files:
        tree = SDISTS / self.name
        if tree.is_dir():
            paths = sorted(path for path in tree.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
            return {path.relative_to(tree).as_posix(): path.read_bytes() for path in paths}
        return Project(name=self.name, version=self.version, modules={f"{self.module}.py": ANSWER}).files()


HELPER = Project(name="kind-helper", modules={"kind_helper.py": ANSWER})
"""What some kinds need to be built or to run."""


def packed(top: str, files: Files) -> bytes:
    return make_tar_gz({f"{top}/{path}": data for path, data in files.items()})


def zipped(top: str, files: Files) -> bytes:
    return make_zip({f"{top}/{path}": data for path, data in files.items()})


def flat(_: str, files: Files) -> bytes:
    return make_tar_gz(files)


def flat_zip(_: str, files: Files) -> bytes:
    return make_zip(files)


def named(top: str) -> Pack:
    """Packed in a folder of that name, whatever the file is called."""
    return lambda _, files: packed(top, files)


def beside(**others: bytes) -> Pack:
    """Packed with other entries at the top."""
    return lambda top, files: make_tar_gz({**{f"{top}/{path}": data for path, data in files.items()}, **others})


def in_other_tar(compress: Callable[[bytes], bytes]) -> Pack:
    """A tar archive compressed otherwise than its name says."""

    def pack(top: str, files: Files) -> bytes:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path, data in files.items():
                info = tarfile.TarInfo(f"{top}/{path}")
                info.size, info.mtime = len(data), MTIME
                tar.addfile(info, io.BytesIO(data))
        return compress(packed.getvalue())

    return pack


def dated(mtime: float) -> Pack:
    return lambda top, files: make_tar([tar_file(f"{top}/{path}", data, mtime=mtime) for path, data in files.items()])


def linked(top: str, files: Files) -> bytes:
    """With symbolic and hard links inside the tree, as git checkouts have them; the backend goes by one of them."""
    members = [tar_file(f"{top}/{path}", data) for path, data in files.items() if path != "backend.py"]
    return make_tar(
        [
            *members,
            tar_file(f"{top}/tools/real.py", files["backend.py"]),
            tar_special(f"{top}/tools/hard.py", tarfile.LNKTYPE, f"{top}/tools/real.py"),
            tar_special(f"{top}/backend.py", tarfile.SYMTYPE, "tools/hard.py"),
        ]
    )


def in_latin_1(top: str, files: Files) -> bytes:
    """With a file name that is not UTF-8."""
    packed = [tar_file(f"{top}/{path}", data) for path, data in files.items()]
    return make_tar([*packed, tar_file(f"{top}/t\udce9st.txt", b"")], format_=tarfile.GNU_FORMAT)


def with_special(path: str, kind: bytes, target: str = "") -> Pack:
    """With a link or a device in the place of one of the files."""

    def pack(top: str, files: Files) -> bytes:
        members = [tar_file(f"{top}/{name}", data) for name, data in files.items() if name != path]
        return make_tar([*members, tar_special(f"{top}/{path}", kind, target and f"{top}/{target}")])

    return pack


def with_second(path: str, data: bytes) -> Pack:
    """With a second member of the same name, which is what is left when the archive is unpacked."""

    def pack(top: str, files: Files) -> bytes:
        return make_tar([*(tar_file(f"{top}/{name}", text) for name, text in files.items()), tar_file(path, data)])

    return pack


PKG_INFO = "Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"

ARCHIVES = (
    Kind(name="kind-zip", what="zip archive", filename="kind_zip-1.0.zip", pack=zipped),
    Kind(
        name="kind-dots", what="file name not normalised", note="`Kind.Dots-1.0.tar.gz`",
        filename="Kind.Dots-1.0.tar.gz",
    ),
    Kind(
        name="kind-hyphens", what="file name with hyphens in name and version",
        note="`Kind-Hyphens-1.0-beta1.tar.gz` is 1.0b1", version="1.0b1", filename="Kind-Hyphens-1.0-beta1.tar.gz",
    ),
    Kind(name="kind-folder", what="top folder named otherwise", pack=named("kind-folder-of-old")),
    Kind(
        name="kind-spelling", what="version spelled otherwise inside",
        note="1.0.0 for 1.0, in PKG-INFO and in the wheel",
        changes={
            **Project(name="kind-spelling", wheel_version="1.0.0", modules={"kind_spelling.py": ANSWER}).files(),
            "PKG-INFO": PKG_INFO.format(name="Kind_Spelling", version="1.0.0").encode(),
        },
    ),
    Kind(name="kind-flat", what="no top folder", note="as pip and uv accept it", pack=flat),
    Kind(name="kind-flat-zip", what="no top folder, zip", filename="kind_flat_zip-1.0.zip", pack=flat_zip),
    Kind(
        name="kind-macos", what="what macOS leaves beside the top folder", note="pip and uv fail on it",
        pack=beside(**{"._kind_macos-1.0": b"\0", ".DS_Store": b"\0", "__MACOSX/._kind_macos-1.0": b"\0"}),
    ),
    Kind(name="kind-links", what="symbolic and hard links within the tree", pack=linked),
    Kind(name="kind-latin", what="file names that are not UTF-8", pack=in_latin_1),
    Kind(name="kind-1970", what="files dated 1970", note="zip archives begin with 1980", pack=dated(0)),
    Kind(name="kind-2200", what="files dated 2200", note="zip archives end with 2107", pack=dated(7_258_118_400)),
    Kind(name="kind-in-tree", what="backend in its own tree (`backend-path`)"),
    Kind(
        name="kind-asks", what="requirements that a hook asks for (`get_requires_for_build_wheel`)",
        changes=Project(
            name="kind-asks", asks=["kind-helper"], build_code="import kind_helper; assert kind_helper.answer() == 42",
            modules={"kind_asks.py": ANSWER},
        ).files(),
    ),
    Kind(
        name="kind-dynamic", what="metadata that only the backend can tell", note="the wheel's own is taken",
        changes=Project(
            name="kind-dynamic", static=False, requires_dist=["kind-helper"], modules={"kind_dynamic.py": ANSWER}
        ).files(),
    ),
    Kind(
        name="kind-other", what="PKG-INFO of another project", code=15, said="its PKG-INFO is about 'other'",
        changes={"PKG-INFO": PKG_INFO.format(name="other", version="1.0").encode()},
    ),
    Kind(
        name="kind-other-version", what="PKG-INFO of another version", code=15, said="its PKG-INFO is about",
        changes={"PKG-INFO": PKG_INFO.format(name="kind-other-version", version="1.1").encode()},
    ),
    Kind(
        name="kind-two", what="two folders at the top", note="pip and uv fail on it", code=15,
        said="neither one folder nor a project", pack=beside(**{"second/README": b""}),
    ),
    Kind(
        name="kind-twice", what="two different pyproject.toml of one path", code=15,
        said="its pyproject.toml reads differently", pack=with_second("kind_twice-1.0/pyproject.toml", b""),
    ),
    Kind(
        name="kind-linked", what="pyproject.toml that is a link", code=15, said="its pyproject.toml is a link",
        pack=with_special("pyproject.toml", tarfile.SYMTYPE, "tiny.json"),
    ),
    Kind(
        name="kind-bomb", what="pyproject.toml of 64 MiB", code=15, said="its pyproject.toml is larger",
        changes={"pyproject.toml": b"#" * (64 << 20)},
    ),
    Kind(
        name="kind-broken", what="pyproject.toml that is not TOML", code=15, said="its pyproject.toml can't be parsed",
        changes={"pyproject.toml": b"[build-system"},
    ),
    Kind(
        name="kind-no-requires", what="`[build-system]` without `requires`", note="PEP 518 demands it", code=15,
        said="no list of requirements", changes={"pyproject.toml": b"[build-system]\nbuild-backend = 'backend'\n"},
    ),
    Kind(
        name="kind-outside", what="`backend-path` that leads out of the tree", code=15, said="leads out",
        changes={"pyproject.toml": b"[build-system]\nrequires = []\nbuild-backend = 'x'\nbackend-path = ['..']\n"},
    ),
    Kind(
        name="kind-device", what="a device or a named pipe in the archive", code=15, said="special file",
        pack=with_special("pipe", tarfile.FIFOTYPE),
    ),
    Kind(name="kind-tar", what="tar archive that is not compressed, named .tar.gz", code=15, said="gzip",
         pack=in_other_tar(bytes)),
    Kind(name="kind-xz", what="tar archive compressed with xz, named .tar.gz", code=15, said="gzip",
         pack=in_other_tar(lzma.compress)),
    Kind(
        name="kind-bz2", what="`.tar.bz2`, `.tar.xz`, `.tgz`", note="no sdists since PEP 527", code=12,
        said="no sdist of", filename="kind_bz2-1.0.tar.bz2",
    ),
)  # fmt: skip

SETUPTOOLS = (
    Kind(name="legacy-setup", what="`setup.py` alone, no pyproject.toml", note="setuptools, as PEP 517 has it"),
    Kind(name="no-pkg-info", what="`setup.py` alone, without PKG-INFO"),
    Kind(name="empty-pyproject", what="empty pyproject.toml beside `setup.py`"),
    Kind(name="no-backend-named", what="`requires` without `build-backend`", note="setuptools' legacy backend"),
    Kind(name="setup-cfg-only", what="`setup.cfg` alone"),
    Kind(name="setup-requires", what="`setup_requires` in `setup.py`", note="asked of the hook, built, and there"),
    Kind(name="dynamic-metadata", what="`install_requires` computed in `setup.py`"),
    Kind(name="attr-version", what="version from a module's attribute"),
    Kind(name="wrapped-setuptools", what="setuptools wrapped by a backend in the tree, which asks for more"),
    Kind(name="scm-pkg-info", what="setuptools-scm without git, with PKG-INFO"),
    Kind(name="scm-bare", what="setuptools-scm without git and PKG-INFO", note="told the version of the file name"),
    Kind(name="uses-hatch-vcs", what="hatch-vcs without git and PKG-INFO", note="told the version of the file name"),
    Kind(name="uses-pbr", what="pbr, with PKG-INFO"),
    Kind(name="pbr-bare", what="pbr without git and PKG-INFO", note="told the version of the file name"),
    Kind(name="setup-distutils", what="`setup.py` that imports distutils"),
    Kind(name="setup-distutils-312", what="`setup.py` that imports distutils, on Python 3.12",
         note="setuptools stands in for it", python="python3.12"),
    Kind(name="old-setuptools", what='old setuptools (`"setuptools<60"`)', note="the newest that is allowed"),
    Kind(name="setuptools-59", what='old setuptools, pinned (`"setuptools==59.*"`)'),
    Kind(name="license-table", what='`license = {text = "MIT"}`'),
    Kind(name="license-file-table", what='`license = {file = "LICENSE"}`'),
    Kind(name="license-expression", what='`license = "MIT"` and `license-files` (PEP 639)'),
    Kind(name="license-setup-py", what="`license`, `license_files` and a classifier in `setup.py`"),
    Kind(name="license-both", what="an SPDX expression and a license classifier", note="refused by setuptools",
         code=20, said="License classifiers"),
    Kind(name="c-extension", what="C extension", note="needs a C compiler and Python's headers"),
    Kind(name="imports-wheel", what="`setup.py` that imports wheel without asking for it", note="setuptools brings it"),
    Kind(name="undeclared-requirement", what="`setup.py` that imports what it does not ask for",
         note="needs a recipe", code=20, said="No module named 'kind_helper'"),
    Kind(name="missing-header", what="C extension without a header it needs", code=20,
         said="a_library_that_nobody_has.h"),
    Kind(name="wants-network", what="`setup.py` that downloads", note="there is no network", code=20, said="URLError"),
    Kind(name="no-project", what="neither pyproject.toml nor `setup.py`",
         note="setuptools makes `unknown-0.0.0`", code=23, said="unknown 0.0.0"),
)  # fmt: skip

BACKENDS = (
    Kind(name="uses-flit", what="flit-core"),
    Kind(name="uses-hatchling", what="hatchling"),
    Kind(name="uses-pdm", what="pdm-backend"),
    Kind(name="uses-poetry", what="poetry-core, with `[project]`"),
    Kind(name="poetry-table", what="poetry-core, with `[tool.poetry]`"),
    Kind(name="uses-meson", what="meson-python, C", note="needs ninja and patchelf", within="patchelf"),
    Kind(name="uses-scikit-build-core", what="scikit-build-core, C", note="needs cmake and ninja", within="cmake"),
    Kind(name="uses-cython", what="Cython", note="Cython itself takes a minute or two, once", slow=True),
    Kind(name="uses-setuptools-rust", what="setuptools-rust", note="needs cargo in the target", code=20, said="Rust",
         without="cargo"),
    Kind(name="pdm-scm-bare", what="pdm-backend, version from git, without git and PKG-INFO",
         note="told the version of the file name"),
    Kind(name="uses-uv-build", what="uv_build, maturin", note="need cargo, and crates from the network", code=20,
         said="Rust", without="cargo"),
)  # fmt: skip

KINDS = {
    "Archives": ARCHIVES,
    "setuptools": tuple(replace(kind, index=True) for kind in SETUPTOOLS),
    "Other build systems": tuple(replace(kind, index=True) for kind in BACKENDS),
}
"""Every kind, under the headings of the tables in docs/sdists.md."""
