from typing import Any

import pytest
from packaging.metadata import Metadata

from tests.support.values import make_sdist
from wheelfarm.errors import BadSdist
from wheelfarm_services.sdist_head import SdistHead
from wheelfarm_services.static_metadata import probable_metadata, resolving_fields, static_metadata


def static(
    pkg_info: str | None = None, project: object = None, *, name: str = "app", version: str = "1.0"
) -> list[str] | None:
    head = SdistHead(
        pkg_info=None if pkg_info is None else pkg_info.encode(),
        pyproject=None if project is None else {"project": project},
        pyproject_sha256="",
    )
    found = static_metadata(make_sdist(version=version), head)
    return None if found is None else found.decode().splitlines()


def pkg_info(*fields: str, metadata_version: str = "2.2") -> str:
    return (
        "\n".join([f"Metadata-Version: {metadata_version}", "Name: App", "Version: 1.0.0", *fields])
        + "\n\nA description\n"
    )


PROJECT: dict[str, Any] = {"name": "app", "version": "1.0", "dependencies": ["b>1"]}


def test_pkg_info_of_version_2_2_is_believed() -> None:
    found = static(
        pkg_info("Requires-Dist: b>1", "Requires-Python: >=3.8", "Provides-Extra: x", "Summary: s"), version="1.0.0"
    )
    assert found == [
        "Metadata-Version: 2.2",
        "Name: App",
        "Version: 1.0.0",
        "Requires-Python: >=3.8",
        "Requires-Dist: b>1",
        "Provides-Extra: x",
    ]


@pytest.mark.parametrize("stated", ["2.2", "2.3", "2.4", "2.5"])
def test_every_metadata_version_from_2_2_on_is_believed(stated: str) -> None:
    assert static(pkg_info("Requires-Dist: b", metadata_version=stated), version="1.0.0") is not None


@pytest.mark.parametrize(
    "stated", ["1.0", "1.2", "2.1", "2", "", "x.y", "2.2.1", "99.0", "-3.0", "9" * 5000 + ".0", "2." + "9" * 5000]
)
def test_pkg_info_of_another_metadata_version_is_not(stated: str) -> None:
    assert static(pkg_info("Requires-Dist: b", metadata_version=stated), version="1.0.0") is None


@pytest.mark.parametrize("field", ["Requires-Dist", "requires-python", "PROVIDES-EXTRA ", "Requires_Dist", "Version"])
def test_dynamic_field_that_resolvers_read_leaves_it_to_the_backend(field: str) -> None:
    assert static(pkg_info("Requires-Dist: b", f"Dynamic: {field}"), version="1.0.0") is None


@pytest.mark.parametrize("version", ["1", "1.0", "1.0.0.0"])
def test_version_is_compared_and_not_its_spelling(version: str) -> None:
    assert static(pkg_info(), version=version) is not None


def test_other_dynamic_fields_do_not_matter() -> None:
    assert static(pkg_info("Dynamic: Description", "Dynamic: License"), version="1.0.0") is not None


@pytest.mark.parametrize(
    "text",
    [
        "Name: other\nVersion: 1.0\n",
        "Name: app\nVersion: 2.0\n",
        "Name: app\n",
        "Version: 1.0\n",
        "Name: app\nVersion: not a version\n",
        "Name: app\nVersion: " + "1" * 5000 + "\n",
        "\nName: app\nVersion: 1.0\n",
    ],
)
@pytest.mark.parametrize("stated", ["1.1", "2.2"])
def test_pkg_info_about_another_project_or_version_is_refused(text: str, stated: str) -> None:
    with pytest.raises(BadSdist, match="PKG-INFO is about"):
        static(f"Metadata-Version: {stated}\n{text}" if text[0] != "\n" else text)


@pytest.mark.parametrize("field", ["Requires-Dist: b ==", "Requires-Python: three", "Requires-Dist: " + "(" * 3000])
def test_pkg_info_that_no_resolver_can_read_is_left_to_the_backend(field: str) -> None:
    assert static(pkg_info(field), version="1.0.0") is None


