import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import httpx
import pytest

from tests.support.asgi import asgi_client
from tests.support.values import make_target
from tests.unit.test_api import PATHS, SOURCE, STATIC, TOKEN, Farm, basic, submit
from wheelfarm.token_file import Scope, digest, new_token
from wheelfarm_services import layout
from wheelfarm_services.access import Access
from wheelfarm_services.rate_limits import RateLimits

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TARGET = make_target()


class FakeLimits:
    """Lets everybody wait for as long as it is told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.wait = 0.0

    def wait_s(self, token: str, per_minute: int) -> float:
        self.asked.append((token, per_minute))
        return self.wait


class TokenFarm(Farm):
    """A farm with a token file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tokens.toml"
        self.tokens: dict[str, tuple[str, dict[str, object]]] = {}
        self.tenants: dict[str, int] = {}
        self.write()
        self.fake_limits = FakeLimits()
        self.now = NOW
        self.access = Access(TOKEN, self.file, now=lambda: self.now)
        super().__init__(folder, access=self.access, limits=cast(RateLimits, self.fake_limits))

    def add(self, name: str, scope: Scope = Scope.READ, **facts: object) -> httpx.Client:
        """A client with a new token."""
        token = new_token(name)
        self.tokens[name] = (token, {"sha256": digest(token), "scopes": [scope.value], **facts})
        self.write()
        return self.client_of(token)

    def client_of(self, token: str) -> httpx.Client:
        return asgi_client(self.app, Authorization=f"Bearer {token}")

    def write(self) -> None:
        lines = [line for name, most in self.tenants.items() for line in (f"[tenants.{name}]", f"open_jobs = {most}")]
        for name, (_, facts) in self.tokens.items():
            lines += [f"[tokens.{name}]", *(f"{fact} = {_toml(value)}" for fact, value in facts.items())]
        replacement = self.file.with_suffix(".new")
        replacement.write_text("\n".join(lines))
        replacement.replace(self.file)


def _toml(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else json.dumps(value)


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[TokenFarm]:
    farm = TokenFarm(tmp_path)
    with farm.client:
        farm.requests.register(TARGET)
        yield farm


def test_token_made_while_the_farm_runs_is_known_at_once_and_unknown_once_revoked(farm: TokenFarm) -> None:
    client = farm.add("ci")
    assert client.get("/status").status_code == 200
    farm.tokens["ci"][1]["revoked"] = True
    farm.write()
    assert client.get("/status").status_code == 401


def test_expired_token_is_unknown(farm: TokenFarm) -> None:
    client = farm.add("ci", expires=NOW + timedelta(minutes=1))
    assert client.get("/status").status_code == 200
    farm.now += timedelta(minutes=1)
    assert client.get("/status").status_code == 401


def test_token_with_an_unknown_id_or_a_changed_secret_is_unknown_on_every_path(farm: TokenFarm) -> None:
    farm.add("ci")
    known = farm.tokens["ci"][0]
    for token in (new_token("other"), new_token("ci"), known[:-1] + ("A" if known[-1] != "A" else "B"), known + "A"):
        for method, path in PATHS:
            answer = farm.client_of(token).request(method, path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Basic")


def test_token_is_taken_from_pip_and_uv_as_basic_password(farm: TokenFarm) -> None:
    farm.add("ci")
    for user in ("__token__", "ab" * 16):
        client = asgi_client(farm.app, Authorization=basic(user, farm.tokens["ci"][0]))
        assert client.get(SOURCE + "app/").status_code == 200


def test_file_that_is_broken_while_the_farm_runs_changes_nothing(farm: TokenFarm) -> None:
    client = farm.add("ci")
    assert client.get("/status").status_code == 200
    farm.file.write_text("[tokens.ci]\nscopes = 3")
    assert client.get("/status").status_code == 200


def test_file_that_is_removed_while_the_farm_runs_takes_its_tokens_along(
    farm: TokenFarm, caplog: pytest.LogCaptureFixture
) -> None:
    client = farm.add("ci")
    kept = farm.file.read_bytes()
    farm.file.unlink()
    assert client.get("/status").status_code == 401
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "token file gone, none of its tokens is taken"
    ]
    farm.file.write_bytes(kept)
    assert client.get("/status").status_code == 200


def test_what_a_scope_lacks_is_named(farm: TokenFarm) -> None:
    answer = submit(farm, client=farm.add("ci"))
    assert answer.status_code == 403
    assert answer.json()["error"] == "forbidden"
    assert "'ci'" in answer.json()["message"]
    assert "'build'" in answer.json()["message"]
    assert submit(farm, client=farm.add("builder", Scope.BUILD)).status_code == 202
    assert submit(farm, client=farm.add("root", Scope.ADMIN)).status_code == 202


def test_token_is_for_its_targets_alone(farm: TokenFarm) -> None:
    other = farm.add("other", Scope.BUILD, targets=["debian12-*"])
    mine = farm.add("mine", Scope.BUILD, targets=["host-*"])
    assert submit(farm, client=other).status_code == 403
    assert other.get(SOURCE + "app/").status_code == 403
    for path in ("flat/{}/", "simple/{}/", "simple/{}/app/", "combined/debian12-x,{}/", "combined/debian12-x,{}/app/"):
        assert other.get(path.format(TARGET.name)).status_code == 403
    assert other.put(f"/targets/{TARGET.name}/{TARGET.revision}", json=TARGET.to_json()).status_code == 403
    assert "host-cp311-0badcafe" in other.get(f"/explanations/{TARGET.name}").json()["message"]
    assert mine.get(SOURCE + "app/").status_code == 200
    assert submit(farm, client=mine).status_code == 202


@pytest.mark.parametrize("path", ["/status?token=x", "/status?a=b&Access_Token=x", "/status?x={}", "/wheels/00/{}"])
def test_token_in_a_url_is_refused_with_and_without_one_in_the_header(farm: TokenFarm, path: str) -> None:
    token = new_token("ci")
    for client in (farm.client, asgi_client(farm.app)):
        answer = client.get(path.format(token))
        assert answer.status_code == 400
        assert "URL" in answer.json()["message"]
        assert token not in answer.text


def test_token_that_is_used_too_often_is_told_when_to_come_back(farm: TokenFarm) -> None:
    client = farm.add("ci", requests_per_minute=60)
    assert client.get("/status").status_code == 200
    farm.fake_limits.wait = 3.2
    answer = client.get("/status")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "4")
    assert farm.fake_limits.asked == [("ci", 60), ("ci", 60)]
    assert farm.client.get("/status").status_code == 200
    assert asgi_client(farm.app).get("/healthz").status_code == 200


