"""What an sdist states of its build, read once of its bytes and kept in the store: reading an archive takes a while."""

import email.parser
import json
from dataclasses import asdict, dataclass

from wheelfarm.job import Sdist
from wheelfarm_services import layout
from wheelfarm_services.build_system import BuildSystem, read_build_system
from wheelfarm_services.sdist_head import SdistHead
from wheelfarm_services.source_index import SourceIndex
from wheelfarm_services.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class StatedBuild:
    """The build system (the default one where none is stated), whether there is a pyproject.toml, and PKG-INFO's
    Requires-Python ("" for none)."""

    build_system: BuildSystem
    has_pyproject: bool
    requires_python: str


def stated_build(sdist: Sdist, store: Store, sources: SourceIndex) -> StatedBuild:
    """What an sdist states, which is mirrored for it. Raises BadSdist or DirectReferenceRefused when it can't be read
    or is not acceptable."""
    key = layout.stated_build(sdist.sha256)
    if (data := store.get(key)) is not None:
        return _from_json(json.loads(data))
    sources.mirror(sdist)
    found = read_stated_build(sdist, sources.head(sdist))
    store.put(key, json.dumps(asdict(found)).encode())
    return found


def read_stated_build(sdist: Sdist, head: SdistHead) -> StatedBuild:
    """What the head of an sdist states."""
    message = email.parser.BytesParser().parsebytes(head.pkg_info or b"", headersonly=True)
    return StatedBuild(
        build_system=read_build_system(sdist, head),
        has_pyproject=head.pyproject is not None,
        requires_python=" ".join(str(message["Requires-Python"] or "").split())[:1000],
    )


def _from_json(value: dict[str, dict[str, str]]) -> StatedBuild:
    system = value["build_system"]
    return StatedBuild(
        build_system=BuildSystem(
            requires=tuple(system["requires"]),
            backend=str(system["backend"]),
            backend_path=tuple(system["backend_path"]),
        ),
        has_pyproject=bool(value["has_pyproject"]),
        requires_python=str(value["requires_python"]),
    )
