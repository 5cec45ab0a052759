"""Machines whose programs this one runs: its own, and those that binfmt_misc has an emulator for."""

import os
from pathlib import Path

from wheelfarm.errors import SandboxUnavailable

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "arm", "ppc64el": "ppc64le", "riscv64": "riscv64"}
"""Debian's architectures, as qemu and binfmt name them."""
_EMULATED = frozenset(("aarch64", "arm", "ppc64le", "riscv64", "s390x", "x86_64"))
"""Machines that none of another kind runs the programs of by itself, as an x86_64 runs those of an i686."""


def machine_of(arch: str) -> str:
    """A Debian architecture as the kernel names it; this machine's where none is named."""
    return _MACHINES.get(arch, arch) or os.uname().machine


def require_runnable(machine: str, binfmt: Path | None = None) -> None:
    """Raise SandboxUnavailable, with what to install, unless programs for such a machine run on this one."""
    here = os.uname().machine
    if machine == here or machine not in _EMULATED:
        return
    try:
        enabled = ((binfmt or _BINFMT) / f"qemu-{machine}").read_text().startswith("enabled")
    except OSError:
        enabled = False
    if not enabled:
        raise SandboxUnavailable(
            f"This machine ({here}) does not run programs for {machine}: no binfmt handler qemu-{machine}.",
            hint="apt-get install qemu-user-static binfmt-support, or serve the target on such a machine.",
        )
