"""Targets: what a wheel is built for, and the `host` target read off one interpreter of this machine."""

import functools
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheelfarm.digest import SHA256, digest_of, sha256_of_file
from wheelfarm.errors import BadInterpreter, InputError
from wheelfarm.files import write_whole

if TYPE_CHECKING:
    from packaging.tags import Tag

    from wheelfarm.wheel import BuiltWheel

TARGET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
HOST_QUEUE = "host"

INTERPRETER_PROBE = """
import json, sys, sysconfig
SHORT = {"alpha": "a", "beta": "b", "candidate": "rc"}  # as PEP 440 has them
variables = dict(sysconfig.get_config_vars())
for key in ("prefix", "exec_prefix", "base", "platbase", "userbase", "installed_base", "installed_platbase",
            "projectbase", "srcdir"):
    variables.pop(key, None)  # these tell where an environment or a home is, not what a build does
json.dump({
    "implementation": sys.implementation.name,
    "executable": getattr(sys, "_base_executable", sys.executable),
    "prefix": sys.base_prefix,
    "version": "%d.%d.%d" % sys.version_info[:3]
        + ("" if sys.version_info[3] == "final" else "%s%d" % (SHORT[sys.version_info[3]], sys.version_info[4])),
    "platform": sysconfig.get_platform(),
    "abi": "cp%d%d" % sys.version_info[:2]
        + ("t" if variables.get("Py_GIL_DISABLED") else "") + ("d" if variables.get("Py_DEBUG") else ""),
    "sysconfig": {key: str(value) for key, value in variables.items()},
}, sys.stdout)
"""
_FACTS = {"implementation", "executable", "prefix", "version", "platform", "abi", "sysconfig"}
_PROBE_BYTES = 1 << 20
OLDEST_PYTHON = (3, 10)  # of the driver's libraries: installer's, at present
_HOME = re.compile(r"^\s*home\s*=\s*(\S.*?)\s*$", re.MULTILINE | re.IGNORECASE)
_TOOLCHAIN = ("libc6", "libc6-dev", "gcc*", "g++*", "clang*", "binutils*", "make", "*-dev")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Interpreter, ABI, platform and build environment of a wheel.

    `revision` is the digest of all that may change what is built; `queue` the Celery queue whose workers can build for
    it; `python` and `prefix` the base interpreter and its prefix; `sandbox` the back end ("none": unconfined); `root`
    the sha256 of the root filesystem's archive, where it is not this machine's own; `interpreter` the farm's Python
    distribution that `python` is of, `REFERENCE sha256:HEX`, where it is neither the root's nor this machine's;
    `variant` tells targets apart whose wheels bear the same tags.
    """

    name: str
    revision: str
    queue: str
    python: str
    prefix: str
    python_version: str
    abi: str
    platform: str
    sandbox: str = "bubblewrap"
    root: str = ""
    interpreter: str = ""
    tag_policy: str = "native"
    variant: str = ""

    @property
    def machine(self) -> str:
        """The architecture as `platform.machine()` has it, such as `x86_64`."""
        return self.platform.partition("-")[2]

    @property
    def site_packages(self) -> str:
        """Where libraries lie below an environment's root, such as `lib/python3.11/site-packages`."""
        major, minor = self.python_version.split(".")[:2]
        return f"lib/python{major}.{minor}{'t' if 't' in self.abi else ''}/site-packages"

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Target":
        """Read what `to_json` wrote; raises InputError naming what is missing or malformed."""
        if not isinstance(value, Mapping):
            raise InputError("target: an object is expected.")
        names = list(cls.__slots__)
        value = {**LATER_FIELDS, **value}
        forms = {"name": TARGET_NAME, "queue": TARGET_NAME, "revision": SHA256}
        wrong = [
            name
            for name in names
            if not isinstance(value.get(name), str) or (name in forms and not forms[name].fullmatch(value[name]))
        ]
        if wrong or set(value) - set(names):
            raise InputError(f"target: malformed or unknown fields: {sorted({*wrong, *(set(value) - set(names))})}")
        return cls(**value)


_GLIBC_2 = 60
_MUSL_1 = 20
_FIRST_MANYLINUX = {"x86_64": 5, "i686": 5}
_NAMED_MANYLINUX = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


