"""What a target is to a resolver: its environment markers, and the options that make uv resolve by them alone.

uv always starts from the markers of an interpreter of this machine, and its options replace all of them but the
implementation's two: any CPython serves, whatever it is the interpreter of. A target is no running machine: it has
no kernel release, and the markers of that are empty, as they are where uv resolves for another platform.
"""

import os
import sys

from wheelfarm.errors import InputError
from wheelfarm.target import Target

_UV_PLATFORMS = {
    "x86_64": "x86_64-unknown-linux-gnu",
    "aarch64": "aarch64-unknown-linux-gnu",
    "riscv64": "riscv64-unknown-linux",
}
"""By machine; of the libc, of which the name speaks too, nothing depends where no wheel is chosen."""


def marker_environment(target: Target) -> dict[str, str]:
    """Every environment marker (PEP 508) of a target, whatever machine asks."""
    return {
        "implementation_name": "cpython",
        "implementation_version": target.python_version,
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": target.python_version,
        "python_version": ".".join(target.python_version.split(".")[:2]),
        "sys_platform": "linux",
    }


def uv_options(target: Target) -> list[str]:
    """Options of `uv pip compile`: an interpreter of this machine, and the target's version and platform over it.

    Raises InputError for a machine that uv has no name for, unless it is this one, and where CPython is wanting.
    """
    platform = _UV_PLATFORMS.get(target.machine)
    if platform is None and target.machine != os.uname().machine:
        raise InputError(
            f"{target.name} is of {target.machine}, for which requirements can be resolved only on such a machine.",
            hint=f"Machines that can be resolved for from everywhere: {', '.join(_UV_PLATFORMS)}.",
        )
    options = ["--python", _cpython(target), "--python-version", target.python_version]
    return [*options, "--python-platform", platform] if platform else options


def _cpython(target: Target) -> str:
    """This process's own interpreter where it is CPython: it is there, and what it is leaves no trace."""
    if sys.implementation.name == "cpython" and sys.executable:
        return sys.executable
    if os.access(target.python, os.X_OK):
        return target.python
    raise InputError(
        f"To resolve for {target.name} takes a CPython, and {sys.executable or 'this program'} runs on "
        f"{sys.implementation.name}.",
        hint="Install wheelfarm into an environment of CPython.",
    )
