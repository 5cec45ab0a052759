"""What large indexes cost: to read and write their flat page, and to publish on them."""

import gzip
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.index_clients import Installer, Source
from tests.support.index_farm import TARGET, publish, static_files
from tests.support.values import make_built_wheel

from wheelfarm_services import layout
from wheelfarm_services.store import DirectoryStore
from wheelfarm_services.wheel_index import Manifest, WheelIndex
from wheelfarm_services.wheel_index.page import file_of, flat_page, from_below, to_html, to_json

_PUBLISHED = 20


def flat_pages(folder: Path, entries: int) -> str:
    """A row: the size of a flat page, and how long it takes to bring it up to date and to install from it."""
    store = _filled(folder, entries)
    publish(store, "wanted")
    rendering = _seconds(lambda: WheelIndex(store).pages.render_stale())
    page = store.get(layout.flat_page(TARGET)) or b""
    cells = [
        f"{entries:,}",
        f"{len(page) / 1e6:.1f} MB",
        f"{len(gzip.compress(page, 6)) / 1e6:.2f} MB",
        f"{rendering:.2f} s",
    ]
    with static_files(store.root) as web:
        for name in ("pip", "uv"):
            with TemporaryDirectory() as home:
                client = Installer(name=name, home=Path(home))
                source = Source(base=web.url(""), form="links")
                cells.append(f"{min(_seconds(lambda: _install(client, source)) for _ in range(3)):.2f} s")  # noqa: B023
    return f"| {' | '.join(cells)} |"


def publishing(folder: Path, entries: int) -> str:
    """A row: the median time of a publish of one more project, and of bringing the flat page up to date."""
    store = _filled(folder, entries)
    times = [_seconds(lambda: publish(store, f"new{number}")) for number in range(_PUBLISHED)]  # noqa: B023
    rendering = _seconds(lambda: WheelIndex(store).pages.render_stale())
    return f"| {entries:,} | {1000 * statistics.median(times):.0f} ms | {rendering:.2f} s |"


def _filled(folder: Path, entries: int) -> DirectoryStore:
    """A store with that many entries of ten wheels a project, and its flat page; their wheels are not there."""
    store = DirectoryStore.create(folder)
    files = []
    for number in range(entries):
        wheel = make_built_wheel(f"old{number // 10}", f"1.{number % 10}", data=str(number).encode())
        manifest = Manifest(
            wheel=wheel,
            unstamped_sha256="0" * 64,
            metadata_sha256="1" * 64,
            requires_python=">=3.8",
            target=TARGET,
            provenance={},
        )
        path = folder / layout.index_entry(TARGET, wheel.filename)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(manifest.to_json())  # without the store's care for lost power, which takes a millisecond each
        files.append(file_of(manifest))
    page = flat_page(TARGET, from_below(files, 2), serial=1)
    store.put(layout.flat_page(TARGET, "json"), to_json(page))
    store.put(layout.flat_page(TARGET), to_html(page, TARGET))
    return store


def _install(client: Installer, source: Source) -> None:
    done = client.install(source, "wanted")
    assert done.code == 0, done.said  # noqa: S101


def _seconds(what: Callable[[], object]) -> float:
    began = time.monotonic()
    what()
    return time.monotonic() - began
