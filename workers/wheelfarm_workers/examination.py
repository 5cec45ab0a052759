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
from wheelfarm.target_definition import read_definitions
from wheelfarm_workers.sandbox.containers import ContainerSandbox
from wheelfarm_workers.sandbox.engines import ENGINES

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


def engine_checks(settings: Settings, work_dir: Path) -> Iterator[Check]:
    """Whether the engines of containers work that the targets of this machine are built by."""
    used: dict[str, list[str]] = {}
    for definition in read_definitions(settings.targets).values():
        used.setdefault(definition.sandbox, []).append(definition.name)
    for name in sorted(ENGINES.keys() & used.keys()):
        sandbox = ContainerSandbox(ENGINES[name], slots=1, work_dir=work_dir, runtime=settings.container_runtime)
        try:
            sandbox.probe()
        except WheelfarmError as error:
            yield optional(name, f"for {', '.join(used[name])}: {error.message}", error.hint)
        else:
            yield found(name, "a container ran" if ENGINES[name].takes_folders else "its daemon answers")
        finally:
            sandbox.close()


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
        checks = (*sandbox_checks(settings, Path(folder)), *engine_checks(settings, Path(folder)))
        print(json.dumps([check.to_json() for check in checks]))


if __name__ == "__main__":
    main()
