from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from wheelfarm.errors import InputError
from wheelfarm.token_file import TOKEN, Scope, TokenRecord, digest, new_token, parse_token_file, read_token_file

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SHA256 = digest("anything")


def record(token: str, **facts: object) -> TokenRecord:
    return TokenRecord(**{"id": "ci", "sha256": digest(token), "scope": Scope.READ, **facts})  # type: ignore[arg-type]


def test_new_tokens_are_recognisable_and_never_the_same() -> None:
    made = {new_token("ci-1") for _ in range(100)}
    assert len(made) == 100
    assert all(found and found[1] == "ci-1" for found in map(TOKEN.fullmatch, made))


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a" * 33, "a\n"])
def test_what_can_not_be_an_id_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        new_token(name)


def test_token_is_accepted_until_it_expires_or_is_revoked() -> None:
    token = new_token("ci")
    assert record(token).accepts(token, NOW)
    assert not record(token).accepts(token[:-1], NOW)
    assert record(token, expires=NOW + timedelta(seconds=1)).accepts(token, NOW)
    assert not record(token, expires=NOW).accepts(token, NOW)
    assert not record(token, revoked=True).accepts(token, NOW)


def test_scopes_include_the_lesser_ones() -> None:
    assert [scope for scope in Scope if Scope.BUILD.includes(scope)] == [Scope.READ, Scope.BUILD]


def test_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(
        f"""
        [tenants.team-a]
        open_jobs = 5
        [tokens.ci]
        sha256 = "{SHA256}"
        scopes = ["read", "build"]
        targets = ["host-*"]
        tenant = "team-a"
        expires = 2027-01-31
        note = "the team's CI"
        requests_per_minute = 600
        """
    )
    found = read_token_file(path)
    assert found.open_jobs == {"team-a": 5}
    assert found.tokens["ci"] == TokenRecord(
        id="ci",
        sha256=SHA256,
        scope=Scope.BUILD,
        targets=("host-*",),
        tenant="team-a",
        expires=datetime(2027, 1, 31, tzinfo=UTC),
        note="the team's CI",
        requests_per_minute=600,
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"sha256": "abc"}, "sha256"),
        ({"sha256": SHA256 + "\n"}, "sha256"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "read, build, admin"),
        ({"scopes": [["read"]]}, "scopes"),
        ({"targets": []}, "leave it out"),
        ({"targets": "host"}, "list"),
        ({"tenant": "Team A"}, "tenant"),
        ({"tenant": ""}, "tenant"),
        ({"expires": "2027-01-31"}, "date"),
        ({"revoked": 1}, "true or false"),
        ({"requests_per_minute": True}, "whole number"),
        ({"secret": "x"}, "secret: unknown"),
    ],
)
def test_malformed_token_is_told_and_gives_no_access(fields: dict[str, object], told: str) -> None:
    found, wrong = parse_token_file({"tokens": {"ci": {"sha256": SHA256, "scopes": ["read"], **fields}}})
    assert not found.tokens
    assert len(wrong) == 1
    assert wrong[0].startswith("tokens.ci: ")
    assert told in wrong[0]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    _, wrong = parse_token_file(
        {"tokens": {"ci": {"scopes": ["read"]}, "B": 3}, "tenants": {"a": {"open_jobs": -1}, "b": {}}}
    )
    assert sorted({line.partition(":")[0] for line in wrong}) == ["tenants.a", "tenants.b", "tokens.B", "tokens.ci"]
    assert parse_token_file({"keys": {}, "tokens": []})[1] == [
        "keys: is no part of a token file (tokens, tenants)",
        "tokens: a table is expected",
    ]


@pytest.mark.parametrize("data", [b"[tokens", b"\xff\xfe", b"tokens = 1"])
def test_unreadable_file_is_an_input_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tokens.toml"
    path.write_bytes(data)
    with pytest.raises(InputError, match="token file"):
        read_token_file(path)
    with pytest.raises(InputError, match="can't be read"):
        read_token_file(tmp_path)
