"""Python distributions that the farm keeps, unpacked once into this machine's cache for targets that stand on them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from wheelfarm.digest import sha256_of_file
from wheelfarm.errors import CorruptObject, InputError
from wheelfarm.interpreter import Interpreter, chosen
from wheelfarm.interpreter_archive import examine, unpack
from wheelfarm_services import layout
from wheelfarm_services.interpreters import InterpreterShelf
from wheelfarm_services.store import Store
from wheelfarm_workers.cache_bound import made_once
from wheelfarm_workers.sandbox import Mount

SHOWN_AT = "/install"
"""The prefix that distributions are configured with: there their own sysconfig finds them."""


class Distributions:
    """The interpreters of a store; what is unpacked of them is kept in `cache`."""

    def __init__(self, store: Callable[[], Store], cache: Path) -> None:
        self._store = store
        self._cache = cache

    def chosen(self, reference: str, platform: str) -> Interpreter:
        """What a reference such as `3.12.1+20261120` means on a platform. Raises InputError, NotFound."""
        return chosen(reference, platform, InterpreterShelf(self._store()).all())

    def mount(self, sha256: str, *, for_s: float = 0.0) -> Mount:
        """An installation as sandboxes are shown it, unpacked by now, to be used for that long or an hour. Raises
        InputError where its archive is gone."""
        folder = self._cache / sha256[:40]
        made_once(folder, lambda: self._unpack(sha256, folder), for_s=for_s)
        return Mount(source=folder, target=SHOWN_AT)

    def python(self, sha256: str) -> str:
        """Where sandboxes have the installation's interpreter."""
        folder = Path(self.mount(sha256).source) / "bin"
        names = sorted(path.name for path in folder.glob("python3*") if "config" not in path.name)
        if not names:
            raise InputError(f"The distribution sha256:{sha256} has no bin/python3.", hint="Targets need a CPython.")
        return f"{SHOWN_AT}/bin/{names[0]}"

    def _unpack(self, sha256: str, folder: Path) -> None:
        with TemporaryDirectory(dir=self._cache, prefix=".") as work:
            archive, installation = Path(work) / "archive", Path(work) / "installation"
            file = self._store().open(layout.interpreter_archive(sha256))
            if file is None:
                raise InputError(
                    f"The farm keeps the Python distribution sha256:{sha256} no more.",
                    hint="Bring it in again (wheelfarm python add), or make the target anew: wheelfarm target add",
                )
            with file, archive.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            if sha256_of_file(archive) != sha256:
                raise CorruptObject(f"The store gave other bytes for the Python distribution sha256:{sha256}.")
            unpack(archive, archive.name, examine(archive, archive.name).root, installation)
            installation.chmod(0o755)
            os.replace(installation, folder)  # noqa: PTH105
