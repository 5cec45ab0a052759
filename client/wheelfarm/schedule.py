"""A simulated schedule: how long builds take that wait for each other, with so many at once."""

import heapq
from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter


def makespan(seconds: Mapping[str, float], needs: Mapping[str, Collection[str]], slots: int) -> float:
    """When the last build ends, where each begins once its needs are built and a slot is free, first come first served.

    `seconds` holds every build, in the order in which they are asked for; needs that it does not hold are there
    already, and one that closes a cycle is passed over.
    """
    names = list(seconds)
    order = {name: number for number, name in enumerate(names)}
    within = {name: [need for need in needs.get(name, ()) if need in seconds] for name in names}
    sorter = TopologicalSorter(without_cycles(within)[0])
    sorter.prepare()
    ready: list[int] = []
    running: list[tuple[float, int]] = []
    now = 0.0
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, order[name])
        while ready and len(running) < slots:
            number = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[names[number]], number))
        now, number = heapq.heappop(running)
        sorter.done(names[number])
    return now


def without_cycles(
    needs: Mapping[str, Collection[str]],
) -> tuple[dict[str, set[str]], list[tuple[str, ...]]]:
    """The needs without those that close a cycle, and the cycles: in the order of need, the first equal to the last."""
    kept = {name: set(found) for name, found in needs.items()}
    cycles: list[tuple[str, ...]] = []
    while True:
        try:
            TopologicalSorter(kept).prepare()
        except CycleError as error:
            ring: list[str] = error.args[1]  # each is needed by the next
            kept[ring[1]].discard(ring[0])
            cycles.append(tuple(reversed(ring)))
        else:
            return kept, cycles
