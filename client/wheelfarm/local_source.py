"""Local sources as people name them: the paths of trees and sdist archives, with extras and a marker."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from wheelfarm.errors import BadTree, DirectReferenceRefused, InputError
from wheelfarm.target import Target
from wheelfarm.target_markers import marker_environment

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".zip")
_NAMED_URL = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<extras>\[[^\]]*\])?\s*@\s*(?P<path>file:\S*)")
_PATH = re.compile(r"(?P<path>[^\[\]]*?[^\[\]\s])\s*(?P<extras>\[[^\[\]]*\])?")
_MARKER = re.compile(r"\s;|;\s")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSource:
    """A tree or an archive of this machine. `shown` is how it was given, `name` the project that it must be ("": any),
    `hashes` the sha256s that an archive may have (none: any)."""

    path: Path
    shown: str
    name: str = ""
    extras: tuple[str, ...] = ()
    marker: str = ""
    hashes: frozenset[str] = field(default=frozenset())

    def applies(self, target: Target) -> bool:
        """Whether its marker holds on a target."""
        return not self.marker or Marker(self.marker).evaluate({**marker_environment(target), "extra": ""})


def parse_local(text: str, *, origin: str, hashes: frozenset[str] = frozenset()) -> LocalSource | None:
    """The local source that a requirement names, relative to the current folder; None for one that names no path.

    Raises BadTree when nothing of that kind is there, DirectReferenceRefused for a wheel, InputError for malformed
    extras and markers.
    """
    body, *marker = _MARKER.split(text.strip(), 1)
    found = _NAMED_URL.fullmatch(body) or _PATH.fullmatch(body)
    if found is None or not _is_path(found["path"]):
        return None
    name = found.groupdict().get("name") or ""
    wanted = _parsed(f"{name or 'tree'}{found['extras'] or ''}" + "".join(f"; {part}" for part in marker), origin)
    path = _path_of(found["path"], origin)
    _require_source(path, found["path"], hashes, origin)
    return LocalSource(
        path=path,
        shown=found["path"],
        name=canonicalize_name(name) if name else "",
        extras=tuple(sorted(map(str, map(canonicalize_name, wanted.extras)))),
        marker=str(wanted.marker or ""),
        hashes=hashes,
    )


def _is_path(text: str) -> bool:
    if text.startswith("file:"):
        return True
    looks = text in (".", "..") or "/" in text or (text.endswith(ARCHIVE_SUFFIXES) and Path(text).is_file())
    return looks and "://" not in text and "@" not in text.partition("/")[0]


def _parsed(text: str, origin: str) -> Requirement:
    from wheelfarm.requirements import parse_requirement

    return parse_requirement(text, origin=origin)


def _path_of(text: str, origin: str) -> Path:
    if not text.startswith("file:"):
        return Path(text).absolute()
    url = urlsplit(text)
    if url.netloc not in ("", "localhost") or not url.path.startswith("/") or url.query or url.fragment:
        raise InputError(f"{origin}: {text!r} is not the URL of a local path: file:///path is accepted.")
    return Path(unquote(url.path))


def _require_source(path: Path, shown: str, hashes: frozenset[str], origin: str) -> None:
    try:
        is_tree, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError) as error:
        raise BadTree(f"{origin}: {shown} can't be read: {error}.") from error
    if not is_tree and path.suffix == ".whl":
        raise DirectReferenceRefused(
            f"{origin}: {shown} is a wheel that somebody else built, and the farm installs only what it built.",
            hint="Name the tree or the sdist that it was built from.",
        )
    if not is_tree and not is_file:
        what = "is neither a folder nor a file" if path.exists() else "is not there"
        raise BadTree(f"{origin}: {shown} {what}.", hint="Paths are relative to the folder that the command runs in.")
    if is_tree and hashes:
        raise InputError(f"{origin}: {shown} is a folder, which has no hash.", hint="Give hashes to archives only.")
    if is_file and not path.name.endswith(ARCHIVE_SUFFIXES):
        raise BadTree(
            f"{origin}: {shown} is neither a folder nor an archive that an sdist can be.",
            hint=f"Archives end in {', '.join(ARCHIVE_SUFFIXES)}.",
        )
