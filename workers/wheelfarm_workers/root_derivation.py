"""Deriving root filesystems: Debian packages installed beside what a root filesystem has, ahead of the builds.

Root does that, or the root of a user namespace, with the network, when an operator says so; builds have neither. What
runs for it, apt and the packages' scripts, is the root filesystem's own, in a chroot and in namespaces, and is trusted
as what debootstrap runs is.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from wheelfarm.derived_root import DerivedRoot, find_derived
from wheelfarm.errors import InputError, SandboxUnavailable
from wheelfarm_workers.roots import Roots
from wheelfarm_workers.sandbox.engines import SUBUIDS

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
    derive = _derive if os.getuid() == 0 else _derive_in_namespace
    return DerivedRoot(base=base, packages=tuple(sorted(set(packages))), root=derive(folder, roots, base, packages))


def main(arguments: Sequence[str]) -> int:
    """What root of the namespace does: the sha256 on stdout, or what is wrong, as JSON."""
    folder, cache, base, *packages = arguments
    try:
        print(json.dumps({"root": _derive(Path(folder), Roots(Path(folder), Path(cache)), base, packages)}))
    except InputError as error:
        print(json.dumps({"message": error.message, "hint": error.hint}))
    return 0


def _derive(folder: Path, roots: Roots, base: str, packages: Sequence[str]) -> str:
    with roots.unpacked_anew(base) as tree:
        if not (tree / "usr/bin/apt-get").exists():
            raise InputError(
                "The target's root filesystem has no apt, so no packages can be installed in it.",
                hint="Bring one that has them: wheelfarm target add NAME --replace --from …",
            )
        with _made_ready(tree):
            _install(tree, packages)
        return roots.keep(tree)


def _derive_in_namespace(folder: Path, roots: Roots, base: str, packages: Sequence[str]) -> str:
    """The same by root of a user namespace, whose users are those that /etc/subuid gives to this one."""
    namespace = ("unshare", "--user", "--map-root-user", "--map-auto", "--")
    command = (*namespace, sys.executable, "-m", __name__, str(folder), str(roots.scratch()), base, *packages)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxUnavailable(
            "Packages are installed as root, or as the root of a user namespace, and that failed: "
            f"{done.stderr.strip()[-500:] or 'it said nothing'}",
            hint=f"{SUBUIDS}; or run it with sudo and the WHEELFARM_TARGETS that the worker has.",
        )
    told = json.loads(done.stdout)
    if "root" not in told:
        raise InputError(told["message"], hint=told["hint"])
    roots.note(told["root"])
    return str(told["root"])


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
