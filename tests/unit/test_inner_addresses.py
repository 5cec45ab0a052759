import pytest

from wheelfarm_services.upstreams.inside import is_inside


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("10.0.0.1", True),
        ("169.254.169.254", True),
        ("::1", True),
        ("::ffff:10.0.0.1", True),
        ("64:ff9b::a00:1", True),
        ("2002:a00:1::", True),
        ("8.8.8.8", False),
        ("64:ff9b::808:808", False),
        ("2002:808:808::", False),
        ("2001:4860:4860::8888", False),
    ],
)
def test_inner_addresses_are_known_in_whatever_they_are_wrapped(host: str, inside: bool) -> None:
    assert is_inside(host) is inside
