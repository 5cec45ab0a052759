"""The policy: what may enter the farm, judged where projects are listed, at submission and at planning."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import PATIENCE_S, Done, Home, open_home
from tests.acceptance.test_lock import remote
from tests.support.projects import Project

ENDED, AHEAD = "2020-01-01", "2999-12-31"
NEW = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
OLD = "2020-01-01T00:00:00Z"
REFUSED = 17


def with_policy(home: Home, text: str) -> dict[str, str]:
    """The policy of that text, as the setting that names it."""
    path = home.root / "policy.toml"
    path.write_text(text)
    return {"WHEELFARM_POLICY": str(path)}


def built(done: Done, home: Home) -> list[str]:
    """NAME-VERSION of every wheel in the store, after a success."""
    assert done.code == 0, done.err
    return ["-".join(name.split("-")[:2]) for name in home.wheel_names()]


def test_denied_version_is_passed_over_and_another_one_is_taken(home: Home) -> None:
    home.upstream.add(Project(name="app", version="1.0"), Project(name="app", version="2.0"))
    policy = with_policy(home, '[[deny]]\nproject = "app"\nversions = ">=2"\nreason = "CVE-1."\n')

    assert built(home.run("build", "app", environment=policy), home) == ["app-1.0"]
    assert home.upstream.files_asked == ["app-1.0.tar.gz"]


def test_denied_version_that_is_asked_for_is_refused_with_the_reason(home: Home) -> None:
    home.upstream.add(Project(name="app", version="1.0"), Project(name="app", version="2.0"))
    policy = with_policy(home, '[[deny]]\nproject = "a*"\nversions = "==2.0"\nreason = "CVE-1."\n')

    for verb in ("build", "plan"):
        done = home.run(verb, "app==2.0", environment=policy)
        assert done.code == REFUSED, done.err
        assert "policy denies app 2.0: CVE-1 (asked for: app==2.0)" in done.err
    assert home.upstream.files_asked == []


def test_denied_dependency_is_refused_with_the_reason(home: Home) -> None:
    home.upstream.add(Project(name="app", requires_dist=["dep"]), Project(name="dep"))
    policy = with_policy(home, '[[deny]]\nproject = "dep"\nreason = "Abandoned."\n')

    done = home.run("build", "app", environment=policy)

    assert (done.code, "policy denies dep 1.0: Abandoned" in done.err) == (REFUSED, True), done.err
    assert home.wheel_names() == []


def test_only_what_is_allowed_enters(home: Home) -> None:
    home.upstream.add(Project(name="acme-app"), Project(name="acme-app", version="2.0"), Project(name="other"))
    policy = with_policy(home, '[[allow]]\nproject = "acme-*"\nversions = "<2"\n')

    assert built(home.run("build", "acme-app", environment=policy), home) == ["acme_app-1.0"]
    done = home.run("build", "other", environment=policy)
    assert (done.code, "policy denies other 1.0: it is not on the list of what is allowed" in done.err) == (17, True)


def test_cooldown_passes_over_new_versions_until_their_time_has_come(home: Home) -> None:
    home.upstream.add(
        Project(name="app", version="1.0", uploaded=OLD), Project(name="app", version="2.0", uploaded=NEW)
    )
    policy = with_policy(home, 'cooldown = "7 days"\n')

    assert built(home.run("build", "app", environment=policy), home) == ["app-1.0"]
    done = home.run("build", "app==2.0", environment=policy)
    until = (datetime.fromisoformat(NEW) + timedelta(days=7)).strftime("%Y-%m-%d %H:%M UTC")
    assert (done.code, f"policy denies app 2.0: cooldown until {until}" in done.err) == (REFUSED, True), done.err


@pytest.mark.parametrize(("expires", "version"), [(AHEAD, "2.0"), (ENDED, "1.0")])
def test_cooldown_exception_holds_until_it_expires(home: Home, expires: str, version: str) -> None:
    home.upstream.add(
        Project(name="app", version="1.0", uploaded=OLD), Project(name="app", version="2.0", uploaded=NEW)
    )
    text = f'[[cooldown-exception]]\nproject = "app"\nversions = "==2.0"\nreason = "Mends."\nexpires = {expires}\n'
    policy = with_policy(home, f'cooldown = "7 days"\n{text}')

    assert built(home.run("build", "app", environment=policy), home) == [f"app-{version}"]
    if expires == ENDED:
        done = home.run("build", "app==2.0", environment=policy)
        assert "cooldown until" in done.err
        assert "(the exception for it expired on 2020-01-01: Mends)" in done.err


def test_sdist_without_upload_time_is_refused_under_a_cooldown_but_for_an_exception(home: Home) -> None:
    home.upstream.add(Project(name="app"), Project(name="acme-app"))
    policy = with_policy(home, 'cooldown = "2 weeks"\n[[no-upload-time]]\nproject = "acme-*"\nreason = "Ours."\n')

    done = home.run("build", "app", environment=policy)
    assert "policy denies app 1.0: its upload time is not known, and there is a cooldown of 14 days" in done.err
    assert built(home.run("build", "acme-app", environment=policy), home) == ["acme_app-1.0"]


def test_yanked_sdist_is_taken_only_when_pinned_exactly(home: Home) -> None:
    home.upstream.add(Project(name="app", version="1.0"), Project(name="app", version="2.0", yanked="Broken."))

    assert built(home.run("build", "app>=1"), home) == ["app-1.0"]
    assert built(home.run("build", "app===2.0"), home) == ["app-1.0", "app-2.0"]
    policy = with_policy(home, 'yanked = "never"\n')
    done = home.run("build", "app==2.0", environment=policy)
    assert (done.code, "policy denies app 2.0: it was yanked" in done.err) == (REFUSED, True), done.err


def test_project_with_given_hashes_enters_with_these_only(home: Home) -> None:
    home.upstream.add(Project(name="app", version="1.0"), Project(name="app", version="2.0"))
    policy = with_policy(home, f'[[hashes]]\nproject = "app"\nsha256 = ["{sha256_of(Project(name="app"))}"]\n')

    assert built(home.run("build", "app", environment=policy), home) == ["app-1.0"]
    done = home.run("build", "app==2.0", environment=policy)
    assert (done.code, "is not among the hashes given for app" in done.err) == (REFUSED, True), done.err


def test_lock_made_before_is_judged_at_submission(home: Home) -> None:
    home.upstream.add(Project(name="app"))
    lock = lock_of(home, Project(name="app"))
    assert home.run("build", "-r", lock).code == 0
    policy = with_policy(home, '[[deny]]\nproject = "app"\nreason = "CVE-1."\n')

    done = home.run("build", "-r", lock, environment=policy)

    assert (done.code, "policy denies app 1.0: CVE-1" in done.err) == (REFUSED, True), done.err


def sha256_of(project: Project) -> str:
    import hashlib

    return hashlib.sha256(project.sdist()).hexdigest()


def lock_of(home: Home, project: Project) -> Path:
    """A lock as another tool would have made it."""
    url = f"{home.upstream.url.removesuffix('simple/')}files/{project.filename}"
    package = f'[[packages]]\nname = "{project.name}"\nversion = "{project.version}"\n'
    sdist = f'[packages.sdist]\nname = "{project.filename}"\nurl = "{url}"\n'
    path = home.root / "pylock.toml"
    path.write_text(
        f'lock-version = "1.0"\ncreated-by = "test"\n{package}{sdist}hashes = {{ sha256 = "{sha256_of(project)}" }}\n'
    )
    return path


def test_remembered_resolution_is_not_taken_up_under_another_policy(home: Home) -> None:
    home.upstream.add(Project(name="app", version="1.0"), Project(name="app", version="2.0"))
    assert home.run("build", "app").code == 0
    policy = with_policy(home, '[[deny]]\nproject = "app"\nversions = "==2.0"\nreason = "CVE-1."\n')

    out = home.root / "out"
    assert home.run("build", "app", "--out", out, environment=policy).code == 0
    assert [path.name.split("-")[1] for path in out.glob("*.whl")] == ["1.0"]
    asked = len(home.upstream.requests)
    assert home.run("build", "app", environment=policy).code == 0
    assert len(home.upstream.requests) == asked


def test_local_source_of_a_denied_project_is_refused(home: Home) -> None:
    archive = home.root / "app-1.0.tar.gz"
    archive.write_bytes(Project(name="app").sdist())
    policy = with_policy(home, '[[deny]]\nproject = "app"\nreason = "CVE-1."\n')

    done = home.run("build", archive, environment=policy)

    assert (done.code, "policy denies app 1.0: CVE-1" in done.err) == (REFUSED, True), done.err


def test_policy_that_is_wrong_is_told_by_check_and_at_start_up(home: Home) -> None:
    policy = with_policy(home, "cooldwn = 1\n")

    for words in (("policy", "check", policy["WHEELFARM_POLICY"]), ("build", "app"), ("policy", "show")):
        done = home.run(*words, environment=policy)
        assert (done.code, "unknown key 'cooldwn'" in done.err) == (2, True), done.err
        assert "Traceback" not in done.err


def test_policy_check_tells_what_a_file_holds_and_show_the_one_in_force(home: Home) -> None:
    text = f'[[cooldown-exception]]\nproject = "app"\nreason = "R"\nexpires = {ENDED}\n'
    policy = with_policy(home, f'cooldown = "36 hours"\n{text}')

    checked = home.run("policy", "check", policy["WHEELFARM_POLICY"])
    shown = home.run("policy", "show", environment=policy)
    none = home.run("policy", "show")

    assert "cooldown: 36 hours" in checked.out
    assert f"expired on {ENDED}: cooldown-exception of app" in checked.out
    assert 'cooldown = "36 hours"' in shown.out
    assert none.out == "The farm has no policy.\n"


def test_every_request_must_give_hashes_where_the_policy_says_so(home: Home) -> None:
    app, tool = Project(name="app", build_requires=["tool"]), Project(name="tool")
    home.upstream.add(app, tool)
    policy = with_policy(home, "require-hashes = true\n")
    hashed = home.root / "requirements.txt"
    hashed.write_text(f"app==1.0 --hash=sha256:{sha256_of(app)}\n")

    bare = home.run("build", "app", environment=policy)
    assert (bare.code, "policy denies app 1.0: the request gives no sha256 for it" in bare.err) == (REFUSED, True)
    assert home.run("build", "-r", hashed, environment=policy).code == 0
    assert home.run("build", "-r", lock_of(home, app), environment=policy).code == 0


def test_build_requirement_that_is_denied_is_planned_and_built_without_and_leaves_the_page(home: Home) -> None:
    home.upstream.add(
        Project(name="app", build_requires=["tool"]), Project(name="tool"), Project(name="tool", version="2")
    )
    assert home.run("build", "app").code == 0
    [page] = home.flat_pages()
    assert "tool-2-" in page.read_text()
    policy = with_policy(home, '[[deny]]\nproject = "tool"\nversions = "==2"\nreason = "CVE-1."\n')

    assert home.run("build", "app", environment=policy).code == 0

    assert home.run("policy", "show", environment=policy).code == 0
    [page] = home.flat_pages()
    assert "tool-1.0-" in page.read_text()
    assert "tool-2-" not in page.read_text()
    assert "tool 1.0" in home.run("why", "app", environment=policy).out
    everything = with_policy(home, '[[deny]]\nproject = "tool"\nreason = "CVE-1."\n')
    done = home.run("build", "app", environment=everything)
    assert (done.code, "policy denies tool 1.0, 2: CVE-1" in done.err) == (REFUSED, True), done.err


def test_wheel_that_is_denied_since_is_given_out_neither_by_url_nor_by_page_nor_by_a_lock(home: Home) -> None:
    home.upstream.add(Project(name="app"), Project(name="other"))
    assert home.run("lock", "app", "other").code == 0
    policy = with_policy(home, '[[deny]]\nproject = "app"\nreason = "CVE-1."\n')

    installed = home.run("install", "--venv", "env", "-r", "pylock.toml", environment=policy)

    assert (installed.code, "CVE-1" in installed.err) == (REFUSED, True), installed.err
    assert not list((home.root / "env").glob("lib/*/site-packages/*app*"))
    home.settings |= policy
    with remote(home) as farm:
        known = {"Authorization": f"Bearer {farm['WHEELFARM_TOKEN']}"}
        for path in home.store.glob("wheels/*/*.whl"):
            for name in (path.name, f"{path.name}.metadata"):
                answer = httpx.get(
                    f"{farm['WHEELFARM_URL']}/wheels/{path.parent.name}/{name}", headers=known, timeout=PATIENCE_S
                )
                denied = path.name.startswith("app")
                assert answer.status_code == (422 if denied else 200), name
                assert not denied or (answer.json()["error"], "CVE-1" in answer.text) == ("policy", True)
    (page,) = home.flat_pages()
    assert [name for name in ("app-1.0", "other-1.0") if name in page.read_text()] == ["other-1.0"]


def test_policy_of_a_farm_elsewhere_is_remembered_for_minutes_and_then_asked_for(home: Home) -> None:
    home.upstream.add(Project(name="app"), Project(name="app", version="2.0"))
    with open_home(home.upstream) as client:
        for text, aged, version in (("", False, "2.0"), (DENIED, False, "2.0"), (DENIED, True, "1.0")):
            home.settings |= with_policy(home, text)
            for path in client.root.rglob("policy.json") if aged else ():
                os.utime(path, (0, 0))
            with remote(home) as farm:
                client.settings = farm
                done = client.run("install", "--json", "--target-dir", client.root / "into", "app")
            assert done.code == 0, done.err
            assert [wheel["version"] for wheel in done.json["wheels"]] == [version]


DENIED = '[[deny]]\nproject = "app"\nversions = ">=2"\nreason = "CVE-1."\n'
