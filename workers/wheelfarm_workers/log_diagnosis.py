"""What a failed build lacked, read from the end of its log.

A log is foreign text: few lines of it are looked at, cut before they are matched, and a finding decides nothing but
words and for how long the failure is remembered.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from packaging.utils import canonicalize_name

from wheelfarm_workers.debian_packages import debian_package
from wheelfarm_workers.era_symptoms import era_findings
from wheelfarm_workers.finding import Finding, FindingKind, for_older_python, not_here, undeclared

_LINES = 2000
_LAST_LINES = 60
"""Where lines are looked for that are common in builds which go well, such as that of a program not found."""
_LINE_LENGTH = 1000
_NAME = r"[\w.+/-]{1,100}"
_MESON = r"(?:^|:\d+:\d+: )ERROR: "

_LAST_PYTHON_WITH_HEADER = {"longintrepr.h": "3.10", "code.h": "3.10", "node.h": "3.9", "graminit.h": "3.9"}
"""Headers of Python that went, or moved to where C code made by an older Cython does not look."""

Read = Callable[["re.Match[str]", str], Finding | None]
"""What a matching line means for a project; None when it means nothing after all."""


def diagnose_log(log: str, project: str) -> Finding | None:
    """What the log (its end is enough) says that the build of `project` lacked; None when it says nothing known.

    The surest signs are looked for first, and each from the last line on: what a build tells last is what it failed
    for, and configuration is full of things that are missing and not missed.
    """
    lines = [line[:_LINE_LENGTH].rstrip() for line in log.splitlines()[-_LINES:]][::-1]
    return next(_findings(lines, project), None)


def _findings(lines: Sequence[str], project: str) -> Iterator[Finding]:
    for within, pattern, read in (*_SURE, *_era_rules(project), *_WEAK):
        for line in lines[:within]:
            if (match := re.search(pattern, line)) and (finding := read(match, project)):
                yield finding


@cache
def _era_rules(project: str) -> tuple[tuple[int, str, Read], ...]:
    return tuple((_LINES, pattern, _always(finding)) for pattern, finding in era_findings(project))


def _always(finding: Finding) -> Read:
    return lambda match, project: finding


def _header(match: re.Match[str], project: str) -> Finding | None:
    name = match["header"]
    requirement = _PROJECTS_OF_HEADERS.get(name.partition("/")[0] + "/")
    if requirement:
        return undeclared(requirement, project)
    if python := _LAST_PYTHON_WITH_HEADER.get(name):
        return for_older_python(python)
    return not_here("headers", name)


def _library(match: re.Match[str], project: str) -> Finding:
    return not_here("libraries", {"zlib": "z"}.get(match["library"], match["library"]))


def _tool(match: re.Match[str], project: str) -> Finding | None:
    """A program that is missing: for sure, or where it is one that packages are known for."""
    name = re.sub(r"^[a-z0-9_]+-linux-gnu\w*-", "", match["tool"].rpartition("/")[2].lower())
    name = re.sub(r"-\d[\d.]*$", "", name)
    if name in ("cargo", "rustc"):
        return _NO_RUST
    if name in _PROJECTS_OF_TOOLS:
        return undeclared(_PROJECTS_OF_TOOLS[name], project)
    if "sure" not in match.groupdict() and debian_package("tools", name) is None:
        return None
    return not_here("tools", name)


def _package(match: re.Match[str], project: str) -> Finding:
    """A package of pkg-config or CMake, as meson and CMake call it."""
    name = match["package"]
    if name.lower() in _PROJECTS_OF_PACKAGES:
        return undeclared(name.lower(), project)
    in_cmake = debian_package("pkg-config", name) is None and debian_package("cmake", name) is not None
    return not_here("cmake" if in_cmake else "pkg-config", name)


def _cmake_package(match: re.Match[str], project: str) -> Finding:
    if match["package"].lower() in _PROJECTS_OF_PACKAGES:
        return undeclared(match["package"].lower(), project)
    return not_here("cmake", match["package"])


def _module(match: re.Match[str], project: str) -> Finding | None:
    top = (match["module"] or match["backend"]).partition(".")[0]
    if canonicalize_name(top) == canonicalize_name(project):
        return None
    return undeclared(_PROJECTS_OF_MODULES.get(top, canonicalize_name(top)), project)


def _rust_too_old(match: re.Match[str], project: str) -> Finding:
    return Finding(
        kind=FindingKind.MISSING,
        what=f"The sdist needs Rust {match['rust'] or 'newer than the one that is here'}.",
        remedy="Debian's packages rustc and cargo may be too old for it; rustup (https://rustup.rs) has newer ones.",
    )


_PROJECTS_OF_HEADERS = {"numpy/": "numpy", "pybind11/": "pybind11", "nanobind/": "nanobind", "mpi4py/": "mpi4py"}
_PROJECTS_OF_PACKAGES = ("pybind11", "nanobind", "numpy")
_PROJECTS_OF_TOOLS = {"cython": "cython", "f2py": "numpy", "meson": "meson", "pythran": "pythran"}
_PROJECTS_OF_MODULES = {
    "Crypto": "pycryptodome",
    "PIL": "pillow",
    "attr": "attrs",
    "dateutil": "python-dateutil",
    "mesonpy": "meson-python",
    "skbuild": "scikit-build",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}

_NO_RUST = Finding(
    kind=FindingKind.MISSING,
    what="The sdist is built with Rust, which is not there.",
    remedy="On Debian: apt-get install cargo rustc",
    packages=("cargo", "rustc"),
)
_NO_NETWORK = Finding(
    kind=FindingKind.BUILD,
    what="The build wanted to download something, and builds have no network.",
    remedy="Ask for a version whose sdist holds what it needs, or keep the build from downloading by a recipe.",
)
_NO_CRATES = Finding(
    kind=FindingKind.BUILD,
    what="The sdist does not hold the Rust crates that it needs, and builds have no network.",
    remedy="Ask for a version whose sdist holds them (cargo vendor).",
)
_NO_SPACE = Finding(
    kind=FindingKind.LIMIT,
    what="The build ran out of disk space.",
    remedy="Give builds more with WHEELFARM_BUILD_DISK_MIB.",
)
_NO_MEMORY = Finding(
    kind=FindingKind.LIMIT,
    what="The compiler was killed, most likely for want of memory.",
    remedy="Give builds more with WHEELFARM_BUILD_MEMORY_MIB, or run fewer at once with WHEELFARM_SLOTS.",
)

_SURE: tuple[tuple[int, str, Read], ...] = (
    (_LINES, r"No space left on device", _always(_NO_SPACE)),
    (
        _LINES,
        r"Killed signal terminated program|internal compiler error: Killed|signal: 9, SIGKILL|std::bad_alloc|"
        r"virtual memory exhausted|LLVM ERROR: out of memory|: out of memory allocating \d+ bytes",
        _always(_NO_MEMORY),
    ),
    (_LINES, rf"fatal error: '?(?P<header>{_NAME})'?(?:: No such file or directory| file not found)", _header),
    (_LINES, rf"cannot find -l:?(?P<library>{_NAME}?)(?:: No such file or directory)?$", _library),
    (_LINES, rf"unable to find library -l(?P<library>{_NAME})", _library),
    (
        _LINES,
        r"can't find Rust compiler|Cargo, the Rust package manager, is not installed|rustc, the rust compiler,? is not "
        r"installed|Rust not found, installing",
        _always(_NO_RUST),
    ),
    (
        _LINES,
        r"requires rustc (?P<rust>\d[\d.]{0,20})|feature `edition20\d\d` is required|lock file version .{1,8} "
        r"(?:was found, but this version of Cargo does not understand|requires `-Znext-lockfile-bump`)",
        _rust_too_old,
    ),
    (
        _LINES,
        r"failed to get `[\w-]{1,100}` as a dependency of package|no matching package named `[\w-]{1,100}` found|"
        r"Unable to update registry `crates-io`|\b(?:index|static)\.crates\.io\b",
        _always(_NO_CRATES),
    ),
    (_LINES, rf"error: command '(?P<tool>{_NAME})' failed: (?P<sure>No such file)", _tool),
    (_LINES, rf"unable to execute '(?P<tool>{_NAME})': (?P<sure>No such file)", _tool),
    (_LINES, rf"linker `(?P<tool>{_NAME})` (?P<sure>not found)", _tool),
    (_LINES, rf"{_MESON}Unknown compiler\(s\): \[\['(?P<tool>{_NAME})'", _tool),
    (_LINES, rf"{_MESON}Program(?:\(s\))? \[?'(?P<tool>{_NAME})'.{{0,200}} (?P<sure>not found)", _tool),
    (_LINES, rf"{_MESON}Dependency \"(?P<package>{_NAME})\" not found", _package),
    (_LINES, rf"{_MESON}\S{{1,10}} (?:shared or static )?library '(?P<library>{_NAME})' not found", _library),
    (_LINES, r"Pkg-config for machine .{1,40} not found", _always(not_here("tools", "pkg-config"))),
    (_LINES, r"[Nn]o Fortran compiler found|No CMAKE_Fortran_COMPILER could", _always(not_here("tools", "gfortran"))),
    (
        _LINES,
        r"No CMAKE_C(?:XX)?_COMPILER could|C compiler cannot create executables|no acceptable C compiler found",
        _always(not_here("tools", "gcc")),
    ),
    (
        _LINES,
        r"unable to find a build program corresponding to \"Ninja\"|Could not find ninja version",
        _always(not_here("tools", "ninja")),
    ),
    (_LINES, r"build program corresponding to \"Unix Makefiles\"", _always(not_here("tools", "make"))),
    (
        _LINES,
        r"Problem with the CMake installation|Could not find CMake with version",
        _always(not_here("tools", "cmake")),
    ),
    (_LINES, rf"^  Could NOT find (?P<package>{_NAME})", _cmake_package),
    (_LINES, rf"package configuration file provided by \"(?P<package>{_NAME})\"", _cmake_package),
    (_LINES, rf"headers or library files could not be found for (?P<library>{_NAME}),", _library),
    (_LINES, r"libxml2 and libxslt development packages are installed", _always(not_here("libraries", "xslt"))),
    (_LINES, r"Can not find valid pkg-config name", _always(not_here("tools", "mysql_config"))),
    (
        _LINES,
        r"Unable to load dependency HDF5|Could not find a local HDF5|libhdf5\.so: cannot open",
        _always(not_here("libraries", "hdf5")),
    ),
    (
        _LINES,
        r"PyO3's maximum supported version \((?P<python>3\.\d{1,2})\)",
        lambda match, project: for_older_python(match["python"]),
    ),
)
_WEAK: tuple[tuple[int, str, Read], ...] = (
    (
        _LAST_LINES,
        r"Temporary failure in name resolution|Name or service not known|failed to (?:lookup address|resolve address)|"
        r"[Cc]ould(?: not|n't) resolve (?:host|proxy)|[Nn]etwork is unreachable|Failed to establish a new connection|"
        r"unable to access 'https?://",
        _always(_NO_NETWORK),
    ),
    (_LAST_LINES, rf"FileNotFoundError: .{{0,60}}directory: (?:PosixPath\()?'(?P<tool>{_NAME})'", _tool),
    (_LAST_LINES, rf"(?:^|: |\d: )(?P<tool>{_NAME}): (?:command )?not found$", _tool),
    (_LAST_LINES, rf"^make(?:\[\d+\])?: (?P<tool>{_NAME}): No such file or directory", _tool),
    (_LAST_LINES, rf"Could not run (?P<tool>{_NAME}): ", _tool),
    (
        _LAST_LINES,
        rf"(?P<tool>{_NAME})(?: executable)? (?:is )?(?:not found|could not be found|not installed|failed executing)",
        _tool,
    ),
    (
        _LAST_LINES,
        rf"Package '?(?P<package>{_NAME}?)'?(?:, required by '[^']{{1,100}}',)? (?:was )?not found",
        _package,
    ),
    (_LAST_LINES, rf"No package '(?P<package>{_NAME})' found", _package),
    (_LAST_LINES, r"No module named '(?P<module>\w[\w.]{0,100})'|Cannot import '(?P<backend>\w[\w.]{0,100})'", _module),
    (
        _LAST_LINES,
        r"No matching distribution found for (?P<project>[\w.-]{1,100})",
        lambda match, project: undeclared(canonicalize_name(match["project"]), project),
    ),
)
"""Each how many of the last lines are looked at, the pattern, and what it means."""