def test_project_table_is_believed_where_pkg_info_is_not() -> None:
    expected = ["Metadata-Version: 2.2", "Name: app", "Version: 1.0", "Requires-Dist: b>1"]
    old = "Metadata-Version: 2.1\nName: app\nVersion: 1.0\n"
    assert static(None, PROJECT) == expected
    assert static(old, PROJECT) == expected
    assert static("", PROJECT) == expected


def test_project_table_gives_python_extras_and_their_markers() -> None:
    project = {
        **PROJECT,
        "requires-python": ">=3.8",
        "optional-dependencies": {"Fast_Path": ["c", "d; os_name == 'nt' or os_name == 'posix'"], "empty": []},
    }
    found = static(None, project)
    assert found is not None
    assert found[3:] == [
        "Requires-Python: >=3.8",
        "Requires-Dist: b>1",
        "Provides-Extra: fast-path",
        'Requires-Dist: c ; extra == "fast-path"',
        'Requires-Dist: d ; (os_name == "nt" or os_name == "posix") and extra == "fast-path"',
        "Provides-Extra: empty",
    ]
    Metadata.from_email("\n".join(found))


def test_dynamic_version_in_the_project_table_is_no_obstacle() -> None:
    project = {"name": "App", "dynamic": ["version", "description"], "dependencies": []}
    assert static(None, project) is not None


@pytest.mark.parametrize("field", ["dependencies", "optional-dependencies", "requires-python"])
def test_dynamic_dependencies_in_the_project_table_leave_it_to_the_backend(field: str) -> None:
    assert static(None, {"name": "app", "version": "1.0", "dynamic": [field]}) is None


@pytest.mark.parametrize(
    "project",
    [
        None,
        [],
        {},
        {"name": 3},
        {"name": "other", "version": "1.0"},
        {"name": "app", "version": "2.0"},
        {"name": "app", "version": "not one"},
        {"name": "app", "dependencies": ["b"]},
        {**PROJECT, "optional-dependencies": {"a-b": [], "A_b": []}},
        {**PROJECT, "dependencies": "requests"},
        {**PROJECT, "dependencies": [3]},
        {**PROJECT, "dependencies": ["b =="]},
        {**PROJECT, "dependencies": ["b; " + "(" * 3000]},
        {**PROJECT, "optional-dependencies": ["x"]},
        {**PROJECT, "optional-dependencies": {"x": "requests"}},
        {**PROJECT, "optional-dependencies": {"not a name": []}},
        {**PROJECT, "requires-python": ["3"]},
        {**PROJECT, "requires-python": "three"},
        {**PROJECT, "dynamic": 3},
        {**PROJECT, "dynamic": [["dependencies"]]},
    ],
)
def test_malformed_project_table_is_left_to_the_backend(project: object) -> None:
    assert static(None, project) is None


@pytest.mark.parametrize(
    "project",
    [
        {**PROJECT, "requires-python": ">=3\nRequires-Dist: evil"},
        {**PROJECT, "dependencies": ["b; os_name == 'x\\nRequires-Dist: evil'"]},
        {**PROJECT, "dependencies": ["b\nRequires-Dist: evil"]},
        {**PROJECT, "optional-dependencies": {"x\nRequires-Dist: evil": []}},
        {**PROJECT, "optional-dependencies": {"x": ["c; os_name == 'x\\r\\nRequires-Dist: evil'"]}},
    ],
)
def test_no_value_can_begin_a_line(project: dict[str, Any]) -> None:
    assert not [line for line in static(None, project) or [] if line.startswith("Requires-Dist: evil")]


@pytest.mark.parametrize("repeated", ["Requires-Python: >=3.9", "Metadata-Version: 2.1", "Name: app", "Version: 1.0"])
def test_field_that_is_given_twice_leaves_it_to_the_backend(repeated: str) -> None:
    assert static(pkg_info("Requires-Python: >=3.8", repeated), version="1.0.0") is None


