"""The trial of a built wheel, before it is published: its extension modules are loaded, and what its recipe names is
imported and run, in a clean sandbox of the target.

In there are the wheel and those of its run requirements that it was built with, and no other build requirement. What
cibuildwheel found out: most wheels that can't be used show it by this.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from wheelfarm.errors import BrokenWheel
from wheelfarm.job import Sdist
from wheelfarm.names import normalized
from wheelfarm.requirement_path import applies
from wheelfarm.target import Target
from wheelfarm.target_markers import marker_environment
from wheelfarm.wheel import BuiltWheel
from wheelfarm.wheel_metadata import wheel_metadata
from wheelfarm_services import layout
from wheelfarm_services.store import Store
from wheelfarm_workers.answer import read_answer
from wheelfarm_workers.build import BUILD_ENVIRONMENT, Builder
from wheelfarm_workers.driver import MOUNTED_AT, Driver, lay_out
from wheelfarm_workers.grounds import Grounds
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.plan import PlannedBuild
from wheelfarm_workers.sandbox import Mount
from wheelfarm_workers.wheel_check import CheckedWheel

_SHOWN, _MOST, _MOST_EXTRAS = 500, 2000, 100
_WITH_LIBRARY = "Give the target the package that has it (wheelfarm target add … --package), or link it in by a recipe."
_REMEDIES = (
    ("cannot open shared object file", _WITH_LIBRARY),
    ("Error loading shared library", _WITH_LIBRARY),
    ("undefined symbol", "The build left out a source file or a library that has it: a recipe mends that."),
    ("symbol not found", "The build left out a source file or a library that has it: a recipe mends that."),
)
"""What to do, by what the linkers of glibc and musl say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What was seen of a wheel: how many extension modules were `loaded`, which modules `imported`, the `command` that
    ended well. `unproven` are modules that failed where it may be for want of what the wheel requires and the sandbox
    was `without`, or of a library that the target leaves to the machine, each with what was said."""

    loaded: int = 0
    imported: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    unproven: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def lay_out_trial(cache: Path, work: Path) -> Driver:
    """The trial's script in a folder of its own."""
    return lay_out("trial", Path(__file__).with_name("inside.py"), (), cache, work)


class Trials:
    """Tries wheels, those without extension modules only where their recipe names something to try."""

    def __init__(self, *, store: Store, grounds: Grounds, builder: Builder, tools: Driver) -> None:
        self._store = store
        self._grounds = grounds
        self._builder = builder
        self._tools = tools

    def judge(self, planned: PlannedBuild, checked: CheckedWheel, hold: Hold) -> Trial | None:
        """What was seen of a wheel; None where nothing was tried. Raises BrokenWheel for one that can't be used."""
        staged, test = planned.staged, planned.staged.recipe.test
        loads = test.load and _has_libraries(checked)
        if not (loads or test.imports or test.command):
            return None
        built_with = [required.wheel for required in planned.plan.requirements]
        beside, without = run_requirements(checked.metadata, self._told_by(built_with), staged.target)
        task = {
            "filename": checked.filename,
            "load": loads,
            "imports": test.imports,
            "command": test.command,
            "absent": bool(without),
            "external": self._grounds.of(staged.target).external_libraries,
            "site_packages": staged.target.site_packages,
        }
        told = self._run(planned, checked, beside, task, hold)
        if said := told.get("uninstallable"):
            raise BrokenWheel(
                f"The wheel of {staged.job.sdist} was built and can't be installed: {str(said)[:_SHOWN]}",
                hint="Nothing was published. What its backend wrote is wrong: a recipe's patch mends that.",
            )
        trial = Trial(
            loaded=len(list(_strings(told.get("loaded")))),
            imported=tuple(_strings(told.get("imported"))),
            command=test.command,
            unproven=tuple(_failures(told.get("unproven"))),
            without=tuple(without),
        )
        _require_well(staged.job.sdist, trial, list(_failures(told.get("failed"))), told.get("status", 0))
        return trial

    def _run(
        self,
        planned: PlannedBuild,
        checked: CheckedWheel,
        beside: Sequence[BuiltWheel],
        task: Mapping[str, object],
        hold: Hold,
    ) -> Mapping[str, Any]:
        target, limits = planned.staged.target, self._builder.limits(planned.staged, hold.attempt)
        environment = self._builder.environment(beside, target, hold, limits)
        ground = self._grounds.of(target, derived=planned.staged.derived)
        run = ground.command(
            (environment.python, "-I", self._tools.script),
            input=json.dumps(task).encode(),
            limits=limits,
            mounts=(
                Mount(source=self._tools.folder, target=MOUNTED_AT),
                Mount(source=self._builder.libraries(target, hold), target="/in/lib"),
                Mount(source=checked.path, target=f"/in/{checked.filename}"),
                *environment.mounts,
            ),
            directories=environment.directories,
            symlinks=environment.symlinks,
            environment=BUILD_ENVIRONMENT,
        )
        checked.path.chmod(0o644)
        result = ground.sandbox.run(run, log=hold.log, cancelled=hold.cancelled)
        answer = read_answer(result, f"trying {checked.filename}", limits)
        answer.body.close()
        return answer.facts

    def _told_by(self, wheels: Iterable[BuiltWheel]) -> dict[BuiltWheel, bytes]:
        keys = {wheel: layout.wheel_metadata(wheel.sha256, wheel.filename) for wheel in wheels}
        return {wheel: self._store.get(key) or b"" for wheel, key in keys.items()}


