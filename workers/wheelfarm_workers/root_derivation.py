"""Deriving root filesystems: Debian packages installed beside what a root filesystem has, ahead of the builds.

Root does that, with the network, when an operator says so; builds have neither. What runs for it, apt and the packages'
scripts, is the root filesystem's own, in a chroot and in namespaces, and is trusted as what debootstrap runs is.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from wheelfarm.derived_root import DerivedRoot, find_derived
from wheelfarm.errors import InputError, SandboxUnavailable
from wheelfarm_workers.roots import Roots

_INSTALL = """
set -e
root=$1; shift
mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o mode=755 dev "$root/dev"
for name in null zero full random urandom tty; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
chroot "$root" apt-get update -qq
chroot "$root" apt-get install --yes -qq --no-install-recommends -- "$@"
"""
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_NO_SERVICES = "#!/bin/sh\nexit 101\n"


def derive_root(folder: Path, roots: Roots, base: str, packages: Sequence[str]) -> DerivedRoot:
    """The root filesystem of `base` with the packages: the one that the folder has a note of, or made now, to be noted.

    Raises InputError where it has no apt or apt does not know a package, SandboxUnavailable without rights.
    """
    found = find_derived(folder, base, packages)
    if found is not None and roots.archive(found.root).exists():
        return found
    if os.getuid() != 0:
        raise SandboxUnavailable(
            "Packages are installed as root only.", hint="Run it with sudo, on the worker's machine."
        )
    with roots.unpacked_anew(base) as tree:
        if not (tree / "usr/bin/apt-get").exists():
            raise InputError(
                "The target's root filesystem has no apt, so no packages can be installed in it.",
                hint="Bring one that has them: wheelfarm target add NAME --replace --from …",
            )
        with _made_ready(tree):
            _install(tree, packages)
        return DerivedRoot(base=base, packages=tuple(sorted(set(packages))), root=roots.keep(tree))


def _install(tree: Path, packages: Sequence[str]) -> None:
    command = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "/bin/sh", "-c", _INSTALL]
    done = subprocess.run(
        [*command, "sh", str(tree), *packages],
        env=_environment(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(
            f"{', '.join(packages)} can't be installed in it: {(done.stdout + done.stderr).strip()[-1000:]}",
            hint="Packages are taken from where the root filesystem's own apt takes them (/etc/apt in it).",
        )


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    proxies = {name: environment[name] for name in _PROXIES if name in environment}
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", **proxies}


@contextmanager
def _made_ready(tree: Path) -> Iterator[None]:
    """This machine's names of servers for apt, no services started by packages; both are taken back."""
    for name in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt", "proc", "dev", "tmp"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    names, services = tree / "etc/resolv.conf", tree / "usr/sbin/policy-rc.d"
    for path in (names, services):
        if not path.parent.resolve().is_relative_to(tree.resolve()):
            raise InputError(f"/{path.parent.relative_to(tree)} of the root filesystem leads out of it.")
    aside = [path.rename(path.with_name(f"{path.name}.aside")) for path in (names, services) if os.path.lexists(path)]
    if Path("/etc/resolv.conf").exists():
        shutil.copyfile("/etc/resolv.conf", names)
    services.write_text(_NO_SERVICES)
    services.chmod(0o755)
    try:
        yield
    finally:
        for path in (names, services):
            path.unlink(missing_ok=True)
        for path in aside:
            path.rename(path.with_suffix(""))
