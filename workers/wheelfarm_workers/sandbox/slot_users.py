"""Users for the slots of a worker that is root, each slot's its own on the whole machine.

The kernel counts processes by user, so two sandboxes of one user would share one limit.
"""

import socket
from contextlib import suppress

from wheelfarm.errors import SandboxUnavailable

FIRST_UID = 20001
LAST_UID = 29999


class SlotUsers:
    """As many user ids as there are slots; no other farm of the machine has them until they are released."""

    def __init__(self, count: int) -> None:
        self._claims: list[socket.socket] = []
        self._uids: list[int] = []
        for uid in range(FIRST_UID, LAST_UID + 1):
            if len(self._uids) < count and (claim := _claim(uid)):
                self._claims.append(claim)
                self._uids.append(uid)
        if len(self._uids) < count:
            self.release()
            raise SandboxUnavailable(f"All of the user ids {FIRST_UID} to {LAST_UID} are taken by other workers.")

    def __getitem__(self, slot: int) -> int:
        return self._uids[slot]

    def release(self) -> None:
        """Let others have them."""
        for claim in self._claims:
            claim.close()


def _claim(uid: int) -> socket.socket | None:
    """A name in the kernel that one process can have at a time, and no longer than it lives."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with suppress(OSError):
        claim.bind(f"\0wheelfarm-uid-{uid}")
        return claim
    claim.close()
    return None
