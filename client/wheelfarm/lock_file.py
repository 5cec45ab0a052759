"""Locks as input: the sdists that a pylock.toml (PEP 751) or a uv.lock names for a target, or the wheels that a lock of
the farm names; nothing is resolved."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from packaging.markers import Environment
from packaging.pylock import Package, PackageSdist, Pylock, PylockSelectError, PylockValidationError
from packaging.utils import canonicalize_name

from wheelfarm import farm_lock, uv_lock
from wheelfarm.digest import digest_of
from wheelfarm.errors import DirectReferenceRefused, InputError, NoSdist
from wheelfarm.job import Sdist
from wheelfarm.project_file import read_toml
from wheelfarm.target import Target
from wheelfarm.target_markers import marker_environment
from wheelfarm.wheel import BuiltWheel

_NO_SDIST = PackageSdist(name="none-0.tar.gz", path="none-0.tar.gz", hashes={"sha256": "0" * 64})


@dataclass(frozen=True, kw_only=True, slots=True)
class LockFile:
    """A lock, and which of its extras and dependency groups are wanted (None: its default groups).

    `built` are the wheels of a lock that the farm wrote (None: somebody else's, of sdists).
    """

    path: Path
    pylock: Pylock
    extras: tuple[str, ...]
    groups: tuple[str, ...] | None
    text_sha256: str
    built: tuple[BuiltWheel, ...] | None = None

    @property
    def identity(self) -> str:
        """A digest of all that decides which sdists are named."""
        return digest_of([self.text_sha256, sorted(self.extras), sorted(self.groups or ()), self.groups is None])

    def wheels(self, target: Target) -> tuple[BuiltWheel, ...] | None:
        """The wheels of a lock that the farm wrote, None for another. Raises InputError where the target is not its."""
        if self.built is not None:
            self._select(replace(self.pylock, packages=()), target)
        return self.built

    def sdists(self, target: Target) -> tuple[Sdist, ...]:
        """The sdists for a target, markers evaluated. The lock's wheels are passed over.

        Raises NoSdist naming the packages that are locked without an sdist, DirectReferenceRefused for trees, archives
        and repositories, InputError when the lock is not for the target.
        """
        if self.built is not None:
            raise InputError(
                f"{self.path} is a lock of the farm's wheels, which are built.", hint="wheelfarm install -r"
            )
        stripped = [replace(package, wheels=None, sdist=_any_sdist(package)) for package in self.pylock.packages]
        chosen = self._select(replace(self.pylock, packages=stripped), target)
        if lacking := [package.name for package, source in chosen if source is _NO_SDIST]:
            raise NoSdist(
                f"{self.path} locks no sdist of {', '.join(lacking)}, and the farm builds from sdists alone.",
                hint="Lock versions that were published with an sdist, with a tool that keeps sdists in the lock "
                "(uv: --no-binary :all:).",
            )
        return tuple(self._sdist(package, source) for package, source in chosen)

    def _select(self, lock: Pylock, target: Target) -> "list[tuple[Package, object]]":
        """What a lock says is to be installed on a target."""
        environment: Environment = {**marker_environment(target)}  # type: ignore[typeddict-item]
        try:
            return list(lock.select(environment=environment, extras=self.extras, dependency_groups=self.groups))
        except PylockSelectError as error:
            raise InputError(f"{self.path} is not for {target.name}: {error}.") from error

    def _sdist(self, package: Package, source: object) -> Sdist:
        if not isinstance(source, PackageSdist):
            kind = type(source).__name__.removeprefix("Package").lower()
            raise DirectReferenceRefused(
                f"{self.path}: {package.name} is locked to a {kind} entry, and of a lock the farm builds only sdists "
                "that its source index lists.",
                hint="Lock a release of it, or name its tree on the command line.",
            )
        place = unquote(PurePosixPath(urlsplit(source.url or "").path).name) or PurePosixPath(source.path or "").name
        found = {"name": package.name, "version": str(package.version or ""), "filename": source.name or place}
        try:
            return Sdist.from_json({**found, "sha256": source.hashes.get("sha256", "")})
        except InputError as error:
            raise InputError(f"{self.path}: the sdist of {package.name} can't be taken: {error.message}") from error


def read_lock_file(path: Path, *, extras: Sequence[str], all_extras: bool, groups: Sequence[str]) -> LockFile:
    """Read a pylock.toml, a uv.lock, or what `wheelfarm lock` wrote. Raises InputError when it is malformed, or has no
    such extra or group."""
    built = None
    if path.name == uv_lock.NAME:
        value = uv_lock.exported(path, extras=extras, all_extras=all_extras, groups=groups)
        extras, all_extras, groups = (), False, ()  # uv has chosen
    elif (built := farm_lock.requirements_wheels(path)) is not None:
        value = {"lock-version": "1.0", "created-by": "wheelfarm", "packages": []}
    else:
        value = read_toml(path)
        built = farm_lock.pylock_wheels(value)
    try:
        lock = Pylock.from_dict(value)
    except PylockValidationError as error:
        raise InputError(f"{path} is not a lock that can be read: {error}.") from error
    wanted = list(lock.extras or ()) if all_extras else [canonicalize_name(extra) for extra in extras]
    for given, known, what in ((wanted, lock.extras, "extra"), (groups, lock.dependency_groups, "dependency group")):
        if unknown := set(given) - set(known or ()):
            listed = ", ".join(sorted(known or ())) or "none"
            raise InputError(f"{path} has no {what} {sorted(unknown)[0]!r}.", hint=f"It has: {listed}")
    return LockFile(
        path=path,
        pylock=lock,
        extras=tuple(wanted),
        groups=tuple(groups) or None,
        text_sha256=hashlib.sha256(path.read_bytes() + repr(value).encode()).hexdigest(),
        built=built,
    )


def _any_sdist(package: Package) -> PackageSdist | None:
    """What stands in `sdist` for a package that is not from elsewhere, so that its selection never needs a wheel."""
    elsewhere = package.vcs or package.directory or package.archive
    return package.sdist if elsewhere else package.sdist or _NO_SDIST
