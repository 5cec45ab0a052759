"""The engines of containers: what podman and docker are told alike, and what each has to be told in its own way."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wheelfarm.errors import SandboxUnavailable
from wheelfarm_workers.sandbox.protocol import OUT_OF_MEMORY, STATUS, UNSTARTED, Descriptor, Word

LABEL = "wheelfarm.worker"
RESULT_FD = 5
_ASKED_S = 60.0
_ENVIRONMENT = (
    *("PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS"),
    *("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"),
)
_EPILOGUE = f"""
name=$1 times=$2; shift 2
case "${STATUS}" in
125 | 126 | 127) # the engine's own, or the command's
    [ "$("$@" inspect --format '{{{{.State.Status}}}}' "$name")" = exited ] || echo {UNSTARTED} ;;
esac
"$@" rm --force --volumes $times "$name" >/dev/null
"""
_LAST = f"""
status=$?
[ $status != {OUT_OF_MEMORY} ] || status=1
for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    if [ -r $file ] && [ $status != 0 ]; then
        while read -r name count; do
            [ "$name" != oom_kill ] || [ "$count" = 0 ] || status={OUT_OF_MEMORY}
        done <$file
    fi
done
exit $status
"""
"""How the first process of a container ends once its command has: with that one's status, or with what says that the
kernel has killed for want of memory, which some engines don't notice of a container's other processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """One engine: its program, what installs it, and how a run's descriptors get into a container.

    `client` is the shell's line that becomes the program, told as its words after the number of the result's
    descriptor: its stdin is the input, its stdout and stderr the log. `init` is what the first process of the container
    runs its words by: with the three, the result's as RESULT_FD. It stays, for the kernel spares the first process of a
    namespace the signals that it sends itself. `takes_folders` tells whether a folder may stand in for an image.
    """

    name: str
    install: str
    client: str
    init: str
    takes_folders: bool
    words: tuple[str, ...]
    removal: str

    def command(self, runtime: str) -> tuple[str, ...]:
        """The program, with what each of its commands is told."""
        return (self.name, "--log-level=error", *(("--runtime", runtime) if runtime and self.takes_folders else ()))

    def epilogue(self, container: str, runtime: str) -> tuple[str, ...]:
        """What tells how a container ended, and removes it."""
        shell = ("timeout", "-s", "KILL", f"{_ASKED_S:.0f}", "/bin/sh", "-c", _EPILOGUE, "sh")
        return (*shell, container, self.removal, *self.command(runtime))

    def run_words(self, runtime: str, words: Sequence[str]) -> tuple[Word, ...]:
        """The command line of a run."""
        own = ("--runtime", runtime) if runtime and not self.takes_folders else ()
        program = (*self.command(runtime), "run", *own, *self.words, *words)
        return ("/bin/sh", "-c", self.client, "sh", Descriptor.RESULT, *program)

    def ask(self, runtime: str, *words: str) -> str:
        """What the engine says. Raises SandboxUnavailable where it is not there or fails."""
        if shutil.which(self.name) is None:
            raise SandboxUnavailable(f"{self.name} is not installed.", hint=self.install)
        command = [*self.command(runtime), *words]
        try:
            done = subprocess.run(
                command,
                env=engine_environment(os.environ),
                capture_output=True,
                text=True,
                check=False,
                timeout=_ASKED_S,
            )
        except subprocess.TimeoutExpired as error:
            raise SandboxUnavailable(f"{self.name} {words[0]} did not answer within {_ASKED_S:.0f} s.") from error
        if done.returncode:
            raise explain_engine(self, done.stderr)
        return done.stdout.strip()


PODMAN = Engine(
    name="podman",
    install="apt-get install --no-install-recommends podman runc uidmap",
    client='result=$1; shift; exec "$@" 3<&0 4>&1 5>"/proc/self/fd/$result" </dev/null',
    init='exec 2>/dev/null; /usr/bin/env -i "$@" <&3 >&4 2>&4 3<&- 4>&-' + _LAST,
    takes_folders=True,
    words=(
        *("--preserve-fds", "3", "--pid", "private", "--uts", "private", "--cgroupns", "private", "--no-hosts"),
        *("--read-only-tmpfs=false", "--http-proxy=false", "--passwd=false", "--systemd=false", "--sdnotify=ignore"),
    ),
    removal="--time=0",
)
DOCKER = Engine(
    name="docker",
    install="apt-get install --no-install-recommends docker.io",
    client='result=$1; shift; exec "$@" >"/proc/self/fd/$result"',
    init='exec 6>&2 2>/dev/null; /usr/bin/env -i "$@" 5>&1 >&6 2>&6 6>&-' + _LAST,
    takes_folders=False,
    words=("--interactive", "--no-healthcheck"),
    removal="",
)
ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in (PODMAN, DOCKER)}


def chosen_runtime(engine: Engine, named: str) -> str:
    """The runtime that an engine is told to use: the one that is named; for podman else runc where that is installed,
    for Debian's crun does not work on every machine; "" for what the engine uses of itself."""
    if named or not engine.takes_folders:
        return named
    return "runc" if shutil.which("runc") or shutil.which("runc", path="/usr/sbin:/sbin") else ""


def engine_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What an engine's client needs of the worker's environment, and no more: what is there gets into no container."""
    return {name: environment[name] for name in _ENVIRONMENT if name in environment}


_HYBRID = "Install runc, which podman is then told to use, or name another runtime in WHEELFARM_CONTAINER_RUNTIME."
_BY_MESSAGE = (
    ("hybrid mode", "Its runtime does not work with this machine's cgroups.", _HYBRID),
    ("OCI runtime", "It has no runtime that works.", _HYBRID),
    ("subuid", "This user has no users of its own to give to containers.", ""),
    ("newuidmap", "This user has no users of its own to give to containers.", ""),
    ("Docker daemon", "Its daemon does not run, or this user may not ask it.", "Start docker.service."),
    ("storage driver", "It can't store containers here.", "Name another driver in /etc/containers/storage.conf."),
)
SUBUIDS = "apt-get install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"
"""What gives a user users of its own."""


def explain_engine(engine: Engine, said: str) -> SandboxUnavailable:
    """The error for an engine that does not work, from what it said."""
    told = said.strip()[-500:] or "nothing"
    for message, reason, hint in _BY_MESSAGE:
        if message in said:
            return SandboxUnavailable(f"{engine.name} does not work: {reason} It said: {told}", hint=hint or SUBUIDS)
    return SandboxUnavailable(f"{engine.name} does not work. It said: {told}", hint=engine.install)
