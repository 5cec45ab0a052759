"""How an sdist is built: `[build-system]` of its pyproject.toml (PEP 517, 518), checked, with the defaults."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from wheelfarm.errors import WheelfarmError
from wheelfarm.job import TREE_VERSION, Sdist
from wheelfarm.legacy_build import LEGACY_BACKEND, LEGACY_REQUIRES
from wheelfarm.requirements import parse_requirement
from wheelfarm_services.sdist_head import SdistHead, bad_archive

_VERSION_VARIABLES = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION", "PDM_BUILD_SCM_VERSION")


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSystem:
    """Build requirements (each a PEP 508 requirement without a URL), the backend, and where in the tree it lies."""

    requires: tuple[str, ...]
    backend: str
    backend_path: tuple[str, ...]


def read_build_system(sdist: Sdist, head: SdistHead) -> BuildSystem:
    """The build system an sdist declares, or setuptools' for those that declare none.

    Raises BadSdist where the table is malformed, DirectReferenceRefused where a build requirement is a URL.
    """
    table = (head.pyproject or {}).get("build-system", {"requires": list(LEGACY_REQUIRES)})
    if not isinstance(table, dict) or not _strings(table.get("requires")):
        raise bad_archive(sdist, "its [build-system] has no list of requirements")
    backend, path = table.get("build-backend", LEGACY_BACKEND), table.get("backend-path", [])
    if not isinstance(backend, str) or not backend or not _strings(path):
        raise bad_archive(sdist, "its build-backend or backend-path is not of the form that PEP 517 gives them")
    if any(PurePosixPath(part).is_absolute() or ".." in PurePosixPath(part).parts for part in path):
        raise bad_archive(sdist, "its backend-path leads out of it")
    return BuildSystem(
        requires=checked_requirements(sdist, table["requires"]), backend=backend, backend_path=tuple(path)
    )


def version_environment(sdist: Sdist, head: SdistHead) -> dict[str, str]:
    """What tells backends the version that they would ask git for, where the sdist has no PKG-INFO to read it from."""
    unknown = sdist.version == TREE_VERSION
    return {} if head.pkg_info or unknown else dict.fromkeys(_VERSION_VARIABLES, sdist.version)


def checked_requirements(sdist: Sdist, texts: Sequence[str]) -> tuple[str, ...]:
    """Build requirements as given to the resolver. Raises BadSdist or DirectReferenceRefused, naming the sdist."""
    try:
        return tuple(str(parse_requirement(text, origin=f"build requirements of {sdist}")) for text in texts)
    except WheelfarmError as error:
        if error.code == "input":
            raise bad_archive(sdist, error.message.rstrip(".")) from error
        raise


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
