"""The Linux system calls of the sandboxes that Python 3.11 does not wrap."""

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x2000, 0x4000, 0x40000
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 1, 23, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str | Path, target: str | Path, *, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    words = (os.fsencode(source), os.fsencode(target), fstype.encode())
    _check(_libc.mount(*words, flags, data.encode()), f"mount {target}")


def detach(target: str | Path) -> None:
    """Unmount `target` and all below it, at once even where it is still in use (umount2 with MNT_DETACH)."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"unmount {target}")


def unshare(flags: int) -> None:
    """unshare(2); `os.unshare` came with Python 3.12."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """setns(2); `os.setns` came with Python 3.12."""
    _check(_libc.setns(fd, flags), "setns")


def die_with_parent(signal: int) -> None:
    """Have this process killed by `signal` when the thread that started it ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "PR_SET_PDEATHSIG")


def forgo_privileges() -> None:
    """Never gain privileges by executing a file: no_new_privs for everybody, root's bounding set emptied as well."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "PR_CAP_AMBIENT")
    capability = 0
    while os.getuid() == 0 and _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
        _check(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "PR_CAPBSET_DROP")
        capability += 1