def run_requirements(
    metadata: bytes, built_with: Mapping[BuiltWheel, bytes], target: Target
) -> tuple[list[BuiltWheel], list[str]]:
    """Which of the wheels that one was built with it requires at run time, directly or not, by its METADATA and theirs;
    and the requirements that none of them satisfies."""
    environment = marker_environment(target)
    wheels = {wheel.name: wheel for wheel in built_with}
    lines = {wheel: wheel_metadata(told).requires_dist[:_MOST] for wheel, told in built_with.items()}
    own = wheel_metadata(metadata).requires_dist[:_MOST]
    found: list[BuiltWheel] = []
    without: list[str] = []
    todo: list[tuple[BuiltWheel | None, str]] = [(None, "")]
    for one, extra in todo:  # grows on the way, in bounds: whoever wrote the metadata says what it takes
        for line in lines[one] if one else own:
            if not applies(line, extra, environment):
                continue
            requirement = Requirement(line)
            wheel = wheels.get(normalized(requirement.name))
            if wheel is None or not requirement.specifier.contains(wheel.version, prereleases=True):
                without.append(line[:_SHOWN])
                continue
            extras = ("", *sorted(requirement.extras)[:_MOST_EXTRAS])
            wanted = [(wheel, normalized(name) if name else "") for name in extras]
            todo += [pair for pair in wanted if pair not in todo][: _MOST_EXTRAS - len(todo)]
            found += [wheel] if wheel not in found else []
    return found, sorted(set(without))


def _require_well(sdist: Sdist, trial: Trial, failed: Sequence[tuple[str, str]], status: object) -> None:
    if failed:
        module, said = failed[0]
        more = f" So do {len(failed) - 1} more of its modules." if len(failed) > 1 else ""
        remedy = next((remedy for sign, remedy in _REMEDIES if sign in said), "")
        raise BrokenWheel(
            f"The wheel of {sdist} was built and can't be used: its module {module} fails to load: {said}.{more}",
            hint=f"{remedy} Nothing was published; a recipe may leave the trial out: test = {{ load = false }}".strip(),
        )
    if status != 0:
        without = f" It had no {', '.join(trial.without)}, with which it was not built." if trial.without else ""
        raise BrokenWheel(
            f"The wheel of {sdist} was built and failed the test of its recipe: {' '.join(trial.command)} ended with "
            f"status {status!r:.20}.{without}",
            hint="Nothing was published. Where the test is wrong, change the recipe.",
        )


def _has_libraries(checked: CheckedWheel) -> bool:
    if checked.filename.endswith("-any.whl"):
        return False
    with zipfile.ZipFile(checked.path) as wheel:
        return any(name.endswith(".so") for name in wheel.namelist())


def _strings(value: object) -> Iterator[str]:
    """What is a list of strings, in bounds: the sandbox's word."""
    for one in value[:_MOST] if isinstance(value, list) else ():
        if isinstance(one, str):
            yield one[:_SHOWN]


def _failures(value: object) -> Iterator[tuple[str, str]]:
    for one in value[:_MOST] if isinstance(value, list) else ():
        if isinstance(one, list) and len(pair := list(_strings(one))) == 2:
            yield pair[0], pair[1]
