from importlib.resources import files
from textwrap import dedent

import pytest

from wheelfarm.recipe import parse_recipes
from wheelfarm_workers.debian_packages import debian_package
from wheelfarm_workers.finding import FindingKind
from wheelfarm_workers.log_diagnosis import diagnose_log

MISSING = [
    (
        "gcc -pthread -fPIC -I/usr/include/python3.11 -c c/_cffi_backend.c -o build/c/_cffi_backend.o\n"
        "c/_cffi_backend.c:15:10: fatal error: ffi.h: No such file or directory\n"
        "   15 | #include <ffi.h>\n"
        "      |          ^~~~~~~\n"
        "compilation terminated.\n"
        "error: command '/usr/bin/gcc' failed with exit code 1",
        "apt-get install libffi-dev",
    ),
    (
        "src/x.c:3:10: fatal error: 'openssl/evp.h' file not found\n#include <openssl/evp.h>\n1 error generated.",
        "apt-get install libssl-dev",
    ),
    ("a.c:1:10: fatal error: Python.h: No such file or directory", "apt-get install python3-dev"),
    ("a.c:1:10: fatal error: frobnicate/api.h: No such file or directory", "apt-file search /frobnicate/api.h"),
    ("/usr/bin/ld: cannot find -lpq\ncollect2: error: ld returned 1 exit status", "apt-get install libpq-dev"),
    ("/usr/bin/ld: cannot find -lz: No such file or directory\ncollect2: error: ld returned", "install zlib1g-dev"),
    ("ld.lld: error: unable to find library -lxslt", "apt-get install libxslt1-dev"),
    (
        "building '_x' extension\nerror: command 'x86_64-linux-gnu-gcc' failed: No such file or directory",
        "apt-get install build-essential",
    ),
    ("unable to execute 'swig': No such file or directory\nerror: command 'swig' failed", "apt-get install swig"),
    ("error: command 'frobc' failed: No such file or directory", "apt-file search bin/frobc"),
    ("../meson.build:4:0: ERROR: Program 'bison' not found or not executable", "apt-get install bison"),
    ("../meson.build:1:0: ERROR: Unknown compiler(s): [['gfortran'], ['flang']]", "apt-get install gfortran"),
    ('../meson.build:6:0: ERROR: Dependency "cairo" not found, tried pkgconfig and cmake', "install libcairo2-dev"),
    ('../meson.build:6:0: ERROR: Dependency "Boost" not found, tried system', "apt-get install libboost-all-dev"),
    ("../meson.build:6:0: ERROR: C shared or static library 'zstd' not found", "apt-get install libzstd-dev"),
    (
        "meson.build:9:0: ERROR: Dependency lookup for blas with method 'pkgconfig' failed: Pkg-config for machine "
        "host machine not found. Giving up.",
        "apt-get install pkg-config",
    ),
    (
        "Package libsystemd was not found in the pkg-config search path.\nPerhaps you should add the directory "
        "containing `libsystemd.pc'\nNo package 'libsystemd' found",
        "apt-get install libsystemd-dev",
    ),
    ("Package 'dbus-1', required by 'virtual:world', not found", "apt-get install libdbus-1-dev"),
    (
        "CMake Error at /usr/share/cmake-3.25/Modules/FindPackageHandleStandardArgs.cmake:230 (message):\n"
        "  Could NOT find ZLIB (missing: ZLIB_LIBRARY ZLIB_INCLUDE_DIR)\n"
        "-- Configuring incomplete, errors occurred!",
        "apt-get install zlib1g-dev",
    ),
    (
        "CMake Error at CMakeLists.txt:5 (find_package):\n"
        '  Could not find a package configuration file provided by "LLVM" with any of the\n  following names:',
        "apt-get install llvm-dev",
    ),
    ('CMake Error: CMake was unable to find a build program corresponding to "Ninja".', "install ninja-build"),
    ("CMake Error: CMAKE_C_COMPILER not set\n  No CMAKE_C_COMPILER could be found.", "install build-essential"),
    ("FileNotFoundError: [Errno 2] No such file or directory: 'cmake'", "apt-get install cmake"),
    ("/bin/sh: 1: pg_config: not found", "apt-get install libpq-dev"),
    ("Error: pg_config executable not found.\n\npg_config is required to build psycopg2", "apt-get install libpq-dev"),
    ("OSError: mysql_config not found", "apt-get install default-libmysqlclient-dev"),
    ("Could not run curl-config: [Errno 2] No such file or directory: 'curl-config'", "libcurl4-openssl-dev"),
    ("make[2]: gfortran: No such file or directory", "apt-get install gfortran"),
    (
        "RuntimeError: llvm-config failed executing, please point LLVM_CONFIG to the path for llvm-config",
        "apt-get install llvm",
    ),
    (
        "The headers or library files could not be found for jpeg,\na required dependency when compiling Pillow",
        "apt-get install libjpeg-dev",
    ),
    ("Error: Please make sure the libxml2 and libxslt development packages are installed.", "libxslt1-dev"),
    ("error: can't find Rust compiler\n\nIf you are using an outdated pip", "apt-get install cargo rustc"),
    ("Cargo, the Rust package manager, is not installed or is not on PATH.", "apt-get install cargo rustc"),
    (
        "running build_rust\nFileNotFoundError: [Errno 2] No such file or directory: 'cargo'",
        "apt-get install cargo rustc",
    ),
    ("error: rustc 1.63.0 is not supported\n  x v1 requires rustc 1.74", "needs Rust 1.74"),
    ("  feature `edition2024` is required", "rustup"),
]

