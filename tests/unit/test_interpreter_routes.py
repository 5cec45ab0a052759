import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from uv import find_uv_bin

from tests.support.asgi import asgi_client, operations_client
from tests.unit.test_api import Farm
from tests.unit.test_auth import TokenFarm
from wheelfarm.garbage import GarbageRules
from wheelfarm.token_file import Scope
from wheelfarm_services.garbage import collect_garbage
from wheelfarm_services.interpreters.routes import interpreter_operations
from wheelfarm_services.store import DirectoryStore

KEY = "cpython-3.12.1-linux-x86_64-gnu"
NAME = "cpython-3.12.1+20261120-x86_64-unknown-linux-gnu-install_only.tar.gz"


def python_archive(version: str = "3.12.1", *, mark: bytes = b"") -> bytes:
    """The smallest archive that passes for a Python."""
    data = io.BytesIO()
    header = f'#define PY_VERSION "{version}"\n'.encode()
    files = {"bin/python3": b"#!" + mark, "include/python3.12/patchlevel.h": header}
    with gzip.GzipFile(fileobj=data, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"python/{name}")
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path)
    with farm.client:
        yield farm


def keep(
    farm: Farm, data: bytes, *, build: str = "20261120", name: str = NAME, key: str = KEY, sha256: str = ""
) -> httpx.Response:
    told = {"key": key, "sha256": sha256 or hashlib.sha256(data).hexdigest(), "source": "https://mirror.example/x"}
    return farm.client.put(f"/pythons/{build}/{name}", content=data, params=told)


def test_distribution_is_listed_for_uv_and_served(farm: Farm) -> None:
    data = python_archive()
    kept = keep(farm, data)
    assert kept.status_code == 200, kept.text
    assert kept.json()["root"] == "python"
    answer = farm.client.get("/pythons/downloads.json")
    assert answer.headers["cache-control"] == "no-cache"
    sha256 = hashlib.sha256(data).hexdigest()
    assert answer.json() == {
        KEY: {
            "name": "cpython",
            "arch": {"family": "x86_64", "variant": None},
            "os": "linux",
            "libc": "gnu",
            "major": 3,
            "minor": 12,
            "patch": 1,
            "prerelease": "",
            "url": f"http://farm.example/pythons/20261120/{NAME.replace('+', '%2B')}",
            "sha256": sha256,
            "variant": None,
            "build": "20261120",
        }
    }
    again = farm.client.get("/pythons/downloads.json", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    for name in (NAME, NAME.replace("+", "%2B")):
        served = farm.client.get(f"/pythons/20261120/{name}")
        assert (served.content, served.headers["etag"]) == (data, f'"{sha256}"')
    part = farm.client.get(f"/pythons/20261120/{NAME}", headers={"Range": "bytes=2-3"})
    assert (part.status_code, part.content) == (206, data[2:4])


def test_builds_of_one_version_stand_side_by_side_and_the_newest_is_listed(farm: Farm) -> None:
    later = NAME.replace("20261120", "20261121")
    assert keep(farm, python_archive(mark=b"1")).status_code == 200
    assert keep(farm, python_archive(mark=b"2"), build="20261121", name=later).status_code == 200
    builds = {"": "20261121", "20261120/": "20261120", "20261121/": "20261121"}
    for folder, build in builds.items():
        listed = farm.client.get(f"/pythons/{folder}downloads.json").json()
        assert [entry["build"] for entry in listed.values()] == [build]
    assert [one["build"] for one in farm.client.get("/pythons").json()] == ["20261121", "20261120"]
    assert farm.client.get("/pythons/20261122/downloads.json").status_code == 404


def test_variants_and_other_implementations_have_entries_of_their_own(farm: Farm) -> None:
    free, pypy = KEY.replace("3.12.1", "3.12.1+freethreaded"), "pypy-3.10.14-linux-x86_64_v3-gnu"
    keep(farm, python_archive())
    keep(farm, python_archive(mark=b"t"), name="free.tar.gz", key=free)
    keep(farm, python_archive(mark=b"p"), name="pypy.tar.gz", key=pypy, build="7.3.17")
    listed = farm.client.get("/pythons/downloads.json").json()
    assert list(listed) == [free, KEY, pypy]
    assert (listed[free]["variant"], listed[KEY]["variant"]) == ("freethreaded", None)
    assert (listed[pypy]["name"], listed[pypy]["arch"], listed[pypy]["build"]) == (
        "pypy",
        {"family": "x86_64", "variant": "v3"},
        "7.3.17",
    )


def test_stock_uv_reads_the_list_with_every_variant(farm: Farm, tmp_path: Path) -> None:
    keys = [
        KEY,
        KEY.replace("3.12.1", "3.13.1+freethreaded"),
        KEY.replace("3.12.1", "3.14.0rc1"),
        KEY.replace("x86_64", "x86_64_v3"),
        KEY.replace("gnu", "musl"),
        "cpython-3.12.1-linux-armv7-gnueabihf",
        "cpython-3.12.1-darwin-aarch64-none",
        "pypy-3.10.14-linux-x86_64-gnu",
        "graalpy-3.11.0-linux-aarch64-gnu",
    ]
    for number, key in enumerate(keys):
        version = re.split(r"[-+]", key)[1]
        kept = keep(farm, python_archive(version), key=key, name=f"{number}.tar.gz", build=f"2026112{number}")
        assert kept.status_code == 200, kept.text
    listed = tmp_path / "downloads.json"
    listed.write_bytes(farm.client.get("/pythons/downloads.json").content)
    asked = ["python", "list", "--all-versions", "--all-platforms", "--all-arches", "--only-downloads"]
    done = subprocess.run(
        [find_uv_bin(), *asked, "--output-format", "json", "--python-downloads-json-url", listed],
        env={"HOME": str(tmp_path), "UV_NO_CONFIG": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {one["key"].replace("-macos-", "-darwin-") for one in json.loads(done.stdout)} == set(keys)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"sha256": "0" * 64}, 422, "hash-mismatch"),
        ({"sha256": "abc"}, 400, "input"),
        ({"key": "cpython-3.12"}, 400, "input"),
        ({"key": KEY.replace("3.12.1", "3.12.2")}, 422, "bad-python"),
        ({"name": "python.tar.xz"}, 400, "input"),
        ({"build": "..%2Fx"}, 404, "not-found"),
    ],
)
def test_what_is_not_what_it_is_told_to_be_is_refused(
    farm: Farm, change: dict[str, str], status: int, code: str
) -> None:
    answer = keep(farm, python_archive(), **change)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert list(farm.store.list("pythons/")) == list(farm.store.list("interpreters/")) == []


