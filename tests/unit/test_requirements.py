import codecs
import os
from pathlib import Path

import pytest

from tests.support.values import make_sdist
from wheelfarm.errors import DirectReferenceRefused, HashMismatch, InputError, OptionRefused
from wheelfarm.requirements import Requirements, parse_requirement, read_requirements

HASH = "ab" * 32


def read(tmp_path: Path, text: str | bytes) -> Requirements:
    path = tmp_path / "requirements.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_requirements([], [path], [])


def test_arguments_come_before_files_in_the_order_given(tmp_path: Path) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text("b\n")
    second.write_text("c\n")
    assert read_requirements(["a"], [first, second], []).lines == ("a", "b", "c")


def test_comments_blank_lines_and_continuations_are_joined_as_pip_joins_them(tmp_path: Path) -> None:
    text = "# a comment \\\nfirst  # trailing\n\nsecond>=1, \\\n  <2\nthird#notacomment==1\n"
    with pytest.raises(InputError, match="line 6"):
        read(tmp_path, text)
    assert read(tmp_path, text.replace("#notacomment", "")).lines == ("first", "second<2,>=1", "third==1")


def test_file_that_ends_within_a_continuation_keeps_its_last_line(tmp_path: Path) -> None:
    assert read(tmp_path, "first\nsecond \\").lines == ("first", "second")


def test_error_names_the_line_that_a_continued_requirement_begins_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"requirements\.txt line 2"):
        read(tmp_path, "first\nsecond \\\n ??? \\\n\n")


def test_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbffirst\r\nsecond\r\n").lines == ("first", "second")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encoding_is_told_by_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    text = "# größer\r\nfirst\r\nsecond\r\n"
    assert read(tmp_path, mark + text.encode(encoding)).lines == ("first", "second")


def test_encoding_is_told_by_a_comment(tmp_path: Path) -> None:
    text = "#!/usr/bin/env pip\n# -*- coding: latin-1 -*-\nfirst  # größer\n"
    assert read(tmp_path, text.encode("latin-1")).lines == ("first",)
    with pytest.raises(InputError, match="can't be read"):
        read(tmp_path, text.replace("latin-1", "klingon").encode("latin-1"))


def test_variables_are_filled_in_as_pip_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED", "first>=1")
    monkeypatch.setenv("FOLDER", "more")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "bounds.txt").write_text("first<2\n")
    found = read(tmp_path, "${WANTED}\nsecond\n-c ${FOLDER}/bounds.txt\n")
    assert (found.lines, found.constraints) == (("first>=1", "second"), ("first<2",))
    for line in ("$WANTED", "${wanted}", "${UNSET_HERE}"):
        with pytest.raises(InputError):
            read(tmp_path, line)


def test_value_of_a_variable_can_add_no_line_and_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANTED", "first\n--index-url https://evil.example")
    with pytest.raises(InputError):
        read(tmp_path, "${WANTED}")


@pytest.mark.parametrize(
    "line",
    [
        "app @ https://me:${SECRET}@x.example/app.whl",
        "--index-url https://me:hunter2@x.example/simple",
        "--extra-index-url https://${SECRET}@x.example/simple",
        "-e git+https://hunter2@x.example/app",
        "https://me:hunter2@x.example/app.tar.gz",
        "app ???${SECRET}",
        "-r ${SECRET}/absent.txt",
    ],
)
def test_secrets_of_a_line_are_in_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    with pytest.raises(InputError) as caught:
        read(tmp_path, line)
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_other_digests_are_passed_over_beside_a_sha256(tmp_path: Path) -> None:
    line = f"first==1 --hash=sha512:{'cd' * 64} --hash=sha256:{HASH} --hash=sha384:{'cd' * 48}\n"
    assert read(tmp_path, line).hashes == {"first": frozenset({HASH})}
    with pytest.raises(InputError, match="no sha256"):
        read(tmp_path, line.replace(f"--hash=sha256:{HASH}", ""))


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://evil.example/simple",
        "--extra-index-url=https://evil.example/simple",
        "-i https://evil.example/simple",
        "-f https://evil.example/files",
        "--find-links ./wheels",
        "--no-binary :none:",
        "--only-binary :all:",
        "--trusted-host evil.example",
        "--editable .",
        "--prefer-binary",
        "--no-index",
        "--pre yes",
        "--use-feature fast-deps",
        "-r nul\0.txt",
    ],
)
def test_option_is_refused_by_name(tmp_path: Path, line: str) -> None:
    option = line.replace("=", " ").split()[0]
    with pytest.raises(InputError, match=option):
        read(tmp_path, f"first\n{line}\n")


