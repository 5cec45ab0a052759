"""`python -m wheelfarm_workers.examination`: what this machine has of what workers need, as JSON on stdout."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from wheelfarm.check import Check, failed, found, missing, optional
from wheelfarm.errors import WheelfarmError
from wheelfarm.settings import Settings

if TYPE_CHECKING:
    from wheelfarm_workers.sandbox.bubblewrap import BubblewrapSandbox

_CGROUPS = "give the worker's service its own cgroup (systemd: Delegate=yes), or run it as root of a container"


def sandbox_checks(settings: Settings, work_dir: Path) -> Iterator[Check]:
    """Whether builds can be isolated as a worker isolates them: its own probe, on its own production line."""
    if settings.sandbox == "none":
        yield optional("sandbox", "none was asked for: builds run with your rights", "leave --sandbox none out")
        return
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        yield missing("bubblewrap", "builds are isolated by it", "apt-get install bubblewrap")
    else:
        yield found("bubblewrap", bubblewrap)
    try:  # importing them loads libseccomp
        from wheelfarm_workers.sandbox.bubblewrap import BubblewrapSandbox
        from wheelfarm_workers.sandbox.seccomp import seccomp_program

        seccomp_program()
    except (ImportError, OSError, RuntimeError) as error:
        yield missing("seccomp", f"libseccomp can't be used: {error}", "apt-get install libseccomp2")
        return
    yield found("seccomp", "libseccomp makes the sandboxes' filter")
    if bubblewrap is not None:
        yield from _probe(BubblewrapSandbox(slots=1, work_dir=work_dir))


def _probe(sandbox: "BubblewrapSandbox") -> Iterator[Check]:
    try:
        sandbox.probe()
        limited_by = sandbox.memory_limit
    except WheelfarmError as error:
        yield failed("sandbox", error)
        return
    finally:
        sandbox.close()
    yield found("sandbox", "a process ran in one: user namespaces, mounts, no network")
    if limited_by == "watchdog":
        yield optional("cgroup rights", "no: memory is watched, not held, by the kernel", _CGROUPS)
    else:
        yield found("cgroup rights", f"builds are held to their memory by {limited_by}")


def main() -> None:
    """Check, and print."""
    settings = Settings.from_environment(os.environ)
    with TemporaryDirectory(prefix="wheelfarm-doctor-") as folder:
        print(json.dumps([check.to_json() for check in sandbox_checks(settings, Path(folder))]))


if __name__ == "__main__":
    main()
