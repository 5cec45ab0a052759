"""The system calls that a build has no use for: as a BPF program for `bwrap --seccomp`, as a profile for containers."""

import errno
import json
import tempfile
from collections.abc import Iterator
from types import ModuleType

from wheelfarm.errors import SandboxUnavailable

_DENIED = (
    # keys, tracing and other processes' memory
    *("add_key", "keyctl", "request_key", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp"),
    *("pidfd_getfd", "perf_event_open", "bpf", "userfaultfd", "lookup_dcookie", "syslog"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    # namespaces and mounts
    *("unshare", "setns", "mount", "umount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree"),
    *("open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "open_by_handle_at"),
    *("fanotify_init", "quotactl", "quotactl_fd"),
    # the machine
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "swapon", "swapoff"),
    *(
        "reboot",
        "acct",
        "iopl",
        "ioperm",
        "modify_ldt",
        "vhangup",
        "nfsservctl",
        "move_pages",
        "migrate_pages",
    ),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
)
_NUMBERS = {  # the same on every architecture since Linux 5.1; for a libseccomp that is older than the call
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "clone3": 435, "pidfd_getfd": 438, "mount_setattr": 442, "quotactl_fd": 443, "open_tree_attr": 467,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
}  # fmt: skip
_NAMESPACES = (
    0x00020000,
    0x02000000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)  # CLONE_NEW*
_FAMILIES = (38, 40)  # AF_ALG, AF_VSOCK
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_UNKNOWN = -1
_INT = 0xFFFFFFFF  # the kernel looks at the low half of these arguments only, so must the filter (CVE-2019-10063)


Comparison = tuple[int, int, int]
"""Which argument of a call is looked at, which of its bits, and what they are where the call is refused."""


def seccomp_program() -> bytes:
    """The filter for this machine's architecture: everything is allowed but what is denied above.

    clone3 hides its flags from filters, so it is ENOSYS and libc falls back to clone. Raises SandboxUnavailable
    without libseccomp or its binding.
    """
    seccomp = _binding()
    program = seccomp.SyscallFilter(seccomp.ALLOW)
    for name, error, comparison in _refusals():
        arguments = []
        if comparison is not None:
            argument, mask, value = comparison
            arguments = [seccomp.Arg(argument, seccomp.MASKED_EQ, mask, value)]
        _refuse(seccomp, program, name, error, *arguments)
    with tempfile.TemporaryFile() as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


def seccomp_profile() -> bytes:
    """The same as engines of containers take it (OCI runtime-spec, config-linux.md, Seccomp), for the architecture of
    their machine. Their runtimes pass over calls that the libseccomp they have does not know by name."""
    calls = []
    for name, error, comparison in _refusals():
        call: dict[str, object] = {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": error}
        if comparison is not None:
            argument, mask, value = comparison
            call["args"] = [{"index": argument, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}]
        calls.append(call)
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}).encode()


def _refusals() -> Iterator[tuple[str, int, Comparison | None]]:
    """Each call that is refused, with which error, and what of its arguments has to be so for that."""
    yield from ((name, errno.EPERM, None) for name in _DENIED)
    yield "clone3", errno.ENOSYS, None
    yield from (("clone", errno.EPERM, (0, flag, flag)) for flag in _NAMESPACES)
    yield from (("socket", errno.EAFNOSUPPORT, (0, _INT, family)) for family in _FAMILIES)
    yield from (("ioctl", errno.EPERM, (1, _INT, request)) for request in _TERMINAL_INPUT)


def _binding() -> ModuleType:
    try:
        import pyseccomp
    except ModuleNotFoundError as error:
        raise SandboxUnavailable(
            "The Python package pyseccomp is not installed, so system calls can't be filtered.",
            hint="pip install 'wheelfarm[workers]'",
        ) from error
    except RuntimeError as error:
        raise SandboxUnavailable(
            "The library libseccomp is not installed, so system calls can't be filtered.",
            hint="apt-get install libseccomp2",
        ) from error
    binding: ModuleType = pyseccomp
    return binding


def _refuse(seccomp: ModuleType, program: object, name: str, error: int, *arguments: object) -> None:
    """Answer the call with `error`. One that neither this libseccomp nor the table knows is let be."""
    number = seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)
    if number == _UNKNOWN:
        number = _NUMBERS.get(name, _UNKNOWN)
    if number != _UNKNOWN:
        program.add_rule(seccomp.ERRNO(error), number, *arguments)  # type: ignore[attr-defined]
