"""Where a worker that runs as root shows its sandboxes' users what they could not reach by its own path.

The sandboxes of such a worker run as users of their own, who can't enter /root or another home. What is in there is
bind-mounted for each run into a tmpfs that only the spawner sees, in a mount namespace of its own.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from wheelfarm_workers.sandbox import linux
from wheelfarm_workers.sandbox.protocol import Bind, Furniture

STAGE = Path("/run/wheelfarm-stage")


def is_reachable(path: Path) -> bool:
    """Whether every user may enter the folders on the way to `path`, a path without symbolic links."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)


def is_readable(path: Path) -> bool:
    """Whether every user may read the file or folder itself."""
    mode = path.stat().st_mode
    needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) else 0)
    return mode & needed == needed


def enter_private_namespace() -> None:
    """Give this process, which has one thread, mounts of its own, and what it sees as / as their real root.

    The kernel makes no user namespace in a chroot, so there the root has to be moved: it is mounted over the root of
    the namespace, as switch_root does.
    """
    seen_root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    linux.unshare(linux.CLONE_NEWNS)
    _leave_chroot()
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    os.fchdir(seen_root)
    if (path := Path.cwd()) != Path("/"):
        linux.mount(path, path, flags=linux.MS_BIND | linux.MS_REC)
        os.chdir(path)  # into the new mount, the descriptor is below it
        linux.mount(".", "/", flags=linux.MS_MOVE)
        os.chroot(".")
    os.chdir("/")
    os.close(seen_root)
    if not Path("/proc/self").exists():
        linux.mount("proc", "/proc", fstype="proc", flags=linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)


def make_stage() -> None:
    """Mount the stage; in a private namespace nobody else sees it."""
    STAGE.mkdir(mode=0o755, parents=True, exist_ok=True)
    _mount_tmpfs(STAGE)


def lay_out(folder: Path, binds: Iterable[Bind]) -> None:
    """Bind-mount each source at its name in a new folder of the stage."""
    folder.mkdir()
    _mount_tmpfs(folder)
    for bind in binds:
        _bind(Path(bind.source), folder / bind.name, writable=bind.writable)


def furnish(furniture: Furniture) -> None:
    """Make a folder as it is told, so that every user may enter what is in it."""
    root = Path(furniture.folder)
    root.mkdir()
    for name in furniture.directories:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in furniture.open:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(0o1777)
    for name in furniture.files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, target in furniture.symlinks.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)


def clear_away(folder: Path) -> None:
    """Unmount a folder of the stage with all in it, and remove it."""
    linux.detach(folder)
    folder.rmdir()


def _leave_chroot() -> None:
    """Make the namespace's root this process's own: entering a namespace, even one's own, does that."""
    own = os.pidfd_open(os.getpid())
    linux.setns(own, linux.CLONE_NEWNS)
    os.close(own)


def _mount_tmpfs(folder: Path) -> None:
    linux.mount("wheelfarm", folder, fstype="tmpfs", flags=linux.MS_NOSUID | linux.MS_NODEV, data="mode=755,size=1m")


def _bind(source: Path, target: Path, *, writable: bool) -> None:
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()
    linux.mount(source, target, flags=linux.MS_BIND | linux.MS_REC)
    if not writable:
        # flags that the mount has already can't be taken away by root in a user namespace
        present = os.statvfs(target).f_flag & (linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        read_only = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV
        linux.mount("none", target, flags=read_only | present)
