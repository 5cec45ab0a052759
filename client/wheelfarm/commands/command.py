"""What the verbs share: settings, the farm to talk to, where results and messages go, options, exit codes."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

import click

from wheelfarm.errors import InputError, NoWorker, RequestFailed, WheelfarmError
from wheelfarm.installation import Environment
from wheelfarm.reporter import Reporter, printable
from wheelfarm.settings import Settings
from wheelfarm.target import Target, host_target
from wheelfarm.traces import Span, span, tracing
from wheelfarm.unusable_place import unusable_place
from wheelfarm.wheelhouse import Wheelhouse

if TYPE_CHECKING:
    from wheelfarm.farm import Farm
    from wheelfarm.job import JobStatus
    from wheelfarm.known_policy import KnownPolicy
    from wheelfarm.progress import Progress
    from wheelfarm.target_definition import TargetDefinition

_OUTAGE_S = 600.0
"""How long a farm of its own machines may be without its Redis or its store before a command gives up."""
_INTERRUPTED = 130
_TAIL_LINES = 25
_REASON_LENGTH = 160

Verb = Callable[..., None]


class Command:
    """What every verb has: the settings, where to say things, and whether the result is for a machine."""

    def __init__(self, settings: Settings, *, as_json: bool, quiet: bool, traced: Span) -> None:
        self.settings = settings
        self.as_json = as_json
        self.reporter = Reporter(unsandboxed=settings.sandbox == "none", quiet=quiet)
        self._traced = traced
        self._shown = ExitStack()
        self._progress: Progress | None = None

    @property
    def wheelhouse(self) -> Wheelhouse:
        """The embedded farm's own store, where it is a directory, or a cache of the farm that WHEELFARM_URL names or of
        a bucket."""
        if self.settings.url:
            return Wheelhouse(self.settings.cache / "farms" / urlsplit(self.settings.url).netloc.replace(":", "_"))
        store = urlsplit(self.settings.store)
        if store.scheme != "file":
            return Wheelhouse(self.settings.cache / "stores" / f"{store.netloc}{store.path}".replace("/", "_"))
        return Wheelhouse(Path(unquote(store.path)))

    def target(self, environment: Environment) -> Target:
        return host_target(environment.python, sandbox=self.settings.sandbox, memory=self.settings.cache / "targets")

    def named_target(self, name: str) -> Target:
        """The target of that name: of this machine's definitions, or of those that the named farm's workers serve.

        Raises InputError or NoWorker with the names that are near, where there is none.
        """
        from wheelfarm.target_definition import near_names, read_definitions, unknown_target

        if not self.settings.url:
            definitions = read_definitions(self.settings.targets)
            if name not in definitions:
                raise unknown_target(name, definitions, f"This machine ({self.settings.targets})")
            return self.defined_target(definitions[name])
        served = self.targets()
        found = [target for target in served if target.name == name]
        if not found:
            near = near_names(name, {target.name for target in served}, "Served") or "None is served."
            raise NoWorker(
                f"No worker of {self.settings.url} serves a target {name!r}. {near}",
                hint=f"Which workers live, and for what: wheelfarm status. A machine that defines it serves it by: "
                f"wheelfarm worker --target {name}",
            )
        return found[0]

    def defined_target(self, definition: "TargetDefinition") -> Target:
        """The target of a definition, in the revision that it has now."""
        memory = self.settings.cache / "targets"
        return definition.target(lambda python: host_target(Path(python), sandbox=definition.sandbox, memory=memory))

    def targets(self) -> list[Target]:
        """The targets that can be named: this machine's definitions, or what the named farm's workers serve."""
        from wheelfarm.target_definition import read_definitions

        if self.settings.url:
            with self.farm() as farm:
                return farm.targets()
        definitions = read_definitions(self.settings.targets)
        return [self.defined_target(definition) for definition in definitions.values()]

    @property
    def policy(self) -> "KnownPolicy":
        """The farm's policy: a file of this machine, or what another farm told in the last minutes or tells now."""
        from wheelfarm.known_policy import ask_policy, local_policy, remembered_policy

        if not self.settings.url:
            return local_policy(self.settings)
        folder = self.wheelhouse.root
        if (known := remembered_policy(folder)) is not None:
            return known
        with self.farm() as farm:
            return ask_policy(farm, folder, self.settings)

    @property
    def progress(self) -> "Progress":
        """What the farm's states are told to; shown from the first use until a result or an error is."""
        if self._progress is None:
            from wheelfarm.progress import progress_on

            self._progress = self._shown.enter_context(progress_on(self.reporter))
        return self._progress

    def enter(self, phase: str) -> None:
        """Tell what is done next where progress is shown; where nothing had to be built, the rest takes no time."""
        if self._progress is not None:
            self._progress.enter(phase)

    def end_progress(self) -> None:
        """Leave the terminal as it was."""
        self._shown.close()

    @contextmanager
    def farm(self) -> Iterator["Farm"]:
        """The farm to talk to: the one that WHEELFARM_URL names, or this store's own."""
        from wheelfarm.embedded import attached

        if self.settings.url:
            from wheelfarm.farm import Farm

            with self._named_farm() as farm:
                yield farm
            return
        with attached(self.settings) as embedded:
            from wheelfarm.farm import Farm  # while the farm starts, for it takes its time

            with Farm(embedded.url, embedded.token, check=embedded.check, tell=self.reporter.say) as farm:
                yield farm

    @contextmanager
    def running_farm(self) -> Iterator["Farm | None"]:
        """The farm to talk to, unless it would have to be started."""
        from wheelfarm.embedded import attached_if_running
        from wheelfarm.farm import Farm

        if self.settings.url:
            with self._named_farm() as farm:
                yield farm
            return
        with attached_if_running(self.settings) as embedded:
            if embedded is None:
                yield None
                return
            with Farm(embedded.url, embedded.token, check=embedded.check, tell=self.reporter.say) as farm:
                yield farm

    def _named_farm(self) -> "Farm":
        from wheelfarm.farm import Farm

        return Farm(self.settings.url, self.settings.token, outage_s=_OUTAGE_S, tell=self.reporter.say)

    def answer(self, value: dict[str, Any], text: Iterable[str]) -> None:
        """The result: a JSON document, or lines."""
        self.end_progress()
        for line in [json.dumps(value, indent=2)] if self.as_json else map(printable, text):
            click.echo(line)

    def fail(self, failed: RequestFailed, value: Mapping[str, Any] = MappingProxyType({})) -> NoReturn:
        """End with the exit code of the first failed job: the tail of its log and its reason are told, of each further
        one its reason and where its log is. As JSON, `value` is told beside them."""
        self.end_progress()
        first, *others = failed.jobs
        if first.failure and first.failure.log_tail:
            tail = first.failure.log_tail.splitlines()[-_TAIL_LINES:]
            self.reporter.insist("\n".join(f"  | {line}" for line in tail))
            self.reporter.insist(f"the whole log: {_log_command(first)}")
        for job in others:
            self.reporter.insist(f"also failed: {job.sdist}: {_reason(job)} ({_log_command(job)})")
        self.tell(failed.error, {"jobs": [job.id for job in failed.jobs], "failed": _failures(failed), **value})
        sys.exit(failed.error.exit_code)

    def tell(self, error: WheelfarmError, value: Mapping[str, Any] = MappingProxyType({"jobs": ()})) -> None:
        """Say what happened and what to do next."""
        self.end_progress()
        self._traced.fail(error.code)
        self.reporter.insist(f"error: {error.message}")
        if error.hint:
            self.reporter.insist(f"hint: {error.hint}")
        if self.as_json:
            click.echo(json.dumps({**error.to_json(), **value}, indent=2))


