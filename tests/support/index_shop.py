"""What stock clients are tried with: an index with one project of each trait, where it is served, and what works there
with a client."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.archives import make_zip, wheel_files
from tests.support.index_clients import Client, Source
from tests.support.index_farm import TARGET, Served, publish, served, static_files
from tests.support.s3 import Bucket
from tests.unit.test_api import TOKEN, Farm
from wheelfarm.export_writer import ExportPlan, write_export
from wheelfarm.index_change import Action
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services import layout
from wheelfarm_services.exports import Exports
from wheelfarm_services.store import Store
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_services.wheel_index.curation import Curation

PAGE = "wheel-index.md"
HEADING = "What works with which client"
NEVER = "-"
"""Stands for what a client has no means for."""
OLD, NEW = "2024-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
BETWEEN = "2025-01-01T00:00:00Z"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Somewhere to install from, what is behind it, and the server, where that tells what it is asked."""

    source: Source
    store: Store
    known_sha256: str
    """Of the one wheel of app 1.0."""
    server: Served | None = None


def stocked(store: Store) -> str:
    """Publish one project of each trait; the sha256 of the wheel of app 1.0."""
    known = publish(store, "app", "1.0", uploaded=OLD)
    publish(store, "app", "2.0", requires=["dotted-name>=1.0"], uploaded=NEW)
    for text in ("first", "second"):
        publish(store, "lib", text=text)
    publish(store, "Dotted.Name")
    publish(store, "local", "1.0+cc")
    for version in ("1.0", "2.0"):
        publish(store, "taken-back", version)
    publish(store, "held")
    publish(store, "forged")
    pages = WheelIndex(store).pages
    curation = Curation(store, pages)
    curation.change(Action.YANK, "taken-back", "2.0", "it deletes files", by="tests")
    curation.change(Action.QUARANTINE, "held", "", "malware", by="tests")
    pages.render_stale()
    return known.sha256


def forge(store: Store) -> None:
    """Have another wheel than its page promises in the place of one."""
    (key,) = (key for key in store.list("wheels/") if "/forged-" in key and key.endswith(".whl"))
    store.put(key, forged_wheel())


def forged_wheel() -> bytes:
    """A whole wheel of another's making."""
    return make_zip(wheel_files("forged", "1.0", files={"forged.py": b"EVIL = True\n"}))


@contextmanager
def shop(folder: Path, bucket: Bucket) -> Iterator[Mapping[str, Place]]:
    """The places, by the names that the table has for them."""
    farm = Farm(folder)
    known = stocked(farm.store)
    export = exported(farm.store, folder / "export")
    forge(farm.store)
    with served(farm.app, user=f"__token__:{TOKEN}") as api, static_files(farm.store.root) as web:
        yield {
            "API": Place(source=Source(base=api.url("")), store=farm.store, known_sha256=known, server=api),
            "flat page of the API": Place(
                source=Source(base=api.url(""), form="links"), store=farm.store, known_sha256=known, server=api
            ),
            "web server": Place(source=Source(base=web.url("")), store=farm.store, known_sha256=known),
            "bucket": _in_bucket(bucket),
            "export": Place(source=Source(base=str(export), form="folder"), store=farm.store, known_sha256=known),
            "page of an export": Place(
                source=Source(base=str(export), form="page"), store=farm.store, known_sha256=known
            ),
            "index of an export": Place(
                source=Source(base=str(export), form="files"), store=farm.store, known_sha256=known
            ),
        }


def _in_bucket(bucket: Bucket) -> Place:
    """The pages where they lie in a bucket, as its endpoint for web sites gives them to everybody."""
    store = bucket.store()
    known = stocked(store)
    forge(store)
    bucket.publish_pages()
    return Place(source=Source(base=bucket.website), store=store, known_sha256=known)


@dataclass(frozen=True, kw_only=True)
class _FromStore:
    """Wheels for an export, as a farm gives them."""

    store: Store

    def download(self, wheel: BuiltWheel, path: Path) -> None:
        path.write_bytes(self.store.get(layout.wheel(wheel.sha256, wheel.filename)) or b"")

    def wheel_metadata(self, wheel: BuiltWheel) -> bytes:
        return self.store.get(layout.wheel_metadata(wheel.sha256, wheel.filename)) or b""


def exported(store: Store, folder: Path) -> Path:
    """An export of everything, in which one wheel was changed afterwards."""
    told = Exports(store, WheelIndex(store)).export(TARGET, [], build_requirements=False, sees=lambda sha256: True)
    write_export(ExportPlan.from_json(told), _FromStore(store=store), folder)
    (wheel,) = folder.glob("forged-*.whl")
    wheel.unlink()
    wheel.write_bytes(forged_wheel())
    return folder


def gets(client: Client, place: Place, *requirements: str, wheels: Mapping[str, str] | None = None, **how: Any) -> str:
    """Whether these requirements lead to these wheels, each with its build tag, and none where none are given."""
    done = client.install(place.source, *requirements, **how)
    right = done.wheels == (wheels or {}) and (done.code == 0) is bool(wheels)
    return "yes" if right else f"no: {' '.join(sorted(done.wheels)) or 'nothing'}"