FOR_A_RECIPE = [
    ("  File \"setup.py\", line 3\nModuleNotFoundError: No module named 'numpy'", 'build-requirements = ["numpy"]'),
    ("ModuleNotFoundError: No module named 'setuptools_scm.git'", '["setuptools-scm"]'),
    ("ModuleNotFoundError: No module named 'yaml'", 'extra-build-requirements = ["pyyaml"]'),
    ("BackendUnavailable: Cannot import 'mesonpy'", 'extra-build-requirements = ["meson-python"]'),
    ("a.c:2:10: fatal error: numpy/arrayobject.h: No such file or directory", '["numpy"]'),
    ("ERROR: No matching distribution found for Cython", 'extra-build-requirements = ["cython"]'),
    ("../meson.build:3:0: ERROR: Program 'cython' not found or not executable", '["cython"]'),
    ("error in x setup command: use_2to3 is invalid.", 'build-constraints = ["setuptools<58"]'),
    ("ImportError: cannot import name 'Feature' from 'setuptools'", '"setuptools<46"'),
    ("ModuleNotFoundError: No module named 'setuptools.command.test'", '"setuptools<72"'),
    ("setuptools.errors.InvalidConfigError: Invalid dash-separated key 'description-file'", '"setuptools<78"'),
    ("ModuleNotFoundError: No module named 'pkg_resources'", 'extra-build-requirements = ["setuptools<82"]'),
    ("ModuleNotFoundError: No module named 'distutils'", 'extra-build-requirements = ["setuptools"]'),
    ("error: invalid command 'bdist_wheel'", 'extra-build-requirements = ["wheel"]'),
    ("AttributeError: module 'pkgutil' has no attribute 'ImpImporter'. Did you mean: 'zipimporter'?", '>=66.1"'),
    ("configuration error: `project.license` must be valid exactly by one definition (2 matches found)", '>=77"'),
    ("License classifiers have been superseded by license expressions", "patches"),
    ("AttributeError: cython_sources", 'build-constraints = ["cython<3"]'),
    ("LookupError: setuptools-scm was unable to detect version for /build", "SETUPTOOLS_SCM_PRETEND_VERSION"),
    ("  Compatibility with CMake < 3.5 has been removed from CMake.", "CMAKE_POLICY_VERSION_MINIMUM"),
    ("x.c:5:3: error: implicit declaration of function 'foo' [-Wimplicit-function-declaration]", "CFLAGS"),
    ("x.h:5:3: error: 'uint32_t' does not name a type", "CXXFLAGS"),
]

