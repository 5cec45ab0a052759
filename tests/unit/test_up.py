import os
from pathlib import Path

import pytest

from wheelfarm.errors import InputError
from wheelfarm.settings import Settings
from wheelfarm.up import alone_in, metrics_of, read_or_make_token


def test_token_that_another_user_has_put_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    token = read_or_make_token(path)
    assert read_or_make_token(path) == token
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(InputError, match="not yours alone"):
        read_or_make_token(path)


def test_folder_of_another_user_and_links_in_it_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder, link = tmp_path / "farm", tmp_path / "link"
    with alone_in(folder), pytest.raises(InputError, match="Another farm runs"), alone_in(folder):
        pass
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(victim)
    with pytest.raises(InputError, match="lock can't be opened"), alone_in(folder):
        pass
    assert victim.read_text() == "precious"
    (folder / "lock").unlink()
    link.symlink_to(folder)
    with alone_in(link):  # one's own link
        pass
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    if os.geteuid():  # root's folders are as good as one's own
        with pytest.raises(InputError, match="another user"), alone_in(link):
            pass


def test_workers_tell_metrics_at_the_ports_after_that_of_the_services() -> None:
    assert metrics_of(Settings(metrics="127.0.0.1:9464"), 2) == {"WHEELFARM_METRICS": "127.0.0.1:9466"}
    assert metrics_of(Settings(), 1) == {}
