import threading
from functools import partial
from pathlib import Path

import pytest

from wheelfarm.errors import CorruptObject, FarmUnavailable
from wheelfarm.settings import Settings
from wheelfarm_services import layout
from wheelfarm_services.store import CheckedStore, DirectoryStore, open_store
from wheelfarm_workers.patient_store import PatientStore, open_patiently


def store_in(folder: Path, *, patience_s: float = 30.0) -> tuple[PatientStore, threading.Event]:
    ending = threading.Event()
    store = CheckedStore(DirectoryStore.create(folder))
    return PatientStore(store, patience_s=patience_s, ending=ending), ending


def test_what_was_to_be_put_is_put_when_the_store_is_back(tmp_path: Path) -> None:
    store, _ = store_in(tmp_path / "store")
    away = (tmp_path / "store").rename(tmp_path / "away")
    back = threading.Timer(0.3, lambda: away.rename(tmp_path / "store"))
    back.start()
    store.put("a/b", b"wheel")
    assert store.get("a/b") == b"wheel"
    assert list(store.list("a/")) == ["a/b"]
    back.join()


def test_store_is_opened_when_it_is_there_and_not_made(tmp_path: Path) -> None:
    settings = Settings(store=(tmp_path / "store").as_uri())
    made = threading.Timer(0.3, lambda: DirectoryStore.create(tmp_path / "store"))
    made.start()
    with pytest.raises(FarmUnavailable, match="There is no store"):
        open_patiently(partial(open_store, settings, create=False), patience_s=0.0)
    assert open_patiently(partial(open_store, settings, create=False), patience_s=30.0).get("a/b") is None
    made.join()


def test_patience_ends(tmp_path: Path) -> None:
    store, _ = store_in(tmp_path / "store", patience_s=0.2)
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(FarmUnavailable, match="is gone"):
        store.put("a/b", b"wheel")


def test_worker_that_ends_does_not_wait(tmp_path: Path) -> None:
    store, ending = store_in(tmp_path / "store", patience_s=3600)
    (tmp_path / "store").rename(tmp_path / "away")
    ending.set()
    with pytest.raises(FarmUnavailable):
        store.size("a/b")


def test_corrupt_object_is_no_outage(tmp_path: Path) -> None:
    store, _ = store_in(tmp_path / "store", patience_s=3600)
    key = layout.sdist("ab" * 32)
    store.put(key, b"other bytes")
    with pytest.raises(CorruptObject):
        store.get(key)