@pytest.mark.parametrize(
    "option", ["--config-settings=x=y", "--global-option=x", "--hash=md5:0", f"--hash=sha512:{HASH}"]
)
def test_option_of_a_requirement_other_than_sha256_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(InputError, match=option):
        read(tmp_path, f"first==1 {option}\n")


def test_option_of_a_requirement_with_an_open_quote_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--hash"):
        read(tmp_path, f'first==1 --hash="sha256:{HASH}\n')


def test_included_files_are_found_beside_the_file_that_includes_them(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.txt").write_text("a\n-r b.txt\n")
    (tmp_path / "more" / "b.txt").write_text("b\n")
    assert read(tmp_path, "-r more/a.txt\nlast\n").lines == ("a", "b", "last")


def test_included_constraints_stay_constraints_however_they_include_others(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a<2\n-r d.txt\n")
    (tmp_path / "d.txt").write_text("b<3\n")
    found = read(tmp_path, "a\n--constraint=c.txt\n")
    assert (found.lines, found.constraints) == (("a",), ("a<2", "b<3"))


def test_file_may_be_included_twice_but_not_by_itself(tmp_path: Path) -> None:
    (tmp_path / "shared.txt").write_text("shared\n")
    assert read(tmp_path, "-r shared.txt\n-r shared.txt\n").lines == ("shared", "shared")
    (tmp_path / "shared.txt").write_text("-r requirements.txt\n")
    with pytest.raises(InputError, match="includes itself"):
        read(tmp_path, "-r shared.txt\n")


def test_file_that_includes_itself_by_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alias.txt").symlink_to("requirements.txt")
    with pytest.raises(InputError, match="includes itself"):
        read(tmp_path, "-r alias.txt\n")


@pytest.mark.parametrize("name", ["absent.txt", "loop.txt", "folder"])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="can't be read"):
        read(tmp_path, f"-r {name}\n")


def test_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read(tmp_path, b"caf\xe9\n")


@pytest.mark.parametrize("separator", [" ", " \\\n    ", "\t"])
def test_hashes_are_taken_off_the_requirement(tmp_path: Path, separator: str) -> None:
    found = read(tmp_path, f"My_App==1{separator}--hash=sha256:{HASH}{separator}--hash=sha256:{'cd' * 32}\n")
    assert found.lines == ("My_App==1",)
    assert found.hashes == {"my-app": {HASH, "cd" * 32}}


@pytest.mark.parametrize("value", [f"sha256:{HASH.upper()}", f"sha256:{HASH[:-1]}", "sha256:", HASH])
def test_malformed_hash_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(InputError, match="--hash"):
        read(tmp_path, f"app==1 --hash={value}\n")


def test_sdist_with_another_hash_than_allowed_is_a_mismatch() -> None:
    sdist = make_sdist()
    Requirements(hashes={"app": frozenset({sdist.sha256}), "other": frozenset({HASH})}).check_hashes([sdist])
    with pytest.raises(HashMismatch, match=sdist.sha256):
        Requirements(hashes={"app": frozenset({HASH})}).check_hashes([sdist])


@pytest.mark.parametrize(
    "text",
    [
        "app @ https://example.org/app.tar.gz",
        "app @ file:///etc/passwd",
        "app @ git+https://example.org/app",
        "https://example.org/app-1.0.tar.gz",
        "git+ssh://example.org/app",
        "./app",
        "../app",
        "/srv/app",
        "app-1.0-py3-none-any.whl",
        "app-1.0.tar.gz",
        "app.zip",
    ],
)
def test_direct_reference_is_refused_as_one(text: str) -> None:
    with pytest.raises(DirectReferenceRefused, match="command line"):
        parse_requirement(text, origin="command line")


@pytest.mark.parametrize(
    "text", ["", "app ==", "app>>1", "app; nonsense == 'x'", "--pre", "app\nother", "a b", "app; " + "(" * 5000]
)
def test_malformed_requirement_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="place"):
        parse_requirement(text, origin="place")


