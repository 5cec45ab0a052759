"""A farm that is set up wrongly: everything that is wrong with it is told at start, by name, before anything runs."""

import re

from tests.acceptance.conftest import Home

SETTINGS = {
    "WHEELFARM_BROKER": "redis://127.0.0.1:1/0",
    "WHEELFARM_TOKEN": "t" * 43,
    "WHEELFARM_URL": "http://127.0.0.1:1",
}


def test_all_values_that_are_wrong_are_named(home: Home) -> None:
    wrong = {
        "WHEELFARM_BROKER": "amqp://u:hidden@host",
        "WHEELFARM_STORE": "ftp://host",
        "WHEELFARM_SLOTS": "many",
        "WHEELFARM_LEASE_S": "-1",
        "WHEELFARM_OFFLINE": "maybe",
        "WHEELFARM_S3_ADDRESSING": "sideways",
        "WHEELFARM_SHOP": "1",
    }
    for verb in ("services", "worker"):
        done = home.run(verb, environment={**SETTINGS, **wrong})
        assert done.code == 2
        assert {name for name in wrong if name in done.err} == set(wrong), done.err
        assert "hidden" not in done.err


def test_all_files_that_are_wrong_are_named_with_what_is(home: Home) -> None:
    (home.root / "recipes").mkdir()
    for name in ("one", "two"):
        (home.root / "recipes" / f"{name}.toml").write_text("recipe = 3")
    files = {
        "TOKENS": ("tokens.toml", "[tokens.ci]\nscopes = 3"),
        "POLICY": ("policy.toml", "nonsense = 1"),
        "UPSTREAMS": ("upstreams.toml", "[[upstream]]\nname = 3"),
    }
    named = {"WHEELFARM_RECIPES": str(home.root / "recipes"), "WHEELFARM_S3_CA": str(home.root / "absent.pem")}
    for name, (file, text) in files.items():
        (home.root / file).write_text(text)
        named[f"WHEELFARM_{name}"] = str(home.root / file)
    named |= {"WHEELFARM_AUDIT": str(home.root / "absent" / "audit"), "WHEELFARM_LOGS": "/proc/logs"}

    done = home.run("services", "--listen", "nowhere", environment={**SETTINGS, **named})

    assert done.code == 2
    told = ("tokens.toml", "policy.toml", "upstreams.toml", "one.toml", "two.toml", "absent.pem", "audit", "/proc/logs")
    assert [part for part in (*told, "'nowhere'") if part not in done.err] == [], done.err
    assert "Traceback" not in done.err
    assert re.search(r"\d+ settings are not accepted", done.err)


def test_services_need_a_token_to_let_anybody_in_by(home: Home) -> None:
    done = home.run("services", "--listen", "nowhere", environment={**SETTINGS, "WHEELFARM_TOKEN": ""})
    assert done.code == 2
    assert "WHEELFARM_TOKENS" in done.err


def test_all_targets_that_a_worker_cannot_serve_are_named(home: Home) -> None:
    targets = ("--target", "host:/absent/python", "--target", "no/target", "--target", "debian99-cp311")
    settings = {**SETTINGS, "WHEELFARM_STORE": str(home.root / "store")}
    done = home.run("worker", *targets, environment=settings)
    assert done.code == 2, done.err
    assert [part for part in targets[1::2] if part.removeprefix("host:") not in done.err] == [], done.err
