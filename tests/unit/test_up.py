import os
from pathlib import Path

import pytest

from wheelfarm.errors import InputError
from wheelfarm.up import read_or_make_token


def test_token_that_another_user_has_put_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    token = read_or_make_token(path)
    assert read_or_make_token(path) == token
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    with pytest.raises(InputError, match="not yours alone"):
        read_or_make_token(path)
