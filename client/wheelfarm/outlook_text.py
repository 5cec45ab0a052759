"""Outlooks as people read them: a line a project, what speaks against it below, totals last."""

from collections.abc import Iterator, Sequence

from wheelfarm.outlook import Outlook, Prospect

_NAMED = 3


def outlook_lines(outlook: Outlook) -> Iterator[str]:
    """The table and its totals."""
    width = max((len(name) for name in outlook.prospects), default=0)
    for name, prospect in outlook.prospects.items():
        yield f"{_state(prospect):<7} {name:<{width}}  {_time(prospect):>8}  {_reason(prospect)}".rstrip()
        if prospect.forecast.recipe:
            yield f"        recipe: {_first_line(prospect.forecast.recipe)}"
        if prospect.forecast.prebuilt:
            yield f"        prebuilt: {prospect.forecast.prebuilt}"
        for doubt in prospect.doubts:
            yield f"        {'likely to fail' if doubt.likely else 'note'}: {_first_line(doubt.text)}"
            if doubt.hint:
                yield f"        hint: {_first_line(doubt.hint)}"
    yield ""
    yield from _totals(outlook)


def _totals(outlook: Outlook) -> Iterator[str]:
    prospects = list(outlook.prospects.values())
    missing = [prospect for prospect in prospects if not prospect.cached]
    helpers = sum(not prospect.asked_for for prospect in missing)
    for_builds = f" ({helpers} of them for builds alone)" if helpers else ""
    cached = len(prospects) - len(missing)
    yield f"{_count(len(prospects), 'sdist')}: {cached} cached, {len(missing)} to build{for_builds}"
    if missing:
        at_once = f"with {_count(outlook.slots, 'build')} at once"
        yield f"about {_span(outlook.wall_s)} {at_once}, {_span(outlook.work_s)} of building"
        yield from _caveats(outlook, missing)


def _caveats(outlook: Outlook, missing: Sequence[Prospect]) -> Iterator[str]:
    guessed = [prospect for prospect in missing if prospect.guessed]
    if guessed:
        yield f"{len(guessed)} of these times are guesses: nothing like them was built here yet"
    failing = [str(prospect.forecast.sdist) for prospect in missing if prospect.likely_to_fail]
    if failing:
        yield f"{len(failing)} likely to fail: {', '.join(failing)}"
        if stopped := _stopped(outlook, failing):
            yield f"{len(stopped)} more can't be built then: {_some(stopped)}"
    for cycle in outlook.cycles:
        yield f"these need each other to be built: {' -> '.join(cycle)}; the farm looks for other versions"
    unknown = [str(prospect.forecast.sdist) for prospect in missing if not prospect.metadata_known]
    if unknown:
        yield f"the list may change: what these require is certain once they are built: {', '.join(unknown)}"
    unasked = sum(bool(prospect.forecast.backend) and not prospect.forecast.backend_asked for prospect in missing)
    if unasked:
        yield f"not asked yet whether they need more to build: {_count(unasked, 'backend')}"


def _stopped(outlook: Outlook, failing: Sequence[str]) -> list[str]:
    """What needs, directly or not, something that is likely to fail."""
    found, todo = set(failing), list(failing)
    for name in todo:  # grows on the way
        new = [user for user in outlook.prospects[name].builds if user not in found]
        found.update(new)
        todo += new
    return sorted(found - set(failing))


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def _state(prospect: Prospect) -> str:
    return "cached" if prospect.cached else "build"


def _time(prospect: Prospect) -> str:
    return "" if prospect.cached else f"{'~' if prospect.guessed else ''}{_span(prospect.seconds)}"


def _reason(prospect: Prospect) -> str:
    reasons = ["to install"] if prospect.asked_for else []
    return ", ".join([*reasons, *([f"to build {_some(prospect.builds)}"] if prospect.builds else [])])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _span(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
