"""Local sources made ready for the farm: trees packed, archives looked at, each with its digest."""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from wheelfarm.digest import digest_of, sha256_of_file
from wheelfarm.errors import BadTree, HashMismatch
from wheelfarm.job import TREE_VERSION, Sdist
from wheelfarm.local_source import LocalSource
from wheelfarm.target import Target
from wheelfarm.tree import MOST_BYTES, pack_tree, project_name


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSource:
    """A local source as the farm gets it. `tree` is how it is told of before its sdist is made."""

    source: LocalSource
    archive: Path
    tree: Sdist

    @property
    def is_tree(self) -> bool:
        """Whether it was packed here; else it is an archive, which may be an sdist as it is."""
        return self.archive != self.source.path

    @property
    def identity(self) -> str:
        """A digest of what it brings to a resolution."""
        return digest_of([self.tree.sha256, list(self.source.extras), self.source.name, self.is_tree])


@contextmanager
def packed(sources: Sequence[LocalSource], target: Target) -> Iterator[tuple[PackedSource, ...]]:
    """The sources that apply to a target, packed in a folder of their own for as long as the context lasts.

    Raises BadTree, and HashMismatch for an archive that has none of the hashes it was given.
    """
    wanted = [source for source in sources if source.applies(target)]
    with tempfile.TemporaryDirectory(prefix="wheelfarm-trees-") as folder:
        yield tuple(_packed(source, Path(folder) / f"{number}.tar.gz") for number, source in enumerate(wanted))


def _packed(source: LocalSource, archive: Path) -> PackedSource:
    if source.path.is_dir():
        name = project_name(source.path)
        sha256, suffix = pack_tree(source.path, archive), ".tar.gz"
    else:
        archive, name = source.path, source.path.name.partition("-")[0]
        sha256, suffix = _digest_of_archive(source), ".zip" if source.path.suffix == ".zip" else ".tar.gz"
    plain = canonicalize_name(re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "tree")
    tree = Sdist(name=plain, version=TREE_VERSION, filename=f"{plain}{suffix}", sha256=sha256)
    return PackedSource(source=source, archive=archive, tree=tree)


def _digest_of_archive(source: LocalSource) -> str:
    try:
        size, sha256 = source.path.stat().st_size, sha256_of_file(source.path)
    except OSError as error:
        raise BadTree(f"{source.shown} can't be read: {error.strerror}.") from error
    if size > MOST_BYTES:
        raise BadTree(f"{source.shown} is larger than {MOST_BYTES >> 20} MiB, which is as much as the farm takes.")
    if source.hashes and sha256 not in source.hashes:
        allowed = ", ".join(sorted(source.hashes))
        raise HashMismatch(f"{source.shown} has sha256 {sha256}, but the requirements allow only {allowed}.")
    return sha256