@pytest.mark.parametrize(
    "text",
    [
        r"""app; os_name == "x' or os_name == \"y\" # \n--index-url=http://evil.example\nb; os_name == 'x" """,
        "app; os_name == 'a\tb'",
        r"app; os_name == '\x1b'",
        "app===1\\",
    ],
)
def test_marker_string_cannot_begin_a_line_of_the_resolvers_input(text: str) -> None:
    with pytest.raises(InputError):
        parse_requirement(text, origin="place")


@pytest.mark.parametrize(
    "text", ["App", "app[extra]>=1,<2", "app==1.*; python_version < '3'", "app===1.0-odd", "a\t>=1"]
)
def test_requirement_of_a_name_is_accepted(text: str) -> None:
    assert parse_requirement(text, origin="place").url is None


def test_nothing_to_do_is_an_error_that_says_how_to_ask(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Nothing to do") as caught:
        read(tmp_path, "# nothing\n")
    assert "wheelfarm install" in caught.value.hint


def test_option_in_an_argument_is_refused() -> None:
    with pytest.raises(InputError, match="--index-url"):
        read_requirements(["app --index-url=https://evil.example/simple"], [], [])


@pytest.mark.parametrize("line", ["-i https://x.example/", "--find-links=wheels", "--trusted-host x.example"])
def test_other_index_is_refused_with_what_to_do_instead(tmp_path: Path, line: str) -> None:
    with pytest.raises(OptionRefused, match="source index alone") as caught:
        read(tmp_path, f"{line}\nfirst\n")
    assert "WHEELFARM_INDEX" in caught.value.hint


@pytest.mark.parametrize(
    "line", ["--only-binary :all:", "--only-binary=numpy", "--prefer-binary", "--no-binary :none:"]
)
def test_prebuilt_wheels_are_refused_with_the_reason(tmp_path: Path, line: str) -> None:
    with pytest.raises(OptionRefused, match="builds everything from source"):
        read(tmp_path, f"{line}\nfirst\n")


@pytest.mark.parametrize("line", ["--no-binary :all:", "--no-binary=first", "--only-binary=:none:"])
def test_what_the_farm_does_anyway_may_be_asked_for(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, f"{line}\nfirst\n").lines == ("first",)


def test_editable_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    for line in ("-e ./lib", "-e./lib", "--editable=./lib", "--editable ./lib"):
        with pytest.raises(OptionRefused, match=r"line 1: --editable \./lib") as caught:
            read(tmp_path, line)
        assert "wheelfarm install ./lib" in caught.value.hint
    with pytest.raises(OptionRefused, match="command line"):
        read_requirements([], [], [], editables=["./lib"])


def test_prereleases_and_required_hashes_are_asked_for_in_a_file_too(tmp_path: Path) -> None:
    found = read(tmp_path, "--pre\n--require-hashes\nfirst\n")
    assert (found.prerelease, found.require_hashes) == (True, True)
    assert read_requirements(["first"], [], [], prerelease=True).prerelease


def test_required_hash_that_is_missing_is_told_with_the_line_that_gives_it(tmp_path: Path) -> None:
    sdist = make_sdist()
    with pytest.raises(HashMismatch, match="require-hashes") as caught:
        read(tmp_path, "--require-hashes\nother\n").check_hashes([sdist])
    assert f"--hash=sha256:{sdist.sha256}" in caught.value.hint


def test_hashes_of_constraints_count(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(f"app==1 --hash=sha256:{HASH}\n")
    assert read(tmp_path, "app\n-c c.txt\n").hashes == {"app": {HASH}}


def test_requirements_file_at_a_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a URL"):
        read_requirements([], [Path("https://x.example/requirements.txt")], [])


def test_extras_without_a_project_are_refused() -> None:
    with pytest.raises(InputError, match="--extra"):
        read_requirements(["app"], [], [], extras=["test"])


def test_requirements_without_a_project_keep_all_else() -> None:
    given = Requirements(lines=("App[x]>=1", "other; python_version > '3'"), constraints=("app<2",))
    assert given.without({"app"}) == Requirements(lines=("other; python_version > '3'",), constraints=("app<2",))
    assert given.without({"something"}) == given


def test_requirements_file_without_an_end_is_refused() -> None:
    with pytest.raises(InputError, match="larger than"):
        read_requirements([], [Path("/dev/zero")], [])


def test_requirements_file_may_be_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"first\n")
    os.close(writing)
    assert read_requirements([], [Path(f"/dev/fd/{reading}")], []).lines == ("first",)
    os.close(reading)
