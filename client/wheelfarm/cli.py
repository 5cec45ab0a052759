"""The command `wheelfarm`: verbs, results on stdout, everything else on stderr, an exit code a cause."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import click

from wheelfarm import __version__
from wheelfarm.errors import WheelfarmError
from wheelfarm.installation import Environment, find_environment, install
from wheelfarm.progress import Progress, Reporter, seconds_since
from wheelfarm.requirements import Requirements, read_requirements
from wheelfarm.settings import Settings
from wheelfarm.target import Target, host_target
from wheelfarm.wheelhouse import Remembered, Wheelhouse

if TYPE_CHECKING:
    from wheelfarm.farm import Farm

_INTERRUPTED = 130
_TAIL_LINES = 25


class Command:
    """What every verb shares: the settings, where to say things, and whether the result is for a machine."""

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wheelfarm")
def cli() -> None:
    """Install Python packages of which every part, build tools included, was built from source in a sandbox."""


def _shared(function: Callable[..., None]) -> Callable[..., None]:
    """Options of every verb that may build."""
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


def _asking(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments that say what to build, and for which interpreter."""
    for option in (
        click.option("--upgrade", is_flag=True, help="Resolve anew instead of taking up a resolution of the last day."),
        click.option(
            "-p", "--python", help="The environment or interpreter to build for: a path, a name or a version."
        ),
        click.option(
            "-c",
            "--constraint",
            "constraints",
            multiple=True,
            type=click.Path(path_type=Path),
            help="A constraints file.",
        ),
        click.option(
            "-r",
            "--requirement",
            "files",
            multiple=True,
            type=click.Path(path_type=Path),
            help="A requirements file.",
        ),
        click.argument("requirements", nargs=-1, metavar="[REQ]..."),
    ):
        function = option(function)
    return _shared(function)


@cli.command("install")
@_asking
@click.option("--venv", type=click.Path(path_type=Path), help="Install into this environment, made when it is absent.")
@click.option("--target-dir", type=click.Path(path_type=Path), help="Install into this plain directory.")
def install_command(
    requirements: tuple[str, ...],
    files: tuple[Path, ...],
    constraints: tuple[Path, ...],
    python: str | None,
    upgrade: bool,
    venv: Path | None,
    target_dir: Path | None,
    **shared: Any,
) -> None:
    """Build what is missing and install it into the active environment, from the farm alone, by hash."""
    with _reporting(**shared) as command:
        start = time.monotonic()
        asked = read_requirements(requirements, files, constraints)
        environment = find_environment(os.environ, python=python, venv=venv, directory=target_dir)
        found = _obtain(command, asked, environment, upgrade)
        new = install(found, command.wheelhouse, environment, cache_dir=command.settings.cache / "uv")
        command.reporter.say(
            f"installed {len(new)} of {len(found.wheels)} packages into {environment.shown} in {seconds_since(start)}"
            if new
            else f"nothing to do: all {len(found.wheels)} packages are installed from the farm"
        )
        command.answer(
            {
                "installed": [wheel.to_json() for wheel in new],
                "wheels": [wheel.to_json() for wheel in found.wheels],
            },
            [f"{wheel.name}=={wheel.version}" for wheel in new],
        )


@cli.command("build")
@_asking
@click.option("--out", type=click.Path(path_type=Path), help="Copy the wheels there, for pip's --find-links.")
def build_command(
    requirements: tuple[str, ...],
    files: tuple[Path, ...],
    constraints: tuple[Path, ...],
    python: str | None,
    upgrade: bool,
    out: Path | None,
    **shared: Any,
) -> None:
    """Build the requirements and all that they need, without installing."""
    with _reporting(**shared) as command:
        asked = read_requirements(requirements, files, constraints)
        environment = find_environment(os.environ, python=python or "python3", venv=None, directory=None)
        found = _obtain(command, asked, environment, upgrade)
        paths = [_delivered(command.wheelhouse.wheel(wheel), out) for wheel in found.wheels]
        command.answer(
            {
                "wheels": [
                    {**wheel.to_json(), "path": str(path)} for wheel, path in zip(found.wheels, paths, strict=True)
                ]
            },
            [str(path) for path in paths],
        )


@cli.command("logs")
@click.argument("job")
@_shared
def logs_command(job: str, **shared: Any) -> None:
    """Show the whole build log of a JOB, by its id or the first eight digits of it."""
    with _reporting(**shared) as command, command.farm() as farm:
        text = farm.log(job)
        command.answer({"job": job, "log": text}, [text.rstrip("\n")])


def _obtain(command: Command, asked: Requirements, environment: Environment, upgrade: bool) -> Remembered:
    """The wheels of the requirements, in the wheelhouse: remembered, or resolved and built now."""
    target = command.target(environment)
    if not upgrade and (remembered := command.wheelhouse.recall(asked, target)) is not None:
        return remembered
    from wheelfarm.chain import build

    start = time.monotonic()
    with command.farm() as farm:
        progress = Progress(command.reporter)
        wheels = build(
            asked,
            target,
            farm=farm,
            settings=command.settings,
            wheelhouse=command.wheelhouse,
            watch=progress.watch,
        )
    command.reporter.say(f"{len(wheels)} wheels for {target.name}, {progress.built} built in {seconds_since(start)}")
    return command.wheelhouse.remember(asked, target, wheels)


def _delivered(wheel: Path, out: Path | None) -> Path:
    if out is None:
        return wheel
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f".{wheel.name}.part"
    shutil.copyfile(wheel, partial)
    return partial.replace(out / wheel.name)


@contextmanager
def _reporting(*, as_json: bool, quiet: bool, sandbox: str | None) -> Iterator[Command]:
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
    except WheelfarmError as error:
        _report(command, error, [])
        sys.exit(error.exit_code)
    except Exception as error:
        from wheelfarm.chain import RequestFailed

        if not isinstance(error, RequestFailed):
            raise
        _report(command, error.error, error.jobs)
        sys.exit(error.error.exit_code)


def _report(command: Command, error: WheelfarmError, jobs: Sequence[Any]) -> None:
    """Say what happened, the log's tail and where the whole of it is, and what to do next."""
    for job in jobs[:1]:
        if job.failure and job.failure.log_tail:
            tail = job.failure.log_tail.splitlines()[-_TAIL_LINES:]
            command.reporter.insist("\n".join(f"  | {_printable(line)}" for line in tail))
            command.reporter.insist(f"the whole log: wheelfarm logs {(job.failure.cause or job.id)[:12]}")
    command.reporter.insist(f"error: {_printable(error.message)}")
    if error.hint:
        command.reporter.insist(f"hint: {_printable(error.hint)}")
    if command.as_json:
        click.echo(json.dumps({**error.to_json(), "jobs": [job.id for job in jobs]}, indent=2))


def _printable(text: str) -> str:
    """Text of a build as a terminal may show it: without control characters."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def main() -> None:
    """The console script."""
    cli(prog_name="wheelfarm")
