from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wheelfarm.errors import InputError
from wheelfarm_services.upstreams.configuration import read_upstreams
from wheelfarm_services.upstreams.settings import may_match_the_same

PUBLIC = '[[upstream]]\nname = "public"\nurl = "https://public.example/simple/"\n'
CORP = '[[upstream]]\nname = "corp"\nurl = "https://corp.example/simple/"\npublic = false\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CORP + "serves = ['corp-*']\n" + PUBLIC + "serves = ['corp-*']\n", "may stand for the same name"),
        (CORP + "serves = ['corp-*']\n" + PUBLIC + "serves = ['*']\n", "may stand for the same name"),
        (CORP + "serves = ['corp-*']\n" + PUBLIC + "serves = ['*-web']\n", "may stand for the same name"),
        ("internal = ['corp-*']\n" + CORP + PUBLIC + "serves = ['corp-open']\n", "is internal"),
    ],
)
def test_name_that_two_upstreams_may_serve_by_patterns_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "upstreams.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        read_upstreams(path)


PATTERN = st.text("ab*?", max_size=6)


@given(PATTERN, PATTERN, st.text("ab", max_size=6))
def test_patterns_that_stand_for_one_name_are_found(pattern: str, other: str, name: str) -> None:
    if fnmatchcase(name, pattern) and fnmatchcase(name, other):
        assert may_match_the_same(pattern, other)
        assert may_match_the_same(other, pattern)


@pytest.mark.parametrize(
    ("pattern", "other"), [("a*", "b*"), ("a", "b"), ("a?", "a"), ("*a", "*b"), ("a*b", "a*c"), ("", "a")]
)
def test_patterns_that_stand_for_no_common_name_are_not(pattern: str, other: str) -> None:
    assert not may_match_the_same(pattern, other)
