"""Why bubblewrap does not work on a machine, from what it said and how the kernel is set, and what mends it."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from wheelfarm.errors import SandboxUnavailable

_CLONE = "kernel/unprivileged_userns_clone"
_MAXIMUM = "user/max_user_namespaces"
_APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
_APPARMOR_HINT = (
    "Load AppArmor's profile for bwrap: copy /usr/share/apparmor/extra-profiles/bwrap-userns-restrict of the package "
    "apparmor-profiles to /etc/apparmor.d and run: apparmor_parser -r /etc/apparmor.d/bwrap-userns-restrict"
)
_CONTAINER_HINT = (
    "In a container bubblewrap needs a seccomp profile that allows namespaces and an unmasked /proc, for instance: "
    "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined; in Kubernetes: "
    "seccompProfile Unconfined, procMount Unmasked, hostUsers false."
)
_BY_MESSAGE = (
    ("Unknown option", "bubblewrap is older than 0.8.", "Install bubblewrap 0.8 or newer."),
    ("loopback: Failed", "AppArmor gives bubblewrap no network namespace.", "Keep one AppArmor profile for bwrap."),
    ("setting up uid map", "The kernel refuses to map users into a user namespace.", _APPARMOR_HINT),
    ("mount proc", "The kernel refuses a new /proc, for parts of this one are masked.", _CONTAINER_HINT),
    ("pivot_root", "The kernel refuses bubblewrap a root of its own.", _CONTAINER_HINT),
    ("namespace", "User namespaces are forbidden here, by a container's seccomp profile or a chroot.", _CONTAINER_HINT),
)


def read_kernel_settings(folder: Path) -> dict[str, str]:
    """The settings under /proc/sys that forbid user namespaces, as far as this kernel has them."""
    settings = {}
    for name in (_CLONE, _MAXIMUM, _APPARMOR):
        with suppress(OSError):
            settings[name] = (folder / name).read_text().strip()
    return settings


def diagnose(log: str, settings: Mapping[str, str]) -> SandboxUnavailable:
    """The error for a probe that failed with this output."""
    reason, hint = _explain(log, settings)
    return SandboxUnavailable(f"{reason} The probe said: {log.strip()[-500:] or 'nothing'}", hint=hint)


def _explain(log: str, settings: Mapping[str, str]) -> tuple[str, str]:
    namespaces = "namespace" in log or "uid map" in log
    if namespaces and settings.get(_CLONE) == "0":
        return "The kernel forbids user namespaces.", "sysctl -w kernel.unprivileged_userns_clone=1"
    if namespaces and settings.get(_MAXIMUM) == "0":
        return "The kernel allows no user namespace.", "sysctl -w user.max_user_namespaces=15000"
    if namespaces and settings.get(_APPARMOR) == "1":
        return "AppArmor forbids user namespaces.", _APPARMOR_HINT
    for message, reason, hint in _BY_MESSAGE:
        if message in log:
            return reason, hint
    return "The sandbox does not work.", "Use another back end, or report this as a bug."