def test_changes_and_refusals_are_in_the_audit_log_without_a_secret(
    farm: TokenFarm, caplog: pytest.LogCaptureFixture
) -> None:
    client = farm.add("ci", Scope.BUILD, tenant="team-a")
    reader = farm.add("reader")
    with caplog.at_level(logging.INFO, "wheelfarm.audit"):
        submit(farm, client=client)
        client.get("/status")
        client.delete(f"/requests/{'ab' * 16}")
        submit(farm, client=reader)
        asgi_client(farm.app, Authorization=f"Bearer {TOKEN}x").get("/status")
    lines = [json.loads(record.message) for record in caplog.records if record.name == "wheelfarm.audit"]
    found = [(line["token"], line["action"], line["status"]) for line in lines]
    assert found == [
        ("ci", "submitRequest", 202),
        ("ci", "closeRequest", 204),
        ("reader", "submitRequest", 403),
        ("", "refused", 401),
    ]
    assert lines[1]["id"] == "ab" * 16
    assert lines[0]["tenant"] == "team-a"
    assert not any(secret in caplog.text for secret in (TOKEN, farm.tokens["ci"][0], farm.tokens["reader"][0]))


def test_answers_that_are_no_operations_are_json_too(farm: TokenFarm) -> None:
    assert farm.client.get("/nothing").json()["error"] == "not-found"
    answer = farm.client.put("/requests", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"] == "method-not-allowed"
    allowed = farm.client.post(f"/requests/{'ab' * 16}").headers["allow"]
    assert set(allowed.split(", ")) == {"DELETE", "GET", "HEAD", "PATCH"}


def test_unknown_fault_tells_nothing_of_itself(farm: TokenFarm) -> None:
    farm.ledger.errors["ping"] = ValueError("a secret")
    answer = asgi_client(farm.app).get("/readyz")
    assert answer.status_code == 500
    assert "a secret" not in answer.text


def test_token_that_may_only_read_has_no_list_of_sdists_brought(farm: TokenFarm) -> None:
    sdist = farm.sdist(STATIC)
    body = {"target": TARGET.name, "target_revision": TARGET.revision, "sdists": [asdict(sdist)]}
    (unknown,) = farm.add("reader").post("/forecasts", json=body).json()
    assert "not here yet" in unknown["doubts"][0]["text"]
    assert farm.store.size(layout.sdist(sdist.sha256)) is None
    (known,) = farm.add("builder", Scope.BUILD).post("/forecasts", json=body).json()
    assert known["doubts"] == []
    assert farm.store.size(layout.sdist(sdist.sha256)) is not None
