"""The results as a table in Markdown: medians, and as ratios to uv's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(kw_only=True, slots=True)
class Results:
    """What the rounds of one tool took for one set, in seconds; `failure` is why there are none."""

    command: str
    wheels: int | None = None
    cold_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    warm_s: list[float] = field(default_factory=list)
    warm_cpu_s: list[float] = field(default_factory=list)
    failure: str = ""


def table(results: Mapping[str, Results]) -> Iterator[str]:
    """One set's lines; `results` by the tools' names, of which "uv" is what the others are compared with."""
    yield "| | cold, s | beside uv | processor, s | beside uv | wheels built | warm, ms | processor, ms |"
    yield "|---|---|---|---|---|---|---|---|"
    peer = results.get("uv", Results(command=""))
    for name, found in results.items():
        if found.failure:
            yield f"| {name}: `{found.command}` | failed: {found.failure} | | | | | | |"
            continue
        warm, warm_cpu = (f"{1000 * median(of):.0f}" if of else "-" for of in (found.warm_s, found.warm_cpu_s))
        wheels = "-" if found.wheels is None else found.wheels
        yield (
            f"| {name}: `{found.command}` | {_seconds(found.cold_s)} | {_ratio(found.cold_s, peer.cold_s)} "
            f"| {_seconds(found.cpu_s)} | {_ratio(found.cpu_s, peer.cpu_s)} | {wheels} | {warm} | {warm_cpu} |"
        )


def _seconds(found: Sequence[float]) -> str:
    if len(found) < 2:
        return f"{median(found):.1f}"
    return f"{median(found):.1f} ({min(found):.1f}-{max(found):.1f})"


def _ratio(found: Sequence[float], peer: Sequence[float]) -> str:
    return f"{median(found) / median(peer):.2f}" if peer else "-"
