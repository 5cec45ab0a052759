from pathlib import Path

import pytest

from wheelfarm.errors import InputError
from wheelfarm_services.upstreams import UpstreamSettings
from wheelfarm_services.upstreams.configuration import read_upstreams
from wheelfarm_services.upstreams.settings import Routes

WHOLE = """
internal = ["Acme_*"]

[[upstream]]
name = "corp"
url = "https://pypi.corp.example/simple/"
serves = ["acme-*", "Secret.Sauce"]
public = false
username = "robot"
password-env = "CORP_PASSWORD"
ca = "corp.pem"
retries = 5
timeout = 10
requests-per-s = 2.5
ignore-error-codes = [403]
trust-metadata = true

[[upstream]]
name = "wheelhouse"
url = "file:///srv/sdists"
serves = ["local-*"]

[[upstream]]
name = "links"
url = "https://links.example/"
kind = "flat"
netrc = true
"""


def read(folder: Path, text: str) -> Routes:
    path = folder / "upstreams.toml"
    path.write_text(text)
    return read_upstreams(path)


def problem(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    return caught.value.message


def upstream(more: str = "", name: str = "one", url: str = "https://index.example/simple/") -> str:
    return f'[[upstream]]\nname = "{name}"\nurl = "{url}"\n{more}\n'


def test_everything_that_can_be_said_is_read(tmp_path: Path) -> None:
    routes = read(tmp_path, WHOLE)
    assert routes.internal == ("acme-*",)
    assert routes.upstreams == (
        UpstreamSettings(
            name="corp",
            url="https://pypi.corp.example/simple/",
            serves=("acme-*", "secret-sauce"),
            public=False,
            username="robot",
            password_env="CORP_PASSWORD",  # noqa: S106
            ca=tmp_path / "corp.pem",
            retries=5,
            timeout=10.0,
            requests_per_s=2.5,
            ignore_error_codes=(403,),
            trust_metadata=True,
        ),
        UpstreamSettings(name="wheelhouse", url="file:///srv/sdists", kind="directory", serves=("local-*",)),
        UpstreamSettings(name="links", url="https://links.example/", kind="flat", netrc=True),
    )


@pytest.mark.parametrize(
    ("name", "asked"),
    [("acme-app", ["corp"]), ("secret-sauce", ["corp"]), ("local-x", ["wheelhouse"]), ("requests", ["links"])],
)
def test_pinned_name_is_asked_of_nobody_else(tmp_path: Path, name: str, asked: list[str]) -> None:
    assert [one.name for one in read(tmp_path, WHOLE).asked_for(name)] == asked


def test_upstreams_without_patterns_are_asked_in_order(tmp_path: Path) -> None:
    routes = read(tmp_path, upstream(name="first") + upstream(name="second"))
    assert [one.name for one in routes.asked_for("app")] == ["first", "second"]


def test_internal_name_that_nobody_serves_by_pattern_is_asked_of_no_public_upstream(tmp_path: Path) -> None:
    text = 'internal = ["acme-*"]\n' + upstream("public = false", name="own") + upstream(name="world")
    assert [one.name for one in read(tmp_path, text).asked_for("acme-app")] == ["own"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "upstream"),
        ("upstream = 3", "upstream"),
        ("[[upstream]]\n", "name"),
        (upstream(name="a b"), "name"),
        (upstream(url="index.example/simple"), "begins with https://"),
        (upstream(url="ftp://index.example/"), "begins with https://"),
        (upstream(url="https://user:hunter2@index.example/"), "holds credentials"),
        (upstream('kind = "flat"', url="file:///srv"), "does not go with"),
        (upstream('kind = "nested"'), "kind"),
        (upstream("ignore-error-codes = [404]"), "404 means absent anyway"),
        (upstream("ignore-error-codes = [200]"), "ignore-error-codes"),
        (upstream('serves = ["a/b"]'), "serves"),
        (upstream("retries = -1"), "retries"),
        (upstream('timeout = "10"'), "timeout"),
        (upstream("verify-ssl = false"), "verify-ssl"),
        (upstream('username = "u"'), "belong together"),
        (upstream('password-env = "P"'), "belong together"),
        (upstream('username = "u"\npassword-env = "P"\nkeyring = true'), "exclude each other"),
        (upstream() + upstream(), "two upstreams are named 'one'"),
        (
            upstream('serves = ["a-*"]') + upstream('serves = ["A_*"]', name="two"),
            "'a-*' of 'one' and 'a-*' of 'two' may stand for the same name",
        ),
        ('internal = ["a-*"]\n' + upstream('serves = ["a-*"]'), "is public"),
        ('internal = ["a-*"]\n' + upstream(), "no upstream with public = false"),
        ("internl = []\n" + upstream(), "internl"),
        ("name = ", "can't be read"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, told: str) -> None:
    found = problem(tmp_path, text)
    assert told in found
    assert "hunter2" not in found


def test_all_that_is_wrong_is_told_at_once_with_the_upstream_that_it_is_of(tmp_path: Path) -> None:
    found = problem(tmp_path, upstream("retries = 99\ncolour = 1") + upstream("timeout = 0", name="two"))
    assert "upstream 'one' retries" in found
    assert "upstream 'one' colour" in found
    assert "upstream 'two' timeout" in found
