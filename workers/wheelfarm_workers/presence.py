"""A worker's presence: it tells the fleet of itself again and again, and takes leave when it ends."""

import logging
import threading
from dataclasses import replace
from typing import Self

from wheelfarm.errors import WheelfarmError
from wheelfarm.worker import WorkerRecord
from wheelfarm_services.fleet import Fleet

logger = logging.getLogger(__name__)

_LEAVE_S = 5.0


class Presence:
    """Tells four times in a lease; a worker that was silent for a whole one counts as gone."""

    def __init__(self, fleet: Fleet, record: WorkerRecord, *, lease_s: float) -> None:
        self._fleet = fleet
        self._record = record
        self._lease_s = lease_s
        self._changed = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._go_on_telling, name="presence", daemon=True)

    def __enter__(self) -> Self:
        self._tell()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._changed.set()
        self._thread.join(timeout=_LEAVE_S)

    def drain(self) -> None:
        """From now on tell that no new jobs are taken."""
        self._record = replace(self._record, drains=True)
        self._changed.set()

    def _tell(self) -> None:
        try:
            self._fleet.tell(self._record, for_s=self._lease_s)
        except WheelfarmError as error:
            logger.warning("the fleet was not told", extra={"reason": error.message})

    def _go_on_telling(self) -> None:
        while True:
            self._changed.wait(self._lease_s / 4)
            self._changed.clear()
            if self._over:
                break
            self._tell()
        try:
            self._fleet.leave(self._record.name)
        except WheelfarmError as error:
            logger.warning("leave not taken", extra={"reason": error.message})
