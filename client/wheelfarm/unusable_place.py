"""Errors of the operating system about places that the user decides on: folders and files, and room on a disk."""

import errno
import os

from wheelfarm.errors import DiskFull, InputError, WheelfarmError

_OF_PLACES = (
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)


def unusable_place(fault: OSError) -> WheelfarmError | None:
    """The error for a place of the user's that can't be used as it would have to be; None for a fault of ours."""
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"There is no room left for {fault.filename or 'what the command has to write'}.",
            hint="Free some space there, then run the command again: finished wheels are kept.",
        )
    if fault.filename is None or fault.errno not in _OF_PLACES:
        return None
    return InputError(
        f"{os.fsdecode(fault.filename)} can't be used: {fault.strerror}.",
        hint="Name another place, by an option or by WHEELFARM_CACHE, WHEELFARM_STORE or XDG_RUNTIME_DIR.",
    )
