"""Users for the slots of a worker that is root, each slot's its own on the whole machine.

The kernel counts processes by user, so two sandboxes of one user would share one limit.
"""

import socket
from typing import Self

from wheelfarm.errors import SandboxUnavailable

FIRST_UID = 20001
LAST_UID = 29999


class SlotUsers:
    """As many user ids as there are slots; no other farm of the machine has them until they are released."""

    def __init__(self, count: int) -> None:
        self._claims: list[Claim] = []
        self._uids: list[int] = []
        for uid in range(FIRST_UID, LAST_UID + 1):
            if len(self._uids) < count and (claim := Claim.of_free(f"wheelfarm-uid-{uid}")):
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
            claim.release()


class Claim:
    """A name in the kernel that one process can have at a time, and no longer than it lives."""

    def __init__(self, name: str) -> None:
        """Raises OSError for a name that another has."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(f"\0{name}")
        except OSError:
            self._socket.close()
            raise

    @classmethod
    def of_free(cls, name: str) -> Self | None:
        """A claim to the name; None where another has it."""
        try:
            return cls(name)
        except OSError:
            return None

    @classmethod
    def is_free(cls, name: str) -> bool:
        """Whether nobody has the name."""
        claim = cls.of_free(name)
        if claim is not None:
            claim.release()
        return claim is not None

    def release(self) -> None:
        """Let others have it."""
        self._socket.close()