def test_sha256_is_not_optional(farm: Farm) -> None:
    answer = farm.client.put(f"/pythons/20261120/{NAME}", content=python_archive(), params={"key": KEY})
    assert (answer.status_code, answer.json()["error"]) == (400, "input")


def test_name_of_a_build_has_one_content_until_it_is_removed(farm: Farm) -> None:
    first = keep(farm, python_archive())
    assert keep(farm, python_archive()).json() == first.json()
    other = python_archive(mark=b"other")
    assert keep(farm, other).status_code == 409
    assert farm.client.delete(f"/pythons/20261120/{NAME}").json() == first.json()
    assert farm.client.get(f"/pythons/20261120/{NAME}").status_code == 404
    assert farm.client.delete(f"/pythons/20261120/{NAME}").status_code == 404
    assert keep(farm, other).status_code == 200
    assert farm.client.get(f"/pythons/20261120/{NAME}").content == other


def test_only_operators_change_what_is_kept_and_nobody_reads_without_a_token(tmp_path: Path) -> None:
    farm = TokenFarm(tmp_path)
    assert keep(farm, python_archive()).status_code == 200
    path = f"/pythons/20261120/{NAME}"
    with farm.add("reader") as reader, farm.add("builder", Scope.BUILD) as builder, asgi_client(farm.app) as stranger:
        for asked in ("/pythons", "/pythons/downloads.json", "/pythons/20261120/downloads.json", path):
            assert reader.get(asked).status_code == 200
            refused = stranger.get(asked)
            assert (refused.status_code, refused.headers["www-authenticate"][:5]) == (401, "Basic")
        assert builder.delete(path).status_code == 403
        assert builder.put(path, content=b"x", params={"key": KEY, "sha256": "0" * 64}).status_code == 403


def test_archive_goes_with_the_garbage_once_nothing_names_it(farm: Farm) -> None:
    keep(farm, python_archive())
    (key,) = farm.store.list("interpreters/")
    for found in ("pythons/", "interpreters/"):
        for one in farm.store.list(found):
            os.utime(farm.store.root / one, (0, 0))
    collect_garbage(farm.store, GarbageRules(), dry_run=False)
    assert list(farm.store.list("interpreters/")) == [key]
    farm.client.delete(f"/pythons/20261120/{NAME}")
    collect_garbage(farm.store, GarbageRules(), dry_run=False)
    assert list(farm.store.list("interpreters/")) == []


def test_upload_is_bounded(tmp_path: Path) -> None:
    store = DirectoryStore.create(tmp_path / "store")
    with operations_client(interpreter_operations(store, most_bytes=100)) as client:
        told = {"key": KEY, "sha256": "0" * 64}
        assert client.put(f"/pythons/20261120/{NAME}", content=b"x" * 101, params=told).status_code == 413
    assert list(store.list("")) == []
