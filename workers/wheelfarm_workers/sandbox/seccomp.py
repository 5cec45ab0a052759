"""The system calls that a build has no use for, as a BPF program for `bwrap --seccomp`."""

import errno
import tempfile
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


def seccomp_program() -> bytes:
    """The filter for this machine's architecture: everything is allowed but what is denied above.

    clone3 hides its flags from filters, so it is ENOSYS and libc falls back to clone. Raises SandboxUnavailable
    without libseccomp or its binding.
    """
    seccomp = _binding()
    program = seccomp.SyscallFilter(seccomp.ALLOW)
    for name in _DENIED:
        _refuse(seccomp, program, name, errno.EPERM)
    _refuse(seccomp, program, "clone3", errno.ENOSYS)
    for flag in _NAMESPACES:
        _refuse(seccomp, program, "clone", errno.EPERM, seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    for family in _FAMILIES:
        _refuse(seccomp, program, "socket", errno.EAFNOSUPPORT, seccomp.Arg(0, seccomp.MASKED_EQ, _INT, family))
    for request in _TERMINAL_INPUT:
        _refuse(seccomp, program, "ioctl", errno.EPERM, seccomp.Arg(1, seccomp.MASKED_EQ, _INT, request))
    with tempfile.TemporaryFile() as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


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
