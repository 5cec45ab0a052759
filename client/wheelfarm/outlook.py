"""The outlook on a request before anything of it is built: what is cached, what will be built, how long, at what risk.

Nothing is built for it. Metadata that only a build can tell is taken to require nothing, and the outlook says of which
projects that holds; what they turn out to need comes on top.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.version import Version

from wheelfarm.errors import BadSdist, HashMismatch, InputError, NoSolution, WheelfarmError
from wheelfarm.farm import Farm
from wheelfarm.forecast import Doubt, Forecast
from wheelfarm.job import Sdist
from wheelfarm.requirements import Requirements
from wheelfarm.resolution import Estimate, estimate
from wheelfarm.schedule import makespan, without_cycles
from wheelfarm.stated_tree import StatedTree
from wheelfarm.target import Target

_RESOLVING = 4
_GUESSED_S, _GUESSED_NATIVE_S = 3.0, 60.0
"""What a build is taken to last, and one that compiles, where the farm has built too little to tell."""

_SANDBOX_PATH = "/usr/local/bin:/usr/bin:/bin"

Question = tuple[tuple[str, ...], tuple[str, ...]]
"""Build requirements and constraints, which many sdists share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prospect:
    """One sdist: its forecast, the sdists that its build needs, why it is needed itself, and what speaks against it.

    `needs` and `builds` are keys of the outlook; `seconds` is what was counted for it, `guessed` where nothing like it
    was built before; `metadata_known` is False where only its build can tell what it requires at run time.
    """

    forecast: Forecast
    asked_for: bool
    builds: tuple[str, ...]
    needs: tuple[str, ...]
    seconds: float
    guessed: bool
    metadata_known: bool
    doubts: tuple[Doubt, ...]

    @property
    def cached(self) -> bool:
        return self.forecast.wheel is not None

    @property
    def likely_to_fail(self) -> bool:
        return any(doubt.likely for doubt in self.doubts)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """Everything that a request needs, by `NAME==VERSION`, what it resolved to first.

    `work_s` is the time of all builds together, `wall_s` with `slots` of them at once; `cycles` are builds that need
    each other.
    """

    prospects: Mapping[str, Prospect]
    work_s: float
    wall_s: float
    slots: int
    cycles: tuple[tuple[str, ...], ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What was asked of the farm: the sdists that the request resolved to, everybody's forecast, and what each
    question after build requirements was answered with; an error is an answer."""

    requested: Estimate
    forecasts: Mapping[str, Forecast]
    answers: Mapping[Question, Estimate | WheelfarmError]


def survey(
    requirements: Requirements,
    target: Target,
    *,
    farm: Farm,
    cache_dir: Path,
    say: Callable[[str], None],
    trees: Sequence[StatedTree] = (),
) -> Survey:
    """Ask the farm for all that a request would take, with that of local `trees`; `say` hears how far it has come.

    Raises the reason when the request itself has no resolution.
    """
    farm.register(target)
    requested = _requested(requirements, target, farm, cache_dir, [line for tree in trees for line in tree.requires])
    requirements.check_hashes(requested.sdists)
    forecasts: dict[str, Forecast] = {}
    answers: dict[Question, Estimate | WheelfarmError] = {}
    new, todo = [_of_tree(tree) for tree in trees], requested.sdists
    with ThreadPoolExecutor(_RESOLVING) as pool:
        while new or todo:
            if todo:
                say(f"reading sdists: {len(todo)} {'more to build those' if forecasts else 'to install'}")
                new += farm.forecast(todo, target)
            forecasts |= {str(forecast.sdist): forecast for forecast in new}
            questions = sorted({question(forecast) for forecast in new if forecast.requires} - set(answers))
            found = pool.map(lambda asked: _answer(asked, target, farm, cache_dir), questions)
            fresh = dict(zip(questions, found, strict=True))
            answers |= fresh
            sdists = {str(sdist): sdist for answer in fresh.values() for sdist in _sdists(answer)}
            new, todo = [], tuple(sdist for name, sdist in sdists.items() if name not in forecasts)
    asked = Estimate(
        sdists=(*(tree.sdist for tree in trees), *requested.sdists),
        unknown=(*(tree.sdist for tree in trees if not tree.tells_all), *requested.unknown),
    )
    return Survey(requested=asked, forecasts=forecasts, answers=answers)


def _of_tree(tree: StatedTree) -> Forecast:
    """The forecast of a tree, which the farm has not seen."""
    return Forecast(sdist=tree.sdist, job="", backend=tree.backend, requires=tree.build_requires)


def _requested(
    requirements: Requirements, target: Target, farm: Farm, cache_dir: Path, of_trees: Sequence[str]
) -> Estimate:
    if requirements.lock is not None:
        return Estimate(sdists=requirements.lock.sdists(target), unknown=())
    if not requirements.lines and not of_trees:
        return Estimate(sdists=(), unknown=())
    return estimate(
        (*requirements.lines, *of_trees),
        target=target,
        farm=farm,
        cache_dir=cache_dir,
        constraints=requirements.constraints,
        prerelease=requirements.prerelease,
    )


def question(forecast: Forecast) -> Question:
    """What is to be resolved to build an sdist."""
    return forecast.requires, forecast.constraints


def outlook(found: Survey, target: Target, *, slots: int, has_tool: Callable[[str], bool | None]) -> Outlook:
    """The outlook that a survey gives; `has_tool` tells whether the farm's machine has a program, None if unknown."""
    needs = {name: _needs(found, forecast) for name, forecast in found.forecasts.items()}
    builds: dict[str, list[str]] = {}
    for name, required in needs.items():
        for need in required:
            builds.setdefault(need, []).append(name)
    cycles = without_cycles(needs)[1]
    requested = {str(sdist) for sdist in found.requested.sdists}
    unknown = {str(sdist) for sdist in _unknown(found)}
    counted = _seconds(found)
    prospects = {
        name: Prospect(
            forecast=forecast,
            asked_for=name in requested,
            builds=tuple(sorted(builds.get(name, ()))),
            needs=tuple(sorted(needs[name])),
            seconds=counted.get(name, 0.0),
            guessed=forecast.wheel is None and forecast.seconds is None,
            metadata_known=name not in unknown,
            doubts=_doubts(found, forecast, target, has_tool),
        )
        for name, forecast in found.forecasts.items()
    }
    return Outlook(
        prospects=prospects,
        work_s=sum(counted.values()),
        wall_s=makespan(counted, needs, slots),
        slots=slots,
        cycles=tuple(cycles),
    )


def is_here(tool: str) -> bool:
    """Whether this machine has a program where a sandbox would see it."""
    return shutil.which(tool, path=_SANDBOX_PATH) is not None


def _answer(asked: Question, target: Target, farm: Farm, cache_dir: Path) -> Estimate | WheelfarmError:
    """The sdists for build requirements, or why there are none; what may pass is raised."""
    requires, constraints = asked
    try:
        return estimate(requires, target=target, farm=farm, cache_dir=cache_dir, constraints=constraints)
    except (NoSolution, BadSdist, HashMismatch, InputError) as error:
        return error


def _sdists(answer: Estimate | WheelfarmError) -> tuple[Sdist, ...]:
    return answer.sdists if isinstance(answer, Estimate) else ()


def _unknown(found: Survey) -> list[Sdist]:
    estimates = [found.requested, *(answer for answer in found.answers.values() if isinstance(answer, Estimate))]
    return [sdist for one in estimates for sdist in one.unknown]


def _needs(found: Survey, forecast: Forecast) -> list[str]:
    answer = found.answers.get(question(forecast))
    return [str(sdist) for sdist in _sdists(answer)] if answer is not None else []


def _seconds(found: Survey) -> dict[str, float]:
    """The seconds to count for each build."""
    missing = {name: forecast for name, forecast in found.forecasts.items() if forecast.wheel is None}
    return {name: _guess(one) if one.seconds is None else one.seconds for name, one in missing.items()}


def _guess(forecast: Forecast) -> float:
    return _GUESSED_NATIVE_S if forecast.native else _GUESSED_S


def _doubts(
    found: Survey, forecast: Forecast, target: Target, has_tool: Callable[[str], bool | None]
) -> tuple[Doubt, ...]:
    if forecast.wheel is not None:
        return ()
    doubts = [*_remembered(forecast), *forecast.doubts]
    doubts += [doubt for tool in forecast.tools for doubt in _lacking(tool, has_tool(tool))]
    answer = found.answers.get(question(forecast))
    if isinstance(answer, WheelfarmError):
        text = f"its build requirements can't be had: {answer.message}"
        doubts.append(Doubt(text=text, likely=True, hint=answer.hint))
    elif answer is not None:
        doubts += _old_setuptools(answer.sdists, target)
    return tuple(doubts)


def _lacking(tool: str, there: bool | None) -> list[Doubt]:
    match there:
        case True:
            return []
        case False:
            return [Doubt(text=f"it needs {tool}, which this machine lacks", likely=True)]
        case None:
            return [Doubt(text=f"it needs {tool}, which the farm's machine may lack")]


def _remembered(forecast: Forecast) -> list[Doubt]:
    failure = forecast.failure
    return [Doubt(text=f"it failed before: {failure.message}", likely=True, hint=failure.hint)] if failure else []


def _old_setuptools(sdists: Sequence[Sdist], target: Target) -> list[Doubt]:
    """Setuptools before 66.1 imports pkgutil.ImpImporter, which Python 3.12 removed."""
    if Version(target.python_version) < Version("3.12"):
        return []
    old = [sdist for sdist in sdists if sdist.name == "setuptools" and Version(sdist.version) < Version("66.1")]
    return [
        Doubt(text=f"it builds with {sdist}, which Python 3.12 and later can't import", likely=True) for sdist in old
    ]