FOR_OLDER_PYTHON = [
    ("src/x.c:22:10: fatal error: longintrepr.h: No such file or directory", "3.10"),
    ("ast27/Custom/typed_ast.c:2:10: fatal error: code.h: No such file or directory", "3.10"),
    ("AttributeError: module 'inspect' has no attribute 'getargspec'", "3.10"),
    ("ModuleNotFoundError: No module named 'imp'", "3.11"),
    ("AttributeError: module 'configparser' has no attribute 'SafeConfigParser'", "3.11"),
    ("x.c:9: error: 'PyLongObject' {aka 'struct _longobject'} has no member named 'ob_digit'", "3.11"),
    ("error: the configured Python interpreter version (3.13) is newer than PyO3's maximum supported version (3.12)",
     "3.12"),
]  # fmt: skip

FOR_PYTHON_THAT_THE_FARM_KNOWS_NOT = [
    ("SyntaxError: Missing parentheses in call to 'print'. Did you mean print(...)?", "2.7"),
    ("SyntaxError: multiple exception types must be parenthesized (<string>, line 69)", "2.7"),
    ("ModuleNotFoundError: No module named 'ConfigParser'", "2.7"),
    ("ImportError: cannot import name 'Mapping' from 'collections' (collections/__init__.py)", "3.9"),
]

WANTS_NETWORK = [
    "urllib.error.URLError: <urlopen error [Errno -3] Temporary failure in name resolution>",
    "curl: (6) Could not resolve host: github.com",
    "fatal: unable to access 'https://example.invalid/x.git/': Could not resolve host: example.invalid",
    "    Updating crates.io index\nwarning: spurious network error: [6] Couldn't resolve host name\n"
    "error: failed to get `anyhow` as a dependency of package `x v1.0 (/build)`",
]

LACKS_ROOM = [
    ("x.cc: error: No space left on device", "WHEELFARM_BUILD_DISK_MIB"),
    ("c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.", "BUILD_MEMORY_MIB"),
    ("error: could not compile `x`\n  (signal: 9, SIGKILL: kill)", "WHEELFARM_BUILD_MEMORY_MIB"),
]


@pytest.mark.parametrize(("log", "hint"), MISSING)
def test_what_the_target_lacks_is_named_with_the_command_that_brings_it(log: str, hint: str) -> None:
    found = diagnose_log(log, "app")
    assert found is not None
    assert found.kind is FindingKind.MISSING
    assert hint in found.hint


@pytest.mark.parametrize(("log", "python"), FOR_PYTHON_THAT_THE_FARM_KNOWS_NOT)
def test_interpreter_that_the_farm_does_not_build_for_is_not_proposed(log: str, python: str) -> None:
    found = diagnose_log(log, "app")
    assert found is not None
    assert found.hint == f"The sdist knows no Python later than {python}. Ask for a newer version of it"


@pytest.mark.parametrize(("log", "hint"), FOR_A_RECIPE)
def test_what_a_recipe_mends_comes_with_its_entry(log: str, hint: str) -> None:
    found = diagnose_log(log, "app")
    assert found is not None
    assert found.kind is FindingKind.BUILD
    assert hint in found.hint
    said, _, file = found.hint.partition(":\n")
    assert "app.toml" in said
    recipes = parse_recipes(dedent(file), origin="app.toml", patches={"license.patch": "0" * 64})
    assert recipes.project == "app"


