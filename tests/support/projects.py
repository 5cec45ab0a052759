"""Tiny projects, made on the spot: an sdist with a build backend of a few lines in its tree, one trait each."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MTIME = 1_600_000_000

BACKEND = """
import base64, hashlib, io, json, os, zipfile

with open("tiny.json") as file:
    TINY = json.load(file)

def get_requires_for_build_wheel(config_settings=None):
    return TINY["asks"]

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    stem = "%s-%s" % (TINY["wheel_name"].replace("-", "_"), TINY["wheel_version"])
    info = stem + ".dist-info"
    metadata = "Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n" % (TINY["wheel_name"], TINY["wheel_version"])
    metadata += "".join("Provides-Extra: %s\\n" % extra for extra in TINY["extras"])
    metadata += "".join("Requires-Dist: %s\\n" % requirement for requirement in TINY["requires_dist"])
    metadata += "Requires-Python: %s\\n" % TINY["requires_python"] if TINY["requires_python"] else ""
    files = {path: text.encode() for path, text in TINY["modules"].items()}
    tag = compiled(files) if TINY["extension"] else platform_tag() if TINY["platform_tag"] else "py3-none-any"
    files[info + "/METADATA"] = metadata.encode()
    told = "Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: %s\\nTag: %s\\n"
    files[info + "/WHEEL"] = (told % ("true" if tag.endswith("any") else "false", tag)).encode()
    record = ""
    for path, data in sorted(files.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        record += "%s,sha256=%s,%d\\n" % (path, digest, len(data))
    files[info + "/RECORD"] = (record + info + "/RECORD,,\\n").encode()
    name = stem + "-" + tag + ".whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as wheel:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, (2020, 9, 13, 12, 26, 40))
            entry.external_attr = 0o100755 << 16 if ".data/scripts/" in path else 0
            wheel.writestr(entry, data)
    return name

def compiled(files):
    import shlex, subprocess, sys, sysconfig

    module = TINY["wheel_name"].replace("-", "_") + "_c"
    name = module + sysconfig.get_config_var("EXT_SUFFIX")
    with open(module + ".c", "w") as file:
        file.write(TINY["extension"])
    flags = shlex.split(os.environ.get("CFLAGS", "")) + ["-shared", "-fPIC", "-I" + sysconfig.get_path("include")]
    subprocess.check_call(["gcc"] + flags + [module + ".c", "-o", name] + TINY["extension_flags"])
    with open(name, "rb") as file:
        files[name] = file.read()
    return platform_tag()

def platform_tag():
    import sys, sysconfig

    python = "cp%d%d" % sys.version_info[:2]
    abi = "abi3" if TINY["abi3"] else python
    return "-".join([python, abi, sysconfig.get_platform().replace("-", "_")])

def build_sdist(sdist_directory, config_settings=None):
    import tarfile

    stem = "%s-%s" % (TINY["wheel_name"].replace("-", "_"), TINY["wheel_version"])
    with tarfile.open(os.path.join(sdist_directory, stem + ".tar.gz"), "w:gz") as sdist:
        info = tarfile.TarInfo(stem + "/PKG-INFO")
        info.size = len(TINY["pkg_info"])
        sdist.addfile(info, io.BytesIO(TINY["pkg_info"].encode()))
        for name in sorted(os.listdir(".")):
            sdist.add(name, stem + "/" + name)
    return stem + ".tar.gz"
"""


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project to make an sdist of. `code` is run when its backend is imported, `build_code` when it builds."""

    name: str
    version: str = "1.0"
    requires_dist: Sequence[str] = ()
    extras: Sequence[str] = ()
    requires_python: str = ""
    build_requires: Sequence[str] = ()
    backend: str = ""
    """A module of a build requirement to build with; "" for the one in the tree."""
    asks: Sequence[str] = ()
    static: bool = True
    """Whether PKG-INFO states its metadata for good (PEP 643)."""
    code: str = ""
    build_code: str = ""
    wheel_tells: Mapping[str, object] = field(default_factory=dict)
    """What its wheel's METADATA has in place of the sdist's `requires_dist`, `extras` or `requires_python`."""
    wheel_name: str = ""
    wheel_version: str = ""
    modules: Mapping[str, str] = field(default_factory=dict)
    extension: str = ""
    """The C source of an extension module named like the project with `_c`; its CFLAGS are the environment's."""
    abi3: bool = False
    """Whether its extension is tagged as one of the limited API."""
    platform_tag: bool = False
    """Whether its wheel is tagged for its platform without an extension."""
    extension_flags: Sequence[str] = ()
    """What follows its source on the compiler's command line."""
    uploaded: str = ""
    """When its sdist was uploaded (ISO 8601), where the index tells."""

    yanked: str = ""
    """Why its sdist was yanked, where it was."""

    @property
    def filename(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}.tar.gz"

    def files(self) -> dict[str, bytes]:
        """What its sdist holds, by path below the top folder."""
        table = f"[build-system]\nrequires = {json.dumps(list(self.build_requires))}\n"
        table += f'build-backend = "{self.backend or "backend"}"\n' + ("" if self.backend else 'backend-path = ["."]\n')
        module = self.name.replace("-", "_")
        tiny = {
            "asks": list(self.asks),
            **self._told_by_wheel(),
            "pkg_info": self._pkg_info(),
            "extension": self.extension,
            "platform_tag": self.platform_tag,
            "abi3": self.abi3,
            "extension_flags": list(self.extension_flags),
            "wheel_name": self.wheel_name or self.name,
            "wheel_version": self.wheel_version or self.version,
            "modules": dict(self.modules) or {f"{module}/__init__.py": f"VERSION = {self.version!r}\n"},
        }
        files = {"PKG-INFO": self._pkg_info(), "pyproject.toml": table, "tiny.json": json.dumps(tiny)}
        if not self.backend:
            build = BACKEND.replace("    stem =", self._indented() + "    stem =", 1)
            files["backend.py"] = self.code + build
        return {path: text.encode() for path, text in files.items()}

    def tree(self, folder: Path) -> Path:
        """Write it as a tree to develop in: what its sdist holds, but for PKG-INFO."""
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in self.files().items():
            if path != "PKG-INFO":
                (folder / path).write_bytes(data)
        return folder

    def sdist(self) -> bytes:
        """Its sdist, the same bytes each time."""
        return make_tar_gz(
            {f"{self.filename.removesuffix('.tar.gz')}/{path}": data for path, data in self.files().items()}
        )

    def _told_by_wheel(self) -> dict[str, object]:
        stated = {"requires_dist": list(self.requires_dist), "extras": list(self.extras)}
        return {**stated, "requires_python": self.requires_python, **self.wheel_tells}

    def _pkg_info(self) -> str:
        lines = [
            f"Metadata-Version: {'2.2' if self.static else '2.1'}",
            f"Name: {self.name}",
            f"Version: {self.version}",
            *([f"Requires-Python: {self.requires_python}"] if self.requires_python else []),
            *(f"Provides-Extra: {extra}" for extra in self.extras),
        ]
        return "\n".join([*lines, *(f"Requires-Dist: {requirement}" for requirement in self.requires_dist)]) + "\n"

    def _indented(self) -> str:
        return "".join(f"    {line}\n" for line in self.build_code.splitlines())


def make_tar_gz(files: Mapping[str, bytes]) -> bytes:
    """A gzipped tar archive of regular files, without any time of its own."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mtime = len(data), MTIME
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


def backend_project() -> Project:
    """A backend as a project of its own, which builds itself: `tinybackend`."""
    return Project(name="tinybackend", modules={"tinybackend.py": BACKEND})


def record_hash(data: bytes) -> str:
    """A digest in RECORD's form."""
    return f"sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')}"
