import pytest

from tests.support.values import make_interpreter
from wheelfarm.errors import InputError, NotFound
from wheelfarm.interpreter import arch_of, chosen, named_like_standalone, newest_by_key, parsed_key

LINUX = "linux-x86_64-gnu"


@pytest.mark.parametrize(
    ("filename", "key", "build"),
    [
        (
            "cpython-3.12.1+20261120-x86_64-unknown-linux-gnu-install_only.tar.gz",
            "cpython-3.12.1-linux-x86_64-gnu",
            "20261120",
        ),
        (
            "cpython-3.13.0rc2+20240909-x86_64_v3-unknown-linux-musl-install_only_stripped.tar.gz",
            "cpython-3.13.0rc2-linux-x86_64_v3-musl",
            "20240909",
        ),
        (
            "cpython-3.13.1+20250106-aarch64-unknown-linux-gnu-freethreaded+pgo+lto-full.tar.zst",
            "cpython-3.13.1+freethreaded-linux-aarch64-gnu",
            "20250106",
        ),
        (
            "cpython-3.14.0+20251007-x86_64-unknown-linux-gnu-freethreaded+debug-full.tar.zst",
            "cpython-3.14.0+freethreaded+debug-linux-x86_64-gnu",
            "20251007",
        ),
        (
            "cpython-3.12.1+20240107-armv7-unknown-linux-gnueabihf-debug-full.tar.zst",
            "cpython-3.12.1+debug-linux-armv7-gnueabihf",
            "20240107",
        ),
        (
            "cpython-3.12.1+20240107-aarch64-apple-darwin-pgo+lto-full.tar.zst",
            "cpython-3.12.1-darwin-aarch64-none",
            "20240107",
        ),
        (
            "cpython-3.12.1+20240107-x86_64-pc-windows-msvc-shared-install_only.tar.gz",
            "cpython-3.12.1-windows-x86_64-none",
            "20240107",
        ),
    ],
)
def test_names_of_python_build_standalone_tell_key_and_build(filename: str, key: str, build: str) -> None:
    assert named_like_standalone(filename) == (key, build)


@pytest.mark.parametrize(
    "filename", ["python.tar.gz", "cpython-3.12.1-x86_64-unknown-linux-gnu-full.tar.zst", "SHA256SUMS"]
)
def test_other_names_tell_nothing(filename: str) -> None:
    assert named_like_standalone(filename) is None


def test_keys_of_every_implementation_are_read() -> None:
    for key in (
        "pypy-3.10.14-linux-x86_64-gnu",
        "graalpy-3.11.0-linux-aarch64-gnu",
        "cpython-3.14.0a1-darwin-aarch64-none",
    ):
        assert parsed_key(key)["name"] == key.partition("-")[0]
    assert parsed_key("cpython-3.13.1+freethreaded-linux-x86_64-gnu")["variant"] == "freethreaded"
    assert parsed_key("cpython-3.14.0a1-darwin-aarch64-none")["prerelease"] == "a1"
    assert (arch_of("x86_64_v3"), arch_of("x86_64"), arch_of("armv7")) == (
        ("x86_64", "v3"),
        ("x86_64", None),
        ("armv7", None),
    )


@pytest.mark.parametrize(
    "key", ["", "3.12.1", "cpython-3.12-linux-x86_64-gnu", "cpython-3.12.1-linux-x86_64", "../x-1.1.1-a-b-c"]
)
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(InputError):
        parsed_key(key)


@pytest.mark.parametrize("change", [{"build": "../x"}, {"filename": "python.tar.xz"}, {"sha256": "0"}, {"key": "x"}])
def test_malformed_distribution_cannot_be(change: dict[str, str]) -> None:
    with pytest.raises(InputError):
        make_interpreter(**change)


def test_newest_build_is_listed_and_of_its_archives_the_one_that_uv_prefers() -> None:
    name = "cpython-3.12.1+20261120-x86_64-unknown-linux-gnu-{}.tar.gz"
    every = [
        make_interpreter(build="9", filename="nine.tar.gz"),
        make_interpreter(build="20261120", filename=name.format("full")),
        make_interpreter(build="20261120", filename=name.format("install_only")),
        make_interpreter(build="20261120", filename=name.format("install_only_stripped")),
    ]
    (newest,) = newest_by_key(every).values()
    assert newest.filename == name.format("install_only_stripped")


def test_reference_finds_its_build_or_the_newest() -> None:
    old, new = make_interpreter(build="20261120"), make_interpreter(build="20261121")
    free = make_interpreter(key=f"cpython-3.13.1+freethreaded-{LINUX}", build="20261120")
    pypy = make_interpreter(key=f"pypy-3.10.14-{LINUX}", build="7.3.17")
    every = [old, new, free, pypy]
    assert chosen("3.12.1", LINUX, every) == new
    for one in every:
        assert chosen(one.reference, LINUX, every) == one
    assert (free.reference, pypy.reference) == ("3.13.1+freethreaded+20261120", "pypy-3.10.14+7.3.17")


def test_reference_to_what_is_not_there_names_what_is() -> None:
    with pytest.raises(NotFound, match=r"It has: 3\.12\.1\+20261120"):
        chosen("3.12.1+20261121", LINUX, [make_interpreter()])
    with pytest.raises(NotFound, match="It has: none"):
        chosen("3.12.1", "linux-aarch64-gnu", [make_interpreter()])


@pytest.mark.parametrize("reference", ["", "3.12", "3.12.1+a+b", "3.12.1+", "3.12.1+20261120+debug", "host"])
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(InputError):
        chosen(reference, LINUX, [make_interpreter()])