def portable_tags(target: Target) -> "frozenset[Tag]":
    """The tags that a wheel of the portable policy may carry: `any`, manylinux and musllinux (PEP 600, 656), never
    `linux_<arch>`, which promises nothing to other machines."""
    from packaging.tags import compatible_tags, cpython_tags

    version = tuple(int(part) for part in re.findall(r"\d+", target.python_version)[:2])
    first = _FIRST_MANYLINUX.get(target.machine, 17)
    platforms = [f"manylinux_2_{minor}_{target.machine}" for minor in range(first, _GLIBC_2)]
    platforms += [f"{name}_{target.machine}" for minor, name in _NAMED_MANYLINUX.items() if minor >= first]
    platforms += [f"musllinux_1_{minor}_{target.machine}" for minor in range(1, _MUSL_1)]
    return frozenset(
        {
            *cpython_tags(version, abis=[target.abi], platforms=platforms),
            *compatible_tags(version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms),
        }
    )


LATER_FIELDS = {"root": "", "interpreter": "", "tag_policy": "native", "variant": ""}
"""What targets that were put down by earlier versions of the farm don't say."""


def native_tags(target: Target) -> "frozenset[Tag]":
    """The tags that a wheel of the native policy may carry on `target`: `any` and `linux_<arch>`, never manylinux."""
    from packaging.tags import compatible_tags, cpython_tags

    version = tuple(int(part) for part in re.findall(r"\d+", target.python_version)[:2])
    interpreter = f"cp{version[0]}{version[1]}"
    platforms = [target.platform.replace("-", "_").replace(".", "_")]
    return frozenset(
        {
            *cpython_tags(version, abis=[target.abi], platforms=platforms),
            *compatible_tags(version, interpreter=interpreter, platforms=platforms),
        }
    )


def needs_asking(wheels: "Iterable[BuiltWheel]", target: Target) -> bool:
    """Whether it is open if the environment takes wheels: those of its own host target that are as native take all."""
    own = {"any", target.platform.replace("-", "_")}
    platforms = {tag.split("-")[2] for wheel in wheels for tag in wheel.tags}
    return not target.name.startswith("host-") or not platforms <= own


def host_target(python: Path, *, sandbox: str, memory: Path, patience_s: float = 20.0) -> Target:
    """The target of this machine's toolchain and `python` (a base interpreter or one of an environment).

    Reading it costs two subprocesses; the answer is remembered in the folder `memory`, for all environments of an
    interpreter, as long as that and the list of installed packages stay the same files. Raises BadInterpreter when
    `python` does not run or is not CPython.
    """
    python = _base_of(python)
    fingerprint = digest_of([str(python), sandbox, *map(_stamp, (python, *_watched()))])
    remembered = memory / f"{fingerprint}.json"
    with suppress(OSError, ValueError, InputError):  # what another version of the farm wrote is read anew
        target = Target.from_json(json.loads(remembered.read_text()))
        if Path(target.python).exists():
            return target
    target = _read_host_target(python, sandbox, patience_s)
    memory.mkdir(parents=True, exist_ok=True)
    write_whole(remembered, json.dumps(target.to_json()))
    return target


def _base_of(python: Path) -> Path:
    """The interpreter that an environment was made with, where its own is a link to that; else the one given."""
    real = python.resolve()
    for settings in (python.parent / "pyvenv.cfg", python.parent.parent / "pyvenv.cfg"):
        with suppress(OSError, UnicodeDecodeError):
            home = _HOME.search(settings.read_text())
            base = Path(home[1] if home else "") / real.name
            return base if base.is_absolute() and base.resolve() == real else python
    return python


def _read_host_target(python: Path, sandbox: str, patience_s: float) -> Target:
    facts = _probe(python, patience_s)
    require_suitable(python, facts)
    executable = Path(facts["executable"]).resolve()
    identity = [
        str(executable),
        facts["version"],
        facts["abi"],
        facts["platform"],
        facts["sysconfig"],
        sandbox,
    ]
    suffix = "-unsandboxed" if sandbox == "none" else ""
    return Target(
        name=f"host-{facts['abi']}-{digest_of(identity)[:8]}{suffix}",
        revision=digest_of([*identity, sha256_of_file(executable), _toolchain()]),
        queue=HOST_QUEUE,
        python=str(executable),
        prefix=facts["prefix"],
        python_version=facts["version"],
        abi=facts["abi"],
        platform=facts["platform"],
        sandbox=sandbox,
    )


