"""Tokens as an operator makes, lists and revokes them; what the API does with them is in tests/unit."""

import os
import threading
from pathlib import Path

from tests.acceptance.conftest import Home
from wheelfarm.token_file import TOKEN, digest, read_token_file


def test_token_is_shown_once_listed_and_revoked(home: Home) -> None:
    file = home.root / "tokens.toml"
    home.settings["WHEELFARM_TOKENS"] = str(file)
    facts = ["--scope", "build", "--target", "host-*", "--tenant", "team-a", "--expires", "90d", "--note", "CI of a"]
    made = home.run("token", "create", "--id", "ci", *facts)
    assert made.code == 0, made.err
    token = made.out.strip()
    assert TOKEN.fullmatch(token)
    assert token not in file.read_text()
    assert digest(token) in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    listed = home.run("token", "list")
    assert listed.out.startswith("ci  in force until ")
    assert listed.out.rstrip().endswith("build  tenant team-a  host-*  CI of a")
    assert token not in listed.out
    assert home.run("token", "revoke", "ci").code == 0
    assert home.run("token", "list", "--json").json["tokens"][0]["state"] == "revoked"


def test_what_people_wrote_into_the_file_stays(home: Home) -> None:
    file = home.root / "tokens.toml"
    file.write_text("# of the platform team\n[tenants.team-a]\nopen_jobs = 7  # until spring\n")
    file.chmod(0o640)
    assert home.run("token", "create", "--file", file).code == 0
    assert "# of the platform team" in file.read_text()
    assert "open_jobs = 7  # until spring" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(read_token_file(file).open_jobs.items()) == [("team-a", 7)]


def test_refused_token_changes_nothing(home: Home) -> None:
    file = home.root / "tokens.toml"
    assert home.run("token", "create", "--id", "ci", "--file", file).code == 0
    before = file.read_bytes()
    for words in (["--id", "ci"], ["--id", "C I"], ["--tenant", "Team A"], ["--expires", "soon"], ["--target", "a b"]):
        refused = home.run("token", "create", "--file", file, *words)
        assert refused.code == 2, words
        assert not refused.out
    assert home.run("token", "revoke", "other", "--file", file).code == 33
    assert home.run("token", "create").code == 2
    assert file.read_bytes() == before


def test_tokens_made_at_once_are_all_in_the_file(home: Home) -> None:
    file = home.root / "tokens.toml"
    threads = [threading.Thread(target=home.run, args=("token", "create", "--file", file)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_token_file(file).tokens) == 4
    assert [path.name for path in Path(home.root).iterdir() if path.name.startswith(f".{file.name}")] == []
    assert os.access(file, os.R_OK)
