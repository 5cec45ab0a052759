"""Where root filesystems come from: made by debootstrap (without root by mmdebstrap), exported from an OCI image, or an
archive made elsewhere."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from wheelfarm.errors import InputError, SandboxUnavailable
from wheelfarm_workers.clearing import remove_tree
from wheelfarm_workers.machines import machine_of, require_runnable
from wheelfarm_workers.roots import Roots

PACKAGES = ("gcc", "g++", "libc6-dev", "make", "patchelf", "pkg-config", "python3-dev")
"""What builds need of a Debian system, beside what a project's recipe or the operator names."""

_FROM_WHERE = "The suite and the packages are taken from the mirror that this machine's apt uses."
_SUITE = re.compile(r"[a-z][a-z0-9.-]*")
_BY_DIGEST = (
    "IMAGE@sha256:HEX, for tags move. Of one that is here: podman image inspect IMAGE --format '{{.RepoDigests}}'"
)
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9./_:-]*@sha256:[0-9a-f]{64}")


def bring_root(source: str, roots: Roots, *, arch: str = "", packages: Sequence[str] = ()) -> str:
    """Have a root filesystem among the roots; its archive's sha256. Raises InputError, SandboxUnavailable."""
    kind, _, named = source.partition(":")
    bring = _BRINGERS.get(kind)
    if bring is None or not named:
        raise InputError(
            f"{source!r} is no source of a target.",
            hint="Accepted: debootstrap:SUITE, oci:IMAGE@sha256:HEX, tar:FILE, host, host:PYTHON or python:REFERENCE",
        )
    if kind != "debootstrap" and (arch or packages):
        raise InputError(f"--arch and --package are for debootstrap, not for {source}.")
    return bring(named, roots, arch, packages)


def _debootstrap(suite: str, roots: Roots, arch: str, packages: Sequence[str]) -> str:
    if not _SUITE.fullmatch(suite):
        raise InputError(f"{suite!r} is not the name of a Debian suite.", hint="For instance: debootstrap:bookworm")
    require_runnable(machine_of(arch))
    words = ["--variant=minbase", f"--include={','.join(sorted({*PACKAGES, *packages}))}"]
    if os.getuid() != 0:
        return _mmdebstrap(suite, roots, arch, words)
    tool = _tool("debootstrap", "debootstrap")
    with _scratch(roots) as folder:
        command = [tool, *words, *([f"--arch={arch}"] if arch else [])]
        done = subprocess.run(
            [*command, suite, str(folder), debian_mirror()], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise InputError(
                f"debootstrap could not make {suite}: {_said(done.stdout, folder)}",
                hint=_FROM_WHERE,
            )
        return roots.keep(folder)


def _mmdebstrap(suite: str, roots: Roots, arch: str, words: Sequence[str]) -> str:
    """The same for a user without root, in a namespace of the users that /etc/subuid gives to this one."""
    if shutil.which("mmdebstrap") is None:
        raise SandboxUnavailable(
            "debootstrap works as root only, and mmdebstrap, which works for others, is not installed.",
            hint="apt-get install mmdebstrap uidmap; or run it with sudo, for a worker that runs as root.",
        )
    unneeded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "info", "locale")]
    with _scratch(roots) as folder:
        archive = folder / "root.tar"
        command = ["mmdebstrap", "--mode=unshare", "--format=tar", "--quiet", *unneeded, *words]
        command += [f"--architectures={arch}"] if arch else []
        done = subprocess.run(
            [*command, suite, str(archive), debian_mirror()], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise InputError(f"mmdebstrap could not make {suite}: {done.stderr.strip()[-1000:]}", hint=_FROM_WHERE)
        return roots.keep_archive(archive)


def _oci(image: str, roots: Roots, arch: str, packages: Sequence[str]) -> str:
    """The image's files, by podman or docker: pulled where it is not here, exported, and never run for it."""
    if not _IMAGE.fullmatch(image):
        raise InputError(f"{image!r} names no image by its digest.", hint=_BY_DIGEST)
    tool = shutil.which("podman") or shutil.which("docker")
    if tool is None:
        raise SandboxUnavailable("Neither podman nor docker is installed.", hint="apt-get install podman runc")
    if subprocess.run([tool, "image", "inspect", image], capture_output=True, check=False).returncode:
        _ran([tool, "pull", "--quiet", image], f"The image {image} can't be had")
    container = _ran([tool, "create", image, "true"], f"The image {image} can't be unpacked").strip()
    try:
        with _scratch(roots) as folder:
            archive = folder / "image.tar"
            _ran([tool, "export", "--output", str(archive), container], f"The image {image} can't be exported")
            return roots.keep_archive(archive)
    finally:
        subprocess.run([tool, "rm", "--force", container], capture_output=True, check=False)


def _archive(path: str, roots: Roots, arch: str, packages: Sequence[str]) -> str:
    return roots.keep_archive(Path(path))


_BRINGERS: Mapping[str, Callable[[str, Roots, str, Sequence[str]], str]] = {
    "debootstrap": _debootstrap,
    "oci": _oci,
    "tar": _archive,
}


def debian_mirror() -> str:
    """The mirror that this machine's apt takes its packages from first. Raises SandboxUnavailable without one."""
    apt = _tool("apt-get", "apt")
    done = subprocess.run(
        [apt, "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    mirrors = [line for line in done.stdout.splitlines() if line and "security" not in line]
    if not mirrors:
        raise SandboxUnavailable(
            "apt has no mirror on this machine, so debootstrap has none either.",
            hint="Add one to /etc/apt/sources.list.d, or bring a root filesystem: --from tar:FILE",
        )
    return mirrors[0].rstrip("/")


def _tool(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise SandboxUnavailable(f"{name} is not installed.", hint=f"apt-get install {package}")
    return found


@contextmanager
def _scratch(roots: Roots) -> Iterator[Path]:
    folder = Path(mkdtemp(dir=roots.scratch(), prefix="."))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        remove_tree(folder)


def _ran(command: list[str], failed: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxUnavailable(f"{failed}: {done.stderr.strip()[-500:]}")
    return done.stdout


def _said(output: str, folder: Path) -> str:
    """The errors of debootstrap, and the end of its own log."""
    errors = [line for line in output.splitlines() if line.startswith("E:")]
    log = folder / "debootstrap" / "debootstrap.log"
    tail = log.read_text(errors="replace").splitlines()[-5:] if log.is_file() else []
    return " ".join([*errors, *tail])[-1000:] or "it said nothing"
