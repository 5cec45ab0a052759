import json
from collections.abc import Mapping

import pytest

from tests.support.values import make_sdist
from wheelfarm.errors import NoSdist, NoSolution, ProtocolError, UnknownProject
from wheelfarm.job import Sdist
from wheelfarm.resolution import Account, explained, read_lock

HEAD = 'lock-version = "1.0"\ncreated-by = "uv"\n'
SHA256 = "ab" * 32


def package(**fields: str) -> str:
    return HEAD + "[[packages]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items())


def an_sdist(url: str = "https://example.org/my_app-1.0.tar.gz", name: str = "") -> str:
    named = f"name = {json.dumps(name)}, " if name else ""
    return f'{{ {named}url = {json.dumps(url)}, hashes = {{ sha256 = "{SHA256}" }} }}'


def test_lock_gives_its_sdists_in_order() -> None:
    second = package(name='"b"', version='"2"', sdist=an_sdist("https://example.org/b-2.zip")).removeprefix(HEAD)
    found = read_lock(package(name='"my-app"', version='"1.0"', sdist=an_sdist()) + second)
    assert found.sdists == (
        Sdist(name="my-app", version="1.0", filename="my_app-1.0.tar.gz", sha256=SHA256),
        Sdist(name="b", version="2", filename="b-2.zip", sha256=SHA256),
    )


def test_file_name_is_unquoted_from_the_url_unless_the_lock_gives_it() -> None:
    quoted = an_sdist("https://example.org/a%2Bb/app-1.0%2Bcc.tar.gz?token=x#y")
    assert read_lock(package(name='"app"', version='"1.0+cc"', sdist=quoted)).sdists[0].filename == "app-1.0+cc.tar.gz"
    named = an_sdist("https://example.org/download/7", name="app-1.0.tar.gz")
    assert read_lock(package(name='"app"', version='"1.0"', sdist=named)).sdists[0].filename == "app-1.0.tar.gz"


def test_lock_without_packages_is_an_empty_resolution() -> None:
    assert read_lock(HEAD).sdists == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no lock at all",
        "lock-version = ",
        'created-by = "uv"\n',
        HEAD.replace("1.0", "9.0"),
        HEAD + 'packages = "all"\n',
        package(name='"app"', version='"1.0"'),
        package(name='"app"', sdist=an_sdist()),
        package(name='"app"', version='"1.0"', directory='{ path = "." }'),
        package(name='"app"', version='"1.0"', archive=an_sdist()),
        package(name='"app"', vcs='{ type = "git", url = "https://example.org/app", commit-id = "a" }'),
        package(name='"app"', version='"1.0"', wheels=f"[{an_sdist('https://example.org/app-1.0-py3-none-any.whl')}]"),
        package(
            name='"app"', version='"1.0"', sdist=f'{{ path = "app-1.0.tar.gz", hashes = {{ sha256 = "{SHA256}" }} }}'
        ),
        package(
            name='"app"',
            version='"1.0"',
            sdist=f'{{ url = "https://x/app-1.0.tar.gz", hashes = {{ md5 = "{SHA256}" }} }}',
        ),
        package(name='"app"', version='"1.0"', sdist=an_sdist("https://example.org/app-1.0.tar.bz2")),
        package(name='"app"', version='"1.0"', sdist=an_sdist("https://example.org/")),
    ],
)
def test_lock_of_anything_but_sdists_with_sha256_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        read_lock(text)


def account(
    *,
    unknown: tuple[str, ...] = (),
    without_sdist: Mapping[str, tuple[str, ...]] | None = None,
    with_sdist: Mapping[str, tuple[str, ...]] | None = None,
) -> Account:
    return Account(unknown=unknown, without_sdist=without_sdist or {}, with_sdist=with_sdist or {})


def test_unknown_project_is_the_explanation_before_all_others() -> None:
    error = explained(["app"], account(unknown=("aap",), without_sdist={"app": ("1.0",)}), "what uv said")
    assert type(error) is UnknownProject
    assert "aap" in error.message
    assert "what uv said" in error.hint


def test_project_with_without_sdist_lacks_an_sdist() -> None:
    error = explained(["app"], account(without_sdist={"app": ("1.0", "1.1")}, with_sdist={"app": ()}), "")
    assert type(error) is NoSdist
    assert "app has no sdist of 1.0, 1.1" in error.message


def test_only_versions_that_were_asked_for_are_named() -> None:
    without = {"app": ("1.0", "2.0")}
    error = explained(["App>=1.5"], account(without_sdist=without, with_sdist={"app": ("0.9",)}), "")
    assert type(error) is NoSdist
    assert "app has no sdist of 2.0" in error.message


def test_requirements_on_one_project_count_together() -> None:
    without = account(without_sdist={"app": ("1.0", "2.0")}, with_sdist={"app": ("3.0",)})
    error = explained(["app<3", "app>=1.5"], without, "")
    assert type(error) is NoSdist
    assert "app has no sdist of 2.0" in error.message


def test_acceptable_version_with_an_sdist_leaves_uvs_own_explanation() -> None:
    error = explained(["app", "b"], account(without_sdist={"app": ("2.0",)}, with_sdist={"app": ("1.0",)}), "because …")
    assert type(error) is NoSolution
    assert "because …" in error.message


def test_version_nobody_has_is_no_solution_rather_than_a_missing_sdist() -> None:
    assert type(explained(["app>9"], account(without_sdist={"app": ("2.0",)}), "")) is NoSolution


def test_many_versions_are_cut_to_the_newest() -> None:
    versions = tuple(f"{number}.0" for number in range(20))
    error = explained(["app"], account(without_sdist={"app": versions}), "")
    assert "12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0 and older" in error.message


def test_account_survives_its_way_over_the_wire() -> None:
    sdist = make_sdist()
    sent = {
        "pending": [{"name": "app", "version": "1.0", "filename": sdist.filename, "sha256": sdist.sha256}],
        "unknown": ["b"],
        "without_sdist": {"c": ["1"]},
        "with_sdist": {"c": []},
        "remarks": ["r"],
        "errors": [{"error": "upstream", "message": "m", "hint": ""}],
    }
    assert Account.from_json(json.loads(json.dumps(sent))) == Account(
        pending=(sdist,),
        unknown=("b",),
        without_sdist={"c": ("1",)},
        with_sdist={"c": ()},
        remarks=("r",),
        errors=({"error": "upstream", "message": "m", "hint": ""},),
    )