def newest_version(client: Client, place: Place) -> str:
    return gets(client, place, "app", wheels={"app-2.0": "1", "dotted_name-1.0": "1"})


def any_spelling(client: Client, place: Place) -> str:
    return gets(client, place, "Dotted_Name", wheels={"dotted_name-1.0": "1"})


def local_version(client: Client, place: Place) -> str:
    return gets(client, place, "local>=1.0", wheels={"local-1.0+cc": "1"})


def rebuilt(client: Client, place: Place) -> str:
    return gets(client, place, "lib==1.0", wheels={"lib-1.0": "2"})


def rebuilt_meanwhile(client: Client, place: Place) -> str:
    name = f"again-{client.name}"
    publish(place.store, name)
    before = client.install(place.source, name, cached=True)
    publish(place.store, name, text="second")
    after = client.install(place.source, name, cached=True)
    tags = [done.wheels.get(f"{name.replace('-', '_')}-1.0") for done in (before, after)]
    return "yes" if tags == ["1", "2"] else "no"


def locked_before_a_rebuild(client: Client, place: Place) -> str:
    name = f"kept-{client.name}"
    publish(place.store, name)
    lock = client.lock(place.source, name)
    publish(place.store, name, text="second")
    return gets(client, place, name, locked=lock, wheels={f"{name.replace('-', '_')}-1.0": "1"})


def yanked_is_passed_over(client: Client, place: Place) -> str:
    return gets(client, place, "taken-back", wheels={"taken_back-1.0": "1"})


def yanked_is_had_by_its_version(client: Client, place: Place) -> str:
    return gets(client, place, "taken-back==2.0", wheels={"taken_back-2.0": "1"})


def quarantined_is_not_had(client: Client, place: Place) -> str:
    return gets(client, place, "held")


def wrong_bytes_are_refused(client: Client, place: Place) -> str:
    return gets(client, place, "forged")


def cooldown(client: Client, place: Place) -> str:
    return gets(client, place, "app", since=BETWEEN, wheels={"app-1.0": "1"})


def lock_has_hashes(client: Client, place: Place) -> str:
    return "yes" if place.known_sha256 in client.lock(place.source, "app==1.0") else "no"


def metadata_alone_is_read(client: Client, place: Place) -> str:
    assert place.server
    before = len(place.server.seen)
    client.lock(place.source, "app==2.0")
    files = [path for _, path, _ in place.server.seen[before:] if ".whl" in path]
    return "yes" if files and all(path.endswith(".metadata") for path in files) else "no"


def page_is_asked_for_once_more(client: Client, place: Place) -> str:
    assert place.server
    client.install(place.source, "dotted-name", cached=True)
    before = len(place.server.seen)
    done = client.install(place.source, "dotted-name", cached=True)
    statuses = [status for _, _, status in place.server.seen[before:]]
    return "yes" if done.wheels and statuses == [304] else f"no: {' '.join(map(str, statuses))}"


def wrong_token_is_told_of(client: Client, place: Place) -> str:
    assert place.server
    source = replace(place.source, base=place.server.url("", user="__token__:wrong"))
    done = client.install(source, "lib")
    told = any(word in done.said.lower() for word in ("401", "credentials", "authorization"))
    return "yes" if done.code != 0 and told else "no"


Check = Callable[[Client, Place], str]
TRIED: Mapping[str, Check] = {
    "the newest version, and what it requires": newest_version,
    "versions with a local part (`+cc`)": local_version,
    "a yanked version is passed over": yanked_is_passed_over,
    "wrong bytes are refused": wrong_bytes_are_refused,
    "a quarantined project is not had": quarantined_is_not_had,
    "locks have hashes": lock_has_hashes,
    "names in any spelling": any_spelling,
    "a rebuilt wheel is preferred": rebuilt,
    "a rebuild is taken up in spite of the client's cache": rebuilt_meanwhile,
    "a lock of before a rebuild gets what it names": locked_before_a_rebuild,
    "a yanked version is had when it is asked for exactly": yanked_is_had_by_its_version,
    "cooldowns go by the sdist's time": cooldown,
    "resolving reads metadata alone": metadata_alone_is_read,
    "a second run asks for the page alone, which is unchanged": page_is_asked_for_once_more,
    "a wrong token is told of": wrong_token_is_told_of,
}
_EACH = list(TRIED)
CHECKS: Mapping[str, Sequence[str]] = {
    "API": _EACH,
    "flat page of the API": [_EACH[0], _EACH[2]],
    "web server": _EACH[:4],
    "bucket": _EACH[:5],
    "export": _EACH[:6],
    "page of an export": [_EACH[0], _EACH[3]],
    "index of an export": [_EACH[0], _EACH[3]],
}
ROWS = {f"{what} ({place})": (place, TRIED[what]) for place, rows in CHECKS.items() for what in rows}
"""The rows of the table, in its order: where something is tried, and what."""
