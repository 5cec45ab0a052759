"""Every token of a farm is exchanged while it goes on, in the order that docs/operations.md tells."""

import signal

from tests.acceptance.conftest import Home, wait_until
from tests.support.fleet import SeparateFarm, separate_farm
from tests.support.projects import Project

NEW = "n" * 43


def test_tokens_of_farm_and_client_are_exchanged_while_it_goes_on(home: Home) -> None:
    home.upstream.add(*(Project(name=name) for name in ("one", "two", "three")))
    folder = home.root / "farm"
    folder.mkdir()
    tokens = {"WHEELFARM_TOKENS": str(folder / "tokens.toml")}
    first = _create(home, tokens, "ci-1", "build")
    between = _create(home, tokens, "between", "admin")
    with separate_farm(folder, home.upstream.url, **tokens) as farm:
        farm.start_broker()
        farm.start_services()
        _start_worker(home, farm, "w1", first, token="")
        _builds(home, farm, first, "one")

        second = _create(home, tokens, "ci-2", "build")
        _start_worker(home, farm, "w2", second, token=between)
        _end(farm, "w1")
        _end(farm, "services")
        farm.settings["WHEELFARM_TOKEN"] = NEW
        farm.start_services()
        _builds(home, farm, second, "two")

        _start_worker(home, farm, "w3", second, token="")
        _end(farm, "w2")
        for token in ("between", "ci-1"):
            assert home.run("token", "revoke", token, environment=tokens).code == 0
        _builds(home, farm, second, "three")
        refused = home.run("status", environment=_client(farm, first))
    assert refused.code != 0
    assert "revoked" in refused.err
    assert not [secret for secret in (first, second, between, NEW) if secret in farm.logs()]


def _create(home: Home, tokens: dict[str, str], name: str, scope: str) -> str:
    made = home.run("token", "create", "--id", name, "--scope", scope, environment=tokens)
    assert made.code == 0, made.err
    return made.out.strip()


def _client(farm: SeparateFarm, token: str) -> dict[str, str]:
    return {**farm.client, "WHEELFARM_TOKEN": token}


def _start_worker(home: Home, farm: SeparateFarm, name: str, client: str, *, token: str) -> None:
    """Start a worker with the farm's own token, or another, and wait until it serves."""
    farm.start_worker(name, "--slots", "1", settings={"WHEELFARM_TOKEN": token} if token else None)
    served = wait_until(lambda: f"{name} " in home.run("status", environment=_client(farm, client)).out, 120)
    assert served, farm.logs()


def _builds(home: Home, farm: SeparateFarm, token: str, project: str) -> None:
    done = home.run("build", project, environment=_client(farm, token))
    assert done.code == 0, done.err + farm.logs()


def _end(farm: SeparateFarm, name: str) -> None:
    farm.parts[name].signal(signal.SIGTERM)
    assert farm.parts[name].process.wait(120) == 0
