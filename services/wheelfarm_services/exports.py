"""What of a target's index goes into an export: the wheels that are taken along, and the pages that list them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from wheelfarm.errors import NotFound
from wheelfarm.requirement_path import requires_dist_of
from wheelfarm_services import layout
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import Manifest, WheelIndex
from wheelfarm_services.wheel_index.page import file_of, flat_page, from_below, project_page, root_page, to_html
from wheelfarm_services.wheel_index.project_state import ProjectState

_READERS = 8

Requires = Callable[[Manifest], Collection[str]]
"""The projects that a wheel names in its Requires-Dist, whatever the markers."""


class Exports:
    """Chooses from the indexes of one store."""

    def __init__(self, store: Store, index: WheelIndex) -> None:
        self._store = store
        self._index = index
        self._policies = PolicyBook(store)

    def export(
        self, target: str, projects: Collection[str], *, build_requirements: bool, sees: Callable[[str], bool]
    ) -> dict[str, Any]:
        """An export as `wheelfarm.export.ExportPlan.from_json` reads it, of what somebody may see who `sees` the wheels
        of certain sha256s. Raises NotFound for a project that is not on the index, or for an empty one."""
        entries = [entry for entry in self._offered(target) if sees(entry.wheel.sha256)]
        if not entries:
            raise NotFound(f"There is nothing on the index of a target {target!r} that could be exported.")
        taken = chosen(entries, projects, build_requirements=build_requirements, requires=self._requires(entries))
        return {
            "target": target,
            "manifests": [asdict(entry) for entry in taken],
            "pages": pages_of(target, taken),
        }

    def _offered(self, target: str) -> Iterator[Manifest]:
        """What installers may choose without being told to: nothing that is yanked, quarantined, deleted or refused by
        policy, for a folder of wheels can't say so."""
        states: dict[str, ProjectState] = {}
        for entry in self._index.entries(target):
            name = entry.wheel.name
            if name not in states:
                states[name] = self._index.pages.state(name)
            shown = states[name].shows(entry.wheel.filename) and states[name].yanked(entry.wheel.version) is None
            if shown and self._policies.lets_stand(entry.sources):
                yield entry

    def _requires(self, entries: Sequence[Manifest]) -> Requires:
        with ThreadPoolExecutor(_READERS) as pool:
            names = dict(zip((entry.wheel.sha256 for entry in entries), pool.map(self._required, entries), strict=True))
        return lambda entry: names[entry.wheel.sha256]

    def _required(self, entry: Manifest) -> frozenset[str]:
        data = self._store.get(layout.wheel_metadata(entry.wheel.sha256, entry.wheel.filename))
        return frozenset(_names(requires_dist_of(data or b"")))


def chosen(
    entries: Sequence[Manifest], projects: Collection[str], *, build_requirements: bool, requires: Requires
) -> list[Manifest]:
    """The wheels of these projects in all versions, and of what they require to run; without projects, of all that are
    not on the index just because others were built with them.

    With `build_requirements` also the wheels that each of them was built with, and those that these were, and so on.
    Raises NotFound for a project of which there is none.
    """
    by_name: dict[str, list[Manifest]] = {}
    for entry in entries:
        by_name.setdefault(entry.wheel.name, []).append(entry)
    if missing := sorted(set(projects) - by_name.keys()):
        raise NotFound(
            f"The index has no wheel of {', '.join(missing)} to export.", hint="Build it first: wheelfarm build"
        )
    tools = {name for entry in entries for name, _ in _built_with(entry)}
    todo = list(projects) or [name for name in by_name if name not in tools] or list(by_name)
    names: dict[str, None] = dict.fromkeys(todo)
    for name in todo:  # grows on the way
        found = {required for entry in by_name[name] for required in requires(entry)} & by_name.keys() - names.keys()
        names |= dict.fromkeys(found)
        todo += found
    taken = {entry.wheel.filename for name in names for entry in by_name[name]}
    if build_requirements:
        taken = _with_tools(entries, taken)
    return [entry for entry in entries if entry.wheel.filename in taken]


def pages_of(target: str, entries: Iterable[Manifest]) -> dict[str, str]:
    """The pages of a folder that holds these wheels, by their paths: one for --find-links, and an index."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        file = file_of(entry, url=quote(entry.wheel.filename))
        by_name.setdefault(entry.wheel.name, []).append(file)
    flat = flat_page(target, [file for files in by_name.values() for file in files])
    pages = {"index.html": to_html(flat, f"Wheels for {target}")}
    pages["simple/index.html"] = to_html(root_page(by_name), f"Projects of {target}")
    for name, files in by_name.items():
        page = project_page(name, from_below(files, 2), ProjectState())
        pages[f"simple/{name}/index.html"] = to_html(page, f"Wheels of {name}")
    return {path: page.decode() for path, page in pages.items()}


def _with_tools(entries: Sequence[Manifest], taken: Collection[str]) -> set[str]:
    known = {entry.wheel.filename: entry for entry in entries}
    todo, found = list(taken), set(taken)
    for filename in todo:  # grows on the way
        new = {tool for _, tool in _built_with(known[filename])} & known.keys() - found
        found |= new
        todo += new
    return found


def _built_with(entry: Manifest) -> Iterator[tuple[str, str]]:
    """The projects and the wheels that one was built with."""
    for requirement in entry.provenance.get("plan", {}).get("requirements", ()):
        yield requirement["wheel"]["name"], requirement["wheel"]["filename"]


def _names(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        try:
            yield canonicalize_name(Requirement(line).name)
        except InvalidRequirement:
            continue
