"""Root filesystems: archives by their sha256 beside the target definitions, unpacked once into the machine's cache."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from wheelfarm.digest import sha256_of_file
from wheelfarm.errors import InputError, SandboxUnavailable
from wheelfarm.target_definition import ROOTS
from wheelfarm_workers.cache_bound import made_once
from wheelfarm_workers.clearing import remove_tree
from wheelfarm_workers.sandbox import Root

_EXCLUDED = (
    *("dev", "proc", "sys", "run", "tmp", "var/tmp", "var/cache/apt", "var/lib/apt/lists", "var/log"),
    *("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale"),
)
"""Folders whose contents no build needs, or which a sandbox has of its own."""


class Roots:
    """The root filesystems of a folder of target definitions; what is unpacked of them is kept in `cache`."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._archives = folder / ROOTS
        self._cache = cache
        self._brought: set[str] = set()

    def root(self, sha256: str, *, for_s: float = 0.0) -> Root:
        """A root filesystem, unpacked by now, to be used for that long or an hour. Raises InputError where its archive
        is gone or has other bytes."""
        folder = self._cache / sha256[:40]
        made_once(folder, lambda: self._unpack(sha256, folder), for_s=for_s)
        return Root(folder=folder, archive=self.archive(sha256), sha256=sha256)

    def archive(self, sha256: str) -> Path:
        """Where the archive of a root filesystem lies."""
        return self._archives / f"{sha256}.tar"

    def keep(self, tree: Path) -> str:
        """Archive a root filesystem; the archive's sha256. Its owners are kept as numbers, its members sorted."""
        partial = self._partial()
        excluded = [word for name in _EXCLUDED for word in ("--exclude", f"./{name}/*")]
        _tar(["--create", "--file", str(partial), "--sort=name", *excluded, "--directory", str(tree), "."])
        return self._placed(partial, sha256_of_file(partial))

    def keep_archive(self, archive: Path) -> str:
        """Take a copy of an archive, compressed or not, that was made elsewhere; its sha256."""
        if _is_plain_tar(archive):
            sha256 = sha256_of_file(archive)
            if not self.archive(sha256).exists():
                partial = self._partial()
                shutil.copyfile(archive, partial)
                self._placed(partial, sha256)
            return sha256
        tree = self.scratch() / f".{os.getpid()}.new"
        try:
            _extract(archive, tree)
            return self.keep(tree)
        finally:
            remove_tree(tree)

    @contextmanager
    def unpacked_anew(self, sha256: str) -> Iterator[Path]:
        """A copy of a root filesystem to change something in; it is removed after that. Raises InputError."""
        folder = Path(mkdtemp(prefix=".derived-", dir=self.scratch()))
        try:
            tree = folder / "root"
            _extract(self._verified(sha256), tree)
            yield tree
        finally:
            remove_tree(folder)

    @contextmanager
    def kept_if_well(self) -> Iterator[None]:
        """Remove again what was brought here by these meanwhile, unless all goes well."""
        self._brought.clear()
        try:
            yield
        except BaseException:
            for sha256 in self._brought:
                self.archive(sha256).unlink(missing_ok=True)
                remove_tree(self._cache / sha256[:40])
            raise

    def note(self, sha256: str) -> None:
        """Count a root filesystem among what was brought here by these."""
        self._brought.add(sha256)

    def scratch(self) -> Path:
        """A folder for what is half-finished, whose names begin with a dot, on the file system of the unpacked ones."""
        self._cache.mkdir(parents=True, exist_ok=True)
        return self._cache

    def _partial(self) -> Path:
        for folder in (self._archives, self._cache):
            folder.mkdir(parents=True, exist_ok=True)
        return self._archives / f".{os.getpid()}.new"

    def _placed(self, partial: Path, sha256: str) -> str:
        if self.archive(sha256).exists():
            partial.unlink()
        else:
            partial.replace(self.archive(sha256))
            self.note(sha256)
        return sha256

    def _unpack(self, sha256: str, folder: Path) -> None:
        archive = self._verified(sha256)
        partial = folder.with_name(f".{folder.name}.new")
        remove_tree(partial)
        _extract(archive, partial)
        partial.replace(folder)

    def _verified(self, sha256: str) -> Path:
        archive = self.archive(sha256)
        try:
            found = sha256_of_file(archive)
        except OSError as error:
            raise InputError(
                f"The root filesystem sha256:{sha256} is gone: {archive} can't be read ({error.strerror}).",
                hint="Bring the file back from a machine that has it, or make the target anew: wheelfarm target add",
            ) from error
        if found != sha256:
            raise InputError(
                f"{archive} has sha256 {found}: it is not the root filesystem that the target was defined with.",
                hint="Bring the file back from a machine that has it, or make the target anew: wheelfarm target add",
            )
        return archive


def _extract(archive: Path, folder: Path) -> None:
    folder.mkdir(mode=0o755, parents=True)
    owner = ["--same-owner"] if os.getuid() == 0 else ["--no-same-owner"]
    no_devices = ["--exclude", "./dev/*", "--exclude", "dev/*"]
    _tar(["--extract", "--file", str(archive), "--same-permissions", *owner, *no_devices, "--directory", str(folder)])
    folder.chmod(0o755)


def _is_plain_tar(archive: Path) -> bool:
    try:
        with archive.open("rb") as file:
            file.seek(257)
            return file.read(5) == b"ustar"
    except OSError as error:
        raise InputError(f"{archive} can't be read: {error.strerror}.") from error


def _tar(words: Sequence[str]) -> None:
    done = subprocess.run(["tar", "--numeric-owner", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxUnavailable(f"The root filesystem's archive failed: {done.stderr.strip()[-500:]}")