def test_pkg_info_decides_where_the_project_table_tells_otherwise() -> None:
    found = static(pkg_info("Requires-Dist: from-pkg-info"), PROJECT, version="1.0.0")
    assert found is not None
    assert [line for line in found if "Requires-Dist" in line] == ["Requires-Dist: from-pkg-info"]


@pytest.mark.parametrize("field", ["Dynamic: Requires-Dist", "Requires-Dist: b ==", "Requires-Python: three"])
def test_project_table_does_not_mend_a_pkg_info_that_leaves_it_to_the_backend(field: str) -> None:
    assert static(pkg_info(field), PROJECT, version="1.0.0") is None


def test_requirements_in_an_old_pkg_info_are_never_believed() -> None:
    old = "Metadata-Version: 2.1\nName: app\nVersion: 1.0\nRequires-Dist: b\n"
    assert static(old) is None
    found = static(old, {"name": "app", "version": "1.0"})
    assert found == ["Metadata-Version: 2.2", "Name: app", "Version: 1.0"]


@pytest.mark.parametrize("extra", ["Fast_Path", "fast-path", "FAST.path"])
def test_extras_of_pkg_info_are_passed_on_for_resolvers_to_normalise(extra: str) -> None:
    found = static(pkg_info(f"Provides-Extra: {extra}", f'Requires-Dist: b; extra == "{extra}"'), version="1.0.0")
    assert found is not None
    assert Metadata.from_email("\n".join(found)).provides_extra == ["fast-path"]


@pytest.mark.parametrize(
    "field", ["License-Expression: not one", "License-File: ../x", "License: MIT", "Import-Name: 1"]
)
def test_fields_that_resolvers_do_not_read_may_be_wrong(field: str) -> None:
    assert static(pkg_info(field, metadata_version="2.4"), version="1.0.0") is not None


@pytest.mark.parametrize(
    "field", [b"Requires-Dist: b\xff", b"Requires-Python: \xc3\xa9", b"Requires-Dist: b; os_name == '\xed\xa0\x80'"]
)
def test_bytes_that_are_no_text_do_no_harm(field: bytes) -> None:
    head = SdistHead(
        pkg_info=b"Metadata-Version: 2.2\nName: app\nVersion: 1.0\n" + field, pyproject=None, pyproject_sha256=""
    )
    found = static_metadata(make_sdist(), head)
    assert found is None or found.decode()


def test_folded_lines_of_pkg_info_become_one() -> None:
    found = static(pkg_info("Requires-Dist: b\n        >1"), version="1.0.0")
    assert found is not None
    assert "Requires-Dist: b >1" in found


def test_fields_for_resolving_leave_out_everything_else() -> None:
    metadata = (
        b"Metadata-Version: 2.1\nName: app\nVersion: 1.0\nSummary: s\nRequires-Dist: b\n\nRequires-Dist: in the text\n"
    )
    assert resolving_fields(metadata) == b"Metadata-Version: 2.1\nName: app\nVersion: 1.0\nRequires-Dist: b\n"


@pytest.mark.parametrize("unproven", [{"metadata_version": "2.1"}, {"dynamic": "Requires-Dist"}])
def test_probable_metadata_is_what_the_sdist_states_unproven(unproven: dict[str, str]) -> None:
    fields = ["Requires-Dist: b>1", *(f"Dynamic: {name}" for name in [unproven.pop("dynamic", "")] if name)]
    head = SdistHead(pyproject=None, pyproject_sha256="", pkg_info=pkg_info(*fields, **unproven).encode())
    assert b"Requires-Dist: b>1\n" in probable_metadata(make_sdist(), head)


@pytest.mark.parametrize("stated", [None, b"", b"Requires-Dist: no such form ==\nName: app\nVersion: 1.0\n"])
def test_probable_metadata_of_an_sdist_that_states_nothing_readable_is_its_name(stated: bytes | None) -> None:
    probable = probable_metadata(make_sdist(), SdistHead(pyproject=None, pyproject_sha256="", pkg_info=stated))
    assert probable == b"Metadata-Version: 2.1\nName: app\nVersion: 1.0\n"
