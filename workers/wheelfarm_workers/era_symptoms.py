"""What logs say of sdists that are older, or newer, than the tools and the interpreter they are built with."""

from collections.abc import Iterator, Mapping

from wheelfarm_workers.finding import Finding, for_older_python, for_recipe

_LENIENT_C = " ".join(
    f"-Wno-error={name}"
    for name in ("implicit-function-declaration", "implicit-int", "incompatible-pointer-types", "int-conversion")
)

_MENDED_BY_RECIPE: Mapping[str, tuple[str, str]] = {
    r"use_2to3 is invalid": (
        "The sdist converts itself from Python 2, which setuptools 58 gave up.",
        'build-constraints = ["setuptools<58"]',
    ),
    r"cannot import name 'Feature' from 'setuptools'": (
        "The sdist needs setuptools older than 46.",
        'build-constraints = ["setuptools<46"]',
    ),
    r"No module named 'setuptools\.command\.(?:test|upload|register)'": (
        "The sdist needs a command that setuptools 72 gave up.",
        'build-constraints = ["setuptools<72"]',
    ),
    r"(?:Invalid dash-separated key|Usage of dash-separated|Invalid uppercase key) ": (
        "setup.cfg spells its keys as setuptools accepted them before version 78.",
        'build-constraints = ["setuptools<78"]',
    ),
    r"No module named 'pkg_resources'|pkg_resources.{0,40} (?:is|was) not found": (
        "The build needs pkg_resources, which setuptools 82 gave up.",
        'extra-build-requirements = ["setuptools<82"]',
    ),
    r"No module named 'distutils'": (
        "The build needs distutils, which left the standard library with Python 3.12.",
        'extra-build-requirements = ["setuptools"]',
    ),
    r"invalid command 'bdist_wheel'": (
        "The setuptools of the build can't make wheels by itself.",
        'extra-build-requirements = ["wheel"]',
    ),
    r"module 'pkgutil' has no attribute 'ImpImporter'": (
        "A setuptools older than 66.1 does not run on Python 3.12 or later.",
        'build-constraints = ["setuptools>=66.1"]',
    ),
    r"(?:project\.license` must be valid exactly by one definition|project\.license-files` must be )": (
        "The license is stated as only setuptools 77 and later understand.",
        'build-constraints = ["setuptools>=77"]',
    ),
    r"License classifiers have been superseded by license expressions": (
        "The sdist states its license twice, which setuptools 77 and later refuse.",
        'patches = ["license.patch"]  # one that removes the classifiers',
    ),
    r"AttributeError: (?:'build_ext' object has no attribute 'cython_sources'|cython_sources)|Cython\.Compiler\."
    r"Errors\.CompileError": (
        "The sdist was written for Cython before version 3.",
        'build-constraints = ["cython<3"]',
    ),
    r"setuptools-scm was unable to detect version for|unable to detect version for .{0,200}scm": (
        "The version comes from git, and an sdist has no history.",
        'versions = "==1.0"  # each version has its own recipe\n'
        '    environment = { SETUPTOOLS_SCM_PRETEND_VERSION = "1.0" }',
    ),
    r"Compatibility with CMake < [\d.]{1,5} has been removed": (
        "The sdist's CMakeLists.txt is older than CMake 4 accepts.",
        'environment = { CMAKE_POLICY_VERSION_MINIMUM = "3.5" }',
    ),
    r"error: (?:implicit declaration of function|passing argument \d+ of .{1,300} from incompatible pointer type|"
    r"incompatible pointer types|call to undeclared (?:library )?function|return type defaults to|"
    r"type defaults to .int.)|\[-Wi(?:ncompatible-pointer-types|nt-conversion|mplicit-int)\]$": (
        "The sdist's C code is laxer than gcc 14 and clang 16 accept.",
        f'environment = {{ CFLAGS = "{_LENIENT_C}" }}',
    ),
    r"error: .(?:std::)?u?int(?:8|16|32|64|ptr)_t. (?:has not been declared|does not name a type|is not a member of)": (
        "The sdist's C++ code forgets an #include that gcc before 13 did without.",
        'environment = { CXXFLAGS = "-include cstdint" }',
    ),
    r"multiple definition of `": (
        "The sdist's C code defines variables in headers, which gcc 10 and later refuse.",
        'environment = { CFLAGS = "-fcommon" }',
    ),
}
"""By what a line says: what is the matter, and the entry of a recipe that mends it."""

_NEEDS_OLDER_PYTHON: Mapping[str, str] = {
    r"SyntaxError: (?:Missing parentheses in call to 'print'|multiple exception types must be parenthesized)": "2.7",
    r"No module named '(?:ConfigParser|StringIO|cStringIO|urllib2|urlparse|Queue|commands|__builtin__)'": "2.7",
    r"cannot import name '(?:Mapping|MutableMapping|Callable|Iterable|Sequence|Sized)' from 'collections'": "3.9",
    r"module 'inspect' has no attribute 'getargspec'": "3.10",
    r"has no member named .(?:use_tracing|recursion_depth|f_code).": "3.10",
    r"No module named '(?:imp|asyncore|asynchat|smtpd|numpy\.distutils)'": "3.11",
    r"module 'configparser' has no attribute '(?:SafeConfigParser|readfp)'": "3.11",
    r"has no member named .(?:ob_digit|curexc_type).": "3.11",
    r"No module named '(?:lib2to3|cgi|cgitb|pipes|crypt|imghdr|telnetlib|nntplib|sndhdr|uu|xdrlib)'": "3.12",
    r"module 'ast' has no attribute '(?:Str|Num|Bytes|NameConstant)'": "3.13",
}
"""By what a line says: the newest Python of which the sdist can know."""


def era_findings(project: str) -> Iterator[tuple[str, Finding]]:
    """Each pattern, and what a line that it matches means for a project."""
    for pattern, (what, entry) in _MENDED_BY_RECIPE.items():
        yield pattern, for_recipe(what, entry, project)
    for pattern, python in _NEEDS_OLDER_PYTHON.items():
        yield pattern, for_older_python(python)
