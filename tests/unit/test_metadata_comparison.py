import pytest

from wheelfarm_services.metadata_comparison import metadata_differences


def metadata(*fields: str) -> bytes:
    return "\n".join(["Metadata-Version: 2.1", *fields, "", "Requires-Dist: in-the-description"]).encode()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Name: My.App", "Name: my-app"),
        ("Version: 1.0", "Version: 1.0.0"),
        ("Version: v1.0-RC1", "Version: 1.0rc1"),
        ("Requires-Python: >=3.8, <4.0", "Requires-Python: <4,>=3.8.0"),
        ("Requires-Dist: B_one[Y,x] (>=1.0)", "Requires-Dist: b-one[x,y]>=1"),
        ("Requires-Dist: b @ https://h/b.zip", "Requires-Dist: b@https://h/b.zip"),
        ("Requires-Dist: b; extra=='A_b' and os_name=='nt'", "Requires-Dist: b ; (os_name == 'nt') and extra == 'a-b'"),
        (
            "Requires-Dist: b; (os_name=='nt' or python_version<'3') and extra=='x'",
            "Requires-Dist: b; extra=='x' and (python_version<'3' or os_name=='nt')",
        ),
        ("Requires-Dist: b; os_name=='nt' or os_name=='nt'", "Requires-Dist: b; os_name=='nt'"),
        ("Provides-Extra: Fast_Path", "Provides-Extra: fast-path"),
        ("Requires-Dist: b\nRequires-Dist: c", "Requires-Dist: c\nRequires-Dist: b\nRequires-Dist: b"),
        ("Requires-Dist: b\n  >1", "Requires-Dist: b>1"),
        ("Summary: one\nLicense: MIT", "Summary: two\nLicense-Expression: MIT"),
        ("Requires-Dist: not parsable ==", "Requires-Dist: not  parsable =="),
    ],
)
def test_what_means_the_same_is_no_difference(one: str, other: str) -> None:
    assert metadata_differences(metadata(one), metadata(other)) == ()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "Requires-Dist: b>1", ("+Requires-Dist: b>1",)),
        ("Requires-Dist: b>1", "", ("-Requires-Dist: b>1",)),
        ("Requires-Dist: b==1.*", "Requires-Dist: b==1.0.*", ("-Requires-Dist: b==1.*", "+Requires-Dist: b==1.0.*")),
        ("Requires-Dist: b~=1.0", "Requires-Dist: b~=1", ("-Requires-Dist: b~=1.0", "+Requires-Dist: b~=1")),
        ("Requires-Python: >=3.8", "Requires-Python: >=3.9", ("-Requires-Python: >=3.8", "+Requires-Python: >=3.9")),
        ("Provides-Extra: a", "Provides-Extra: b", ("-Provides-Extra: a", "+Provides-Extra: b")),
        ("Version: 1.0", "Version: 1.0+cc", ("-Version: 1", "+Version: 1+cc")),
        (
            "Requires-Dist: b; os_name=='nt' and extra=='x'",
            "Requires-Dist: b; os_name=='nt' or extra=='x'",
            (
                '-Requires-Dist: b; extra == "x" and os_name == "nt"',
                '+Requires-Dist: b; extra == "x" or os_name == "nt"',
            ),
        ),
    ],
)
def test_difference_is_told_field_by_field(one: str, other: str, expected: tuple[str, ...]) -> None:
    assert metadata_differences(metadata(one), metadata(other)) == tuple(expected)


def test_hostile_metadata_is_told_in_bounds() -> None:
    lines = [f"Requires-Dist: b{number}" for number in range(1000)]
    told = metadata_differences(
        metadata(), metadata(*lines, "Requires-Dist: c; " + "(" * 5000, "Version: " + "9" * 9000)
    )
    assert len(told) == 41
    assert told[-1] == "and 962 more"
    assert max(map(len, told)) < 1100