def _log_command(job: "JobStatus") -> str:
    cause = job.failure.cause if job.failure else ""
    return f"wheelfarm logs {(cause or job.id)[:12]}"


def _failures(failed: RequestFailed) -> list[dict[str, str]]:
    return [
        {**(job.failure.to_json() if job.failure else {}), "job": job.id, "sdist": str(job.sdist)}
        for job in failed.jobs
    ]


def output_options(function: Verb) -> Verb:
    """Options of every verb that say how its result is told."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write the result to stdout as JSON."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but the result and errors."),
    ):
        function = option(function)
    return function


def target_option(told: str) -> Callable[[Verb], Verb]:
    """The option --target of a verb that without it means the interpreter here, which is called `host`, too."""
    return click.option("--target", callback=lambda _, __, name: None if name == "host" else name, help=told)


def shared_options(function: Verb) -> Verb:
    """Options of every verb that may build for this machine."""
    sandbox = click.option(
        "--sandbox",
        type=click.Choice(["bubblewrap", "none"]),
        help="How builds are isolated. 'none' runs foreign code with your rights.",
    )
    return sandbox(output_options(function))


@contextmanager
def reporting(*, as_json: bool, quiet: bool, sandbox: str | None = None, offline: bool = False) -> Iterator[Command]:
    """Run a verb: read the settings, and turn what it raises into a message and an exit code."""
    with _traced(Reporter(unsandboxed=False, quiet=quiet)) as traced:
        command = Command(Settings(), as_json=as_json, quiet=quiet, traced=traced)
        try:
            settings = Settings.from_environment(os.environ)
            if sandbox is not None:
                settings = replace(settings, sandbox=sandbox)  # type: ignore[arg-type]
            if offline:
                settings = _offline(settings)
            command = Command(settings, as_json=as_json, quiet=quiet, traced=traced)
            yield command
        except KeyboardInterrupt:
            command.end_progress()
            command.reporter.insist("interrupted: what is finished is kept, and the same command goes on from there")
            sys.exit(_INTERRUPTED)
        except RequestFailed as failed:
            command.fail(failed)
        except WheelfarmError as error:
            command.tell(error)
            sys.exit(error.exit_code)
        except OSError as fault:
            if (unusable := unusable_place(fault)) is None:
                raise
            command.tell(unusable)
            sys.exit(unusable.exit_code)
        finally:
            command.end_progress()


@contextmanager
def _traced(reporter: Reporter) -> Iterator[Span]:
    """The span of the verb, where traces are wanted: a part of what the variable TRACEPARENT names, as CI sets it."""
    notes: list[str] = []
    try:
        with (
            tracing("wheelfarm-client", os.environ, notes.append),
            span(click.get_current_context().command_path, parent=os.environ.get("TRACEPARENT", "")) as traced,
        ):
            yield traced
    finally:
        for note in notes:
            reporter.say(f"note: {note}")


def _offline(settings: Settings) -> Settings:
    if settings.url:
        raise InputError(
            "--offline is for the farm of this machine, and WHEELFARM_URL names another.",
            hint="There WHEELFARM_OFFLINE=1, where its services run, keeps its source index from asking upstreams.",
        )
    return replace(settings, offline=True)


def _reason(job: "JobStatus") -> str:
    """A failed job's reason, and the hint that came with it, in a line."""
    if job.failure is None:
        return "without a reason"
    reason, hint = (_shortened(text.partition("\n")[0]) for text in (job.failure.message, job.failure.hint))
    return f"{reason} {hint}" if hint else reason


def _shortened(line: str) -> str:
    return line if len(line) <= _REASON_LENGTH else f"{line[:_REASON_LENGTH]}…"