def require_suitable(python: Path, facts: Mapping[str, Any], *, hint: str = "Name another one with --python.") -> None:
    """Raise BadInterpreter unless the farm can build for an interpreter that tells these facts of itself."""
    what = ""
    if facts["implementation"] != "cpython":
        what = f"{facts['implementation']}, and the farm builds for CPython only"
    elif tuple(map(int, re.findall(r"\d+", facts["version"])[:2])) < OLDEST_PYTHON:
        what = f"CPython {facts['version']}, and builds run on 3.10 or later"
    if what:
        raise BadInterpreter(f"{python} is {what}.", hint=hint)


def read_facts(said: str) -> dict[str, Any] | None:
    """The facts that INTERPRETER_PROBE printed last; None where it did not."""
    try:
        facts = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) and facts.keys() >= _FACTS else None


def _probe(python: Path, patience_s: float) -> dict[str, Any]:
    """Facts of an interpreter, asked without its site-packages, whose `.pth` files would run."""
    said, status = _said_by([str(python), "-I", "-S", "-c", INTERPRETER_PROBE], patience_s)
    facts = read_facts(said)
    if status is None:
        raise _bad(python, f"it did not answer within {patience_s:g} s")
    if status != 0:
        raise _bad(python, f"asked for its version it ended with status {status} ({said[-300:].strip() or 'silently'})")
    if facts is None:
        raise _bad(python, f"asked for its version it said {said[:100]!r}")
    return facts


def _said_by(command: list[str], patience_s: float) -> tuple[str, int | None]:
    """What a command prints, bounded, and its exit status: None for one that did not end in time.

    Raises BadInterpreter when it can't be started.
    """
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        raise _bad(Path(command[0]), f"it can't be started ({error.strerror})") from error
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(patience_s, end)
    timer.start()
    with process:
        said = process.stdout.read(_PROBE_BYTES) if process.stdout else b""
        if len(said) == _PROBE_BYTES:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    timer.cancel()
    return said.decode(errors="replace"), None if late.is_set() else process.returncode


def _bad(python: Path, reason: str) -> BadInterpreter:
    return BadInterpreter(
        f"{python} does not work as a Python interpreter: {reason}.", hint="Name another one with --python."
    )


def host_toolchain() -> str:
    """The digest of what this machine's /usr may leave in a wheel; read again when a package was installed."""
    return _toolchain_while(tuple(tuple(_stamp(path)) for path in _watched()))


@functools.lru_cache(maxsize=1)
def _toolchain_while(_: object) -> str:
    return digest_of(_toolchain())


def _toolchain() -> list[str]:
    """Versions of what may leave its mark in a wheel: libc, compilers, binutils and -dev packages."""
    import shutil  # costly, and only where nothing is remembered

    if shutil.which("dpkg-query"):
        listing = [
            "dpkg-query",
            "--show",
            "--showformat=${db:Status-Abbrev} ${Package}=${Version}\n",
            *_TOOLCHAIN,
        ]
        done = subprocess.run(listing, capture_output=True, text=True, check=False)
        return sorted(line for line in done.stdout.splitlines() if line.startswith("ii"))
    found = [tool for tool in ("cc", "c++", "ld", "make") if shutil.which(tool)]
    versions = [subprocess.run([tool, "--version"], capture_output=True, text=True, check=False) for tool in found]
    import platform  # costly, and only where there is no dpkg

    return ["-".join(platform.libc_ver()), *(done.stdout.partition("\n")[0] for done in versions)]


def _watched() -> list[Path]:
    """The list of installed packages, and whatever the PATH has of the tools that leave most marks."""
    tools = [Path(folder, tool) for folder in os.get_exec_path() for tool in ("cc", "c++", "ld")]
    return [Path("/var/lib/dpkg/status"), *(tool for tool in tools if tool.is_file())]


def _stamp(path: Path) -> list[int | str]:
    try:
        real = path.resolve()
        status = real.stat()
    except OSError:
        return ["absent"]
    return [str(real), status.st_mtime_ns, status.st_size, status.st_ino]
