"""Explanations as people read them: lines of text, with what a wheel was built with as a tree."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from packaging.utils import parse_wheel_filename

from wheelfarm.explanation import Bringing, Explanation, Origin
from wheelfarm.requirement_path import Step
from wheelfarm.target import Target

_SHOWN = 12
"""How many of a long list are shown; the document of --json has all."""


def explanation_lines(explanation: Explanation, ways: Sequence[Bringing], now: Target | None = None) -> Iterator[str]:
    """One wheel explained, with the ways that led to it; `now` is its target as it is at present."""
    origin = explanation.origin
    yield f"{origin.wheel.name} {origin.wheel.version}  {origin.wheel.filename}"
    revisions = tuple(_revisions(explanation.earlier, origin.target, now))
    yield from (f"  {name:<12}{text}" for name, text in _facts(origin, revisions) if text)
    if explanation.others:
        others = sorted({wheel.filename for wheel in explanation.others})
        yield f"  {'also built':<12}{_some(others)}"
    yield "brought by"
    yield from (f"  {line}" for way in ways[:_SHOWN] for line in _way_told(way))
    if not ways:
        yield "  nothing that is remembered here asked for it"
    yield "built with"
    yield from tree_lines(explanation)
    if users := explanation.used_by.get(explanation.wheel.filename, ()):
        yield f"used to build {len(users)} {'wheel' if len(users) == 1 else 'wheels'}"
        yield from (f"  {_project(use.filename)}{_because(use.way)}" for use in users[:_SHOWN])
        if len(users) > _SHOWN:
            yield f"  and {len(users) - _SHOWN} more, which --json has"


def _facts(origin: Origin, revisions: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "sha256", origin.wheel.sha256
    if isinstance(origin.prebuilt, Mapping):
        yield (
            "prebuilt",
            f"{origin.prebuilt.get('reason')} (policy's exception, until {origin.prebuilt.get('expires')})",
        )
    yield "taken from" if origin.prebuilt else "built from", origin.sdist.filename
    yield "", f"sha256 {origin.sdist.sha256}"
    yield "", f"listed at {origin.url}" + (f", uploaded {origin.upload_time}" if origin.upload_time else "")
    yield "upstream", "; ".join([origin.upstream, *(f"{one}, which is ignored" for one in origin.passed_over)])
    yield "taken" if origin.prebuilt else "built", _built(origin)
    yield "target", _target(origin.target)
    yield from (("", line) for line in revisions)
    yield from _fit(origin.fit)
    yield "tried", _trial(origin.trial)
    yield "sandbox", origin.sandbox
    yield "system", origin.derived_root and f"derived for the recipe's packages, sha256 {origin.derived_root}"
    yield "driver", origin.driver
    if origin.build_system:
        system = origin.build_system
        yield "backend", system.backend + ", which is in the sdist" * bool(system.backend_path)
        yield "requires", ", ".join(system.requires) or "nothing"
        yield "asks for", ", ".join(system.asked)
    yield "constraints", ", ".join(origin.constraints)
    yield "fallback", origin.fallback
    yield "recipe", _recipe(origin.recipe)
    for number, line in enumerate(origin.metadata.differences):
        yield "" if number else "not stated", line
    yield "log", f"wheelfarm logs {origin.job[:12]}"


def _built(origin: Origin) -> str:
    if origin.built_at is None:
        return "at a time that was not recorded"
    when = datetime.fromtimestamp(origin.built_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return when if origin.duration_s is None else f"{when}, in {origin.duration_s:.1f} s"


def _target(target: Target) -> str:
    distribution = f", distribution {target.interpreter}" if target.interpreter else ""
    return f"{target.name} (CPython {target.python_version}, {target.platform}{distribution})"


def _revisions(before: Target | None, built: Target, now: Target | None) -> Iterator[str]:
    """Which of a target's revisions it was: another root filesystem, compiler or flag is another one; what changed
    since the wheel was built before, and what has since it was."""
    root = f", root filesystem sha256:{built.root[:12]}" if built.root else ""
    yield f"revision {built.revision[:12]}, {built.tag_policy} tags{root}"
    if before is not None:
        yield f"built before in revision {before.revision[:12]}; since then changed: {_changes(before, built)}"
    if now is not None and now.name == built.name and now.revision != built.revision:
        yield f"now the target is in revision {now.revision[:12]}; since then changed: {_changes(built, now)}"


def _changes(before: Target, after: Target) -> str:
    """What tells two revisions of a target apart."""
    told = {
        "root filesystem": (before.root and f"sha256:{before.root[:12]}", after.root and f"sha256:{after.root[:12]}"),
        "Python": (before.python_version, after.python_version),
        "distribution": (before.interpreter, after.interpreter),
        "sandbox": (before.sandbox, after.sandbox),
    }
    changed = [f"{name} {first or 'none'} -> {last or 'none'}" for name, (first, last) in told.items() if first != last]
    return ", ".join(changed) or "its environment or its toolchain"


def _fit(fit: Any) -> Iterator[tuple[str, str]]:
    """What a compiled wheel needs of the machine that it is used on, and how to install that where it is Debian."""
    if not isinstance(fit, Mapping):
        return
    if not fit.get("elf_files"):
        yield "left out", "it is for one platform and has no ELF file: an optional extension was not built"
    versions = fit.get("versions") or {}
    libc = [f"{'glibc' if name == 'GLIBC' else name} {version}" for name, version in versions.items()]
    yield "needs", ", ".join([*libc, *(fit.get("needs") or ())])
    packages = sorted(set((fit.get("packages") or {}).values()))
    yield "install", f"apt-get install {' '.join(packages)}" if packages else ""


def _trial(trial: Any) -> str:
    """What was seen of a wheel before it was published."""
    if not isinstance(trial, Mapping):
        return ""
    loaded, imported, command = trial.get("loaded"), trial.get("imported"), trial.get("command")
    unproven = [str(module) for module, _ in trial.get("unproven") or ()]
    told = [
        f"{loaded} extension {'module' if loaded == 1 else 'modules'} loaded" if loaded else "",
        f"{', '.join(imported)} imported" if imported else "",
        f"{' '.join(command)} ended well" if command else "",
        f"not shown to load: {_some(unproven)}" if unproven else "",
        f"without {_some(trial.get('without') or ())}" if trial.get("without") else "",
    ]
    return "; ".join(filter(None, told))


def _recipe(recipe: Any) -> str:
    """What a recipe sets, its reason first."""
    if not isinstance(recipe, Mapping):
        return ""
    given = {name: _given(value) for name, value in recipe.items() if name != "reason"}
    settings = ", ".join(f"{name.replace('_', '-')} = {json.dumps(value)}" for name, value in given.items() if value)
    return " ".join(filter(None, (str(recipe.get("reason") or ""), f"({settings})" if settings else "")))


def _given(value: Any) -> Any:
    """A setting without what it leaves alone."""
    return {name: one for name, one in value.items() if one is not None} if isinstance(value, Mapping) else value


def _way_told(way: Bringing) -> Iterator[str]:
    when = datetime.fromtimestamp(way.resolved_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    asked, *steps = way.runtime
    yield f"{asked.requirement}  asked for on {when}"
    indent = "  "
    for step in steps:
        yield f"{indent}-> {step.requirement}, needed by {step.of}"
        indent += "  "
    for filename, build in way.builds:
        text = build[0].requirement if build else "a build requirement"
        yield f"{indent}-> {text}, to build {_project(filename)}"
        indent += "  "
        for step in build[1:]:
            yield f"{indent}-> {step.requirement}, needed by {step.of}"
            indent += "  "


def tree_lines(explanation: Explanation) -> Iterator[str]:
    """What a wheel was built with, as a tree down to self-hosted backends; a subtree is drawn once, then marked (*)."""
    drawn = {explanation.wheel.filename}

    def lines(filename: str, indent: str) -> Iterator[str]:
        uses = explanation.origins[filename].built_with
        for number, use in enumerate(uses, 1):
            last = number == len(uses)
            known = explanation.origins.get(use.filename)
            deeper = bool(known and known.built_with)
            mark = " (*)" if deeper and use.filename in drawn else "" if deeper else _end(known)
            yield f"{indent}{'└── ' if last else '├── '}{_project(use.filename)}{_because(use.way)}{mark}"
            if deeper and not mark:
                drawn.add(use.filename)
                yield from lines(use.filename, indent + ("    " if last else "│   "))

    found = list(lines(explanation.wheel.filename, "  "))
    nothing = "it is prebuilt" if explanation.origin.prebuilt else "its backend is in the sdist"
    yield from found or [f"  nothing: {nothing}"]
    if any(line.endswith(" (*)") for line in found):
        yield "  (*) built with what is drawn above"


def _end(origin: Origin | None) -> str:
    if origin is None:
        return " [no longer on the index]"
    return " [prebuilt]" if origin.prebuilt else " [builds itself]"


def _because(way: Sequence[Step]) -> str:
    if not way:
        return ""
    return f"  for {way[-1].requirement}" + (f", needed by {way[-1].of}" if way[-1].of else "")


def _project(filename: str) -> str:
    name, version, _, _ = parse_wheel_filename(filename)
    return f"{name} {version}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
