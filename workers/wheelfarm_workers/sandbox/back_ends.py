"""The sandbox back ends of one worker, each opened when the first target wants it, and probed before it is used."""

import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from wheelfarm_workers.sandbox import Sandbox
from wheelfarm_workers.sandbox.bubblewrap import BubblewrapSandbox
from wheelfarm_workers.sandbox.containers import ContainerSandbox
from wheelfarm_workers.sandbox.engines import ENGINES
from wheelfarm_workers.sandbox.unconfined import UnconfinedSandbox

logger = logging.getLogger(__name__)


class BackEnds:
    """Back ends by name, with `slots` runs at once each; what is half-finished lies in `work`. Engines of containers
    are told to use the `runtime`, where one is named."""

    def __init__(self, *, slots: int, work: Path, runtime: str = "") -> None:
        self._slots = slots
        self._runtime = runtime
        self._work = work
        self._opened: dict[str, Sandbox] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def back_end(self, name: str) -> Sandbox:
        """The back end of that name. Raises SandboxUnavailable where it does not work."""
        with self._lock:
            if name not in self._opened:
                sandbox = self._made(name)
                try:
                    sandbox.probe()
                except BaseException:
                    sandbox.close()
                    raise
                self._opened[name] = sandbox
            return self._opened[name]

    def close(self) -> None:
        """End every run."""
        for sandbox in list(self._opened.values()):
            sandbox.close()

    def _made(self, name: str) -> Sandbox:
        if name == "none":
            logger.warning("builds are not isolated: --sandbox none")
            return UnconfinedSandbox(slots=self._slots, work_dir=self._work)
        if name in ENGINES:
            return ContainerSandbox(ENGINES[name], slots=self._slots, work_dir=self._work, runtime=self._runtime)
        return BubblewrapSandbox(slots=self._slots, work_dir=self._work)