@pytest.mark.parametrize(("log", "python"), FOR_OLDER_PYTHON)
def test_sdist_older_than_the_interpreter_names_the_last_that_it_knows(log: str, python: str) -> None:
    found = diagnose_log(log, "app")
    assert found is not None
    assert found.kind is FindingKind.BUILD
    assert f"--python {python}" in found.hint


@pytest.mark.parametrize("log", WANTS_NETWORK)
def test_download_while_building_is_told(log: str) -> None:
    found = diagnose_log(log, "app")
    assert found is not None
    assert found.kind is FindingKind.BUILD
    assert "no network" in found.hint


@pytest.mark.parametrize(("log", "hint"), LACKS_ROOM)
def test_want_of_memory_or_disk_is_a_limit(log: str, hint: str) -> None:
    found = diagnose_log(log, "app")
    assert found is not None
    assert found.kind is FindingKind.LIMIT
    assert hint in found.hint


@pytest.mark.parametrize(
    "log",
    [
        "",
        "Traceback (most recent call last):\nRuntimeError: no such thing",
        "FileNotFoundError: [Errno 2] No such file or directory: 'README.md'",
        "-- Could NOT find Doxygen (missing: DOXYGEN_EXECUTABLE)\n-- Could NOT find ZLIB (missing: ZLIB_LIBRARY)",
        "ModuleNotFoundError: No module named 'app'",
        "ModuleNotFoundError: No module named 'my_app.version'",
        "frobnicate: not found",
    ],
)
def test_log_without_a_known_sign_gives_no_finding(log: str) -> None:
    assert diagnose_log(log, "my-app" if "my_app" in log else "app") is None


def test_fatal_error_counts_more_than_what_configuration_did_not_find() -> None:
    log = "/bin/sh: 1: git: not found\nx.c:1:10: fatal error: zlib.h: No such file or directory\n"
    found = diagnose_log(log + "error: command 'gcc' failed with exit code 1", "app")
    assert found is not None
    assert "zlib1g-dev" in found.hint


def test_last_of_several_errors_counts() -> None:
    found = diagnose_log(
        "x.c:1: fatal error: ffi.h: No such file or directory\ny.c:1: fatal error: zlib.h: No such file or directory",
        "app",
    )
    assert found is not None
    assert "zlib1g-dev" in found.hint


def test_module_missed_long_before_the_end_is_not_the_reason() -> None:
    log = "ModuleNotFoundError: No module named 'numpy'\n" + "compiling\n" * 200 + "RuntimeError: something else"
    assert diagnose_log(log, "app") is None


def test_hostile_log_is_read_in_no_time() -> None:
    hostile = ["fatal error: " + "a/" * 5000, "error: command '" * 500, "Package " + "x" * 9000, "\x00" * 9000]
    assert diagnose_log("\n".join(hostile * 500), "app") is None


def test_headers_are_known_by_their_folder() -> None:
    assert debian_package("headers", "libxml/xpath.h") == "libxml2-dev"
    assert debian_package("headers", "X11/Xlib.h") == "libx11-dev"
    assert debian_package("headers", "google/protobuf/message.h") == "libprotobuf-dev"
    assert debian_package("headers", "nothing/of/ours.h") is None
    assert debian_package("headers", "/") is None


def test_table_names_packages_as_debian_does() -> None:
    text = (files("wheelfarm_workers") / "debian_packages.toml").read_text()
    assert text.count("\n[") > 100


def test_what_a_root_filesystem_lacks_is_given_to_it_by_a_recipe() -> None:
    found = diagnose_log("ffi.c:1:10: fatal error: ffi.h: No such file or directory", "cffi")
    assert found is not None
    assert found.hint_for("") == found.hint == "The header ffi.h is not there. On Debian: apt-get install libffi-dev"
    assert found.hint_for("debian12") == (
        'The header ffi.h is not there. A recipe gives it to debian12, system-packages = ["libffi-dev"], '
        "and then: wheelfarm target derive debian12"
    )
