"""What the verbs share: settings, the farm to talk to, where results and messages go, options, exit codes."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click

from wheelfarm.errors import RequestFailed, WheelfarmError
from wheelfarm.installation import Environment
from wheelfarm.progress import Reporter
from wheelfarm.settings import Settings
from wheelfarm.target import Target, host_target
from wheelfarm.wheelhouse import Wheelhouse

if TYPE_CHECKING:
    from wheelfarm.farm import Farm
    from wheelfarm.job import JobStatus

_INTERRUPTED = 130
_TAIL_LINES = 25

Verb = Callable[..., None]


class Command:
    """What every verb has: the settings, where to say things, and whether the result is for a machine."""

    def __init__(self, settings: Settings, *, as_json: bool, quiet: bool) -> None:
        self.settings = settings
        self.as_json = as_json
        self.reporter = Reporter(unsandboxed=settings.sandbox == "none", quiet=quiet)

    @property
    def wheelhouse(self) -> Wheelhouse:
        """The embedded farm's own store, or a cache of the farm that WHEELFARM_URL names."""
        if self.settings.url:
            return Wheelhouse(self.settings.cache / "farms" / urlsplit(self.settings.url).netloc.replace(":", "_"))
        return Wheelhouse(Path(unquote(urlsplit(self.settings.store).path)))

    def target(self, environment: Environment) -> Target:
        return host_target(environment.python, sandbox=self.settings.sandbox, memory=self.settings.cache / "targets")

    @contextmanager
    def farm(self) -> Iterator["Farm"]:
        """The farm to talk to: the one that WHEELFARM_URL names, or this store's own."""
        from wheelfarm.embedded import attached
        from wheelfarm.farm import Farm

        if self.settings.url:
            with Farm(self.settings.url, self.settings.token) as farm:
                yield farm
            return
        with (
            attached(self.settings) as embedded,
            Farm(embedded.url, embedded.token, check=embedded.check) as farm,
        ):
            yield farm

    def answer(self, value: dict[str, Any], text: Sequence[str]) -> None:
        """The result: a JSON document, or lines."""
        for line in [json.dumps(value, indent=2)] if self.as_json else text:
            click.echo(line)


def shared_options(function: Verb) -> Verb:
    """Options of every verb."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Write the result to stdout as JSON."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but the result and errors."),
        click.option(
            "--sandbox",
            type=click.Choice(["bubblewrap", "none"]),
            help="How builds are isolated. 'none' runs foreign code with your rights.",
        ),
    ):
        function = option(function)
    return function


@contextmanager
def reporting(*, as_json: bool, quiet: bool, sandbox: str | None) -> Iterator[Command]:
    """Run a verb: read the settings, and turn what it raises into a message and an exit code."""
    command = Command(Settings(), as_json=as_json, quiet=quiet)
    try:
        settings = Settings.from_environment(os.environ)
        if sandbox is not None:
            settings = replace(settings, sandbox=sandbox)  # type: ignore[arg-type]
        command = Command(settings, as_json=as_json, quiet=quiet)
        yield command
    except KeyboardInterrupt:
        command.reporter.insist("interrupted: what is finished is kept, and the same command goes on from there")
        sys.exit(_INTERRUPTED)
    except RequestFailed as failed:
        _report(command, failed.error, failed.jobs)
        sys.exit(failed.error.exit_code)
    except WheelfarmError as error:
        _report(command, error, [])
        sys.exit(error.exit_code)


def _report(command: Command, error: WheelfarmError, jobs: Sequence["JobStatus"]) -> None:
    """Say what happened, the log's tail and where the whole of it is, and what to do next."""
    for job in jobs[:1]:
        if job.failure and job.failure.log_tail:
            tail = job.failure.log_tail.splitlines()[-_TAIL_LINES:]
            command.reporter.insist("\n".join(f"  | {printable(line)}" for line in tail))
            command.reporter.insist(f"the whole log: wheelfarm logs {(job.failure.cause or job.id)[:12]}")
    command.reporter.insist(f"error: {printable(error.message)}")
    if error.hint:
        command.reporter.insist(f"hint: {printable(error.hint)}")
    if command.as_json:
        click.echo(json.dumps({**error.to_json(), "jobs": [job.id for job in jobs]}, indent=2))


def printable(text: str) -> str:
    """Text of a build as a terminal may show it: without control characters."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
