import shutil
import ssl
from pathlib import Path

import httpx
import pytest

from wheelfarm.client_check import _is_within, _last_line, _write_project
from wheelfarm.client_configuration import Client
from wheelfarm.recording_proxy import RecordingProxy

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, for certificates, is not installed"
)


@needs_openssl
def test_proxy_notes_urls_without_credentials_and_answers_404() -> None:
    with RecordingProxy() as proxy:
        with httpx.Client(proxy=proxy.environment["HTTPS_PROXY"], verify=_trusted(proxy)) as http:
            statuses = [
                http.get(url).status_code
                for url in (
                    "http://user:secret@index.example/simple/x/?token=secret",
                    "https://user:secret@index.example/simple/x/",
                    "https://10.1.2.3:8443/simple/y/",
                    "https://index.example/simple/x/",
                )
            ]
        assert statuses == [404] * 4
        assert proxy.asked == [
            "http://index.example/simple/x/",
            "https://index.example/simple/x/",
            "https://10.1.2.3:8443/simple/y/",
        ]


def test_host_of_those_who_trust_no_one_is_noted() -> None:
    with RecordingProxy() as proxy:
        with httpx.Client(proxy=proxy.environment["HTTPS_PROXY"]) as http, pytest.raises(httpx.HTTPError):
            http.get("https://index.example/simple/x/")
        assert proxy.asked == ["https://index.example/"]


@pytest.mark.parametrize(
    ("place", "within"),
    [
        ("https://farm.example/simple/t1/", True),
        ("https://farm.example/simple/t1/six/", True),
        ("https://farm.example/simple/t11/", False),
        ("https://farm.example/simple/", False),
        ("https://farm.example.evil/simple/t1/", False),
        ("http://farm.example/simple/t1/", False),
    ],
)
def test_only_what_lies_below_the_index_is_the_farms(place: str, within: bool) -> None:
    assert _is_within(place, ["https://farm.example/simple/t1/"]) is within


def test_credentials_are_left_out_of_what_a_client_said() -> None:
    assert _last_line("x\n 401 for https://u:p@h.example/simple\n\n") == "401 for https://…@h.example/simple"


def test_project_of_a_client_keeps_its_sources_alone(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "here" / "pyproject.toml").write_text(
        '[project]\nname = "mine"\ndynamic = ["version"]\n[[tool.pdm.source]]\nname = "pypi"\nurl = "https://a.example"\n'
        "verify_ssl = true\n"
    )
    _write_project(Client.PDM, tmp_path / "here", tmp_path / "there")
    written = (tmp_path / "there" / "pyproject.toml").read_text()
    assert written.endswith('[[tool.pdm.source]]\nname = "pypi"\nurl = "https://a.example"\nverify_ssl = true\n')
    assert "mine" not in written


def _trusted(proxy: RecordingProxy) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=proxy.environment["SSL_CERT_FILE"])
