from datetime import UTC, datetime
from pathlib import Path

import pytest

from wheelfarm.errors import InputError, PolicyRefused
from wheelfarm.job import Sdist
from wheelfarm.policy import Candidate, Policy
from wheelfarm.policy_file import parse_policy, read_policy_file

NOW = datetime(2030, 6, 15, 12, tzinfo=UTC)
A = "a" * 64
RULE = 'project = "app"\nreason = "R."\n'
PREBUILT = (
    f'[[prebuilt]]\nproject = "app"\nversion = "1.0"\nfilename = "app-1.0-py3-none-any.whl"\nsha256 = "{A}"\n'
    'reason = "No sources."\nexpires = 2030-06-15\n'
)


def policy(text: str) -> Policy:
    return parse_policy(text, origin="policy.toml").policy


def candidate(name: str = "app", version: str = "1.0", *, uploaded: str = "", filename: str = "") -> Candidate:
    sdist = Sdist(name=name, version=version, filename=filename or f"{name}-{version}.tar.gz", sha256=A)
    return Candidate(sdist=sdist, upload_time=uploaded)


def test_empty_policy_refuses_nothing() -> None:
    assert policy("") == Policy()
    assert policy("").refusal(candidate(), NOW) == ""


@pytest.mark.parametrize(
    ("text", "name", "version", "reason"),
    [
        ('project = "app"', "app", "1.0", "R"),
        ('project = "app"', "application", "1.0", ""),
        ('project = "app*"', "application", "1.0", "R"),
        ('project = "app"\nversions = "<1"', "app", "1.0", ""),
        ('project = "app"\nversions = "<2"', "app", "2.0rc1", ""),
        ('project = "app"\nversions = "==1.*"', "app", "1.5.dev1", "R"),
    ],
)
def test_deny_goes_by_pattern_and_specifier(text: str, name: str, version: str, reason: str) -> None:
    assert policy(f'[[deny]]\n{text}\nreason = "R."').refusal(candidate(name, version), NOW) == reason


def test_every_reason_is_told() -> None:
    text = f'cooldown = "1 day"\n[[deny]]\n{RULE}[[allow]]\nproject = "other"\n'
    told = policy(text).refusal(candidate(uploaded="2030-06-15T10:00:00Z"), NOW)
    assert told == "R; it is not on the list of what is allowed; cooldown until 2030-06-16 10:00 UTC"


@pytest.mark.parametrize(
    ("uploaded", "refused"),
    [
        ("2030-06-14T12:00:00Z", False),
        ("2030-06-14T12:00:01Z", True),
        ("2030-06-14T12:00:00.5Z", True),
        ("9999-12-31T23:59:59Z", True),
        ("", True),
        ("yesterday", True),
    ],
)
def test_cooldown_ends_to_the_moment_and_is_strict_without_a_time(uploaded: str, refused: bool) -> None:
    assert bool(policy('cooldown = "24 hours"').refusal(candidate(uploaded=uploaded), NOW)) == refused


@pytest.mark.parametrize(("day", "refused"), [("2030-06-14", True), ("2030-06-15", False), ("2030-06-16", False)])
def test_exception_holds_to_the_end_of_its_day(day: str, refused: bool) -> None:
    text = f'cooldown = "1 day"\n[[cooldown-exception]]\n{RULE}expires = {day}\n'
    assert bool(policy(text).refusal(candidate(), NOW)) == refused


def test_prebuilt_wheel_enters_by_its_exception_alone_and_until_it_expires() -> None:
    wheel = candidate(filename="app-1.0-py3-none-any.whl")
    assert policy(PREBUILT).refusal(wheel, NOW) == ""
    assert policy("").refusal(wheel, NOW) == "it is a prebuilt wheel, and no exception names it"
    assert policy(PREBUILT.replace(A, "b" * 64)).refusal(wheel, NOW) != ""
    assert "expired on 2030-06-15 (No sources)" in policy(PREBUILT).refusal(wheel, NOW.replace(day=16))
    assert policy(f"{PREBUILT}[[deny]]\n{RULE}").refusal(wheel, NOW) == "R"
    with pytest.raises(PolicyRefused, match="no exception names it"):
        policy("").prebuilt_for(wheel.sdist, NOW)


def test_local_sdist_is_judged_by_denials_and_hashes() -> None:
    allowing = policy('cooldown = "1 day"\n[[allow]]\nproject = "other"\n')
    assert allowing.local_refusal(candidate().sdist) == ""
    assert policy(f"[[deny]]\n{RULE}").local_refusal(candidate().sdist) == "R"
    given = policy(f'[[hashes]]\nproject = "app"\nsha256 = ["{"b" * 64}"]')
    assert "not among the hashes" in given.local_refusal(candidate().sdist)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cooldwn = 1", "unknown key 'cooldwn'"),
        ("cooldown = 7", "'cooldown'"),
        ('cooldown = "7 moons"', "'7 days', '12 hours' or '2 weeks'"),
        ('yanked = "sometimes"', "'pinned' or 'never'"),
        ('follow-upstream = "maybe"', "'yank', 'quarantine' or 'no'"),
        ('require-hashes = "yes"', "true or false"),
        ("deny = 1", "'deny'"),
        ("deny = [1]", "deny 1: a table is expected"),
        ('[[deny]]\nproject = "app"', "deny 1: 'reason' is missing"),
        ('[[deny]]\nproject = "App_x"\nreason = "R"', "'App_x'"),
        ('[[deny]]\nproject = ""\nreason = "R"', "'project'"),
        ('[[deny]]\nproject = "app"\nversions = "new"\nreason = "R"', "'new'"),
        (f"[[deny]]\n{RULE}expires = 2030-01-01", "unknown key 'expires'"),
        (f"[[cooldown-exception]]\n{RULE}", "'expires' is missing"),
        (f'[[cooldown-exception]]\n{RULE}expires = "2030-01-01"', "a date such as"),
        (f"[[cooldown-exception]]\n{RULE}expires = 2030-01-01T00:00:00Z", "a date such as"),
        ('[[hashes]]\nproject = "app"\nsha256 = ["x"]', "64 lower-case hex digits"),
        ('[[hashes]]\nproject = "app*"\nsha256 = []', "list of sha256s"),
        (PREBUILT.replace('"1.0"', '"2.0"'), "is not the name of a wheel of app '2.0'"),
        (PREBUILT.replace(".whl", ".tar.gz"), "is not the name of a wheel"),
        (PREBUILT.replace(A, "A" * 64), "'sha256'"),
        (PREBUILT.replace("No sources.", ""), "'reason' is missing"),
        (PREBUILT.replace("expires = 2030-06-15", ""), "'expires' is missing"),
        ("not toml", "not TOML"),
    ],
)
def test_policy_that_is_wrong_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        policy(text)
    assert said in str(refused.value)
    assert "policy.toml" in str(refused.value)


def test_policy_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_policy_file(tmp_path / "absent.toml")
