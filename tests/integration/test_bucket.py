"""What is so of a bucket alone: what is refused at start, how errors are told, and that faults lose nothing."""

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ReadTimeoutError, SSLError

from tests.support.ceph import SECRET_KEY, Gateway
from tests.support.publisher import PROJECT, TARGET, wheel_of
from tests.support.s3 import Bucket
from tests.support.s3_proxy import Fault, Proxy, Seen, run_proxy
from wheelfarm.errors import CorruptObject, FarmUnavailable
from wheelfarm_services import layout
from wheelfarm_services.store.s3_errors import reported
from wheelfarm_services.wheel_index import WheelIndex


@pytest.fixture
def proxy(gateway: Gateway) -> Iterator[Proxy]:
    with run_proxy(gateway.url) as running:
        yield running


def reverse_listing(seen: Seen, body: bytes) -> bytes:
    found = re.findall(rb"<Contents>.*?</Contents>", body, re.DOTALL)
    return body.replace(b"".join(found), b"".join(reversed(found))) if len(found) > 1 else body


def one_page_only(seen: Seen, body: bytes) -> bytes:
    return body.replace(b"<IsTruncated>true<", b"<IsTruncated>false<")


def first_answer_for_ever() -> object:
    """A cache between: what was read once of a key is read again."""
    known: dict[str, bytes] = {}
    return lambda seen, body: known.setdefault(seen.path, body) if seen.method == "GET" and body else body


@pytest.mark.parametrize(
    ("dropped", "rewrite", "lacking"),
    [
        ({"if-none-match"}, None, "If-None-Match"),
        ({"if-match"}, None, "If-Match"),
        ({"x-amz-meta-sha256", "x-amz-meta-writer"}, None, "metadata"),
        (set(), reverse_listing, "listing"),
        (set(), one_page_only, "listing"),
        (set(), first_answer_for_ever(), "reading what was written"),
    ],
)
def test_server_that_lacks_something_is_refused_at_start(
    proxy: Proxy, bucket: Bucket, dropped: set[str], rewrite: object, lacking: str
) -> None:
    proxy.dropped, proxy.rewrite = frozenset(dropped), rewrite  # type: ignore[assignment]
    with pytest.raises(FarmUnavailable, match="can't be used as a store") as caught:
        bucket.store(endpoint=proxy.url)
    assert lacking in caught.value.message


def test_probe_leaves_nothing_behind(bucket: Bucket) -> None:
    assert list(bucket.store().list("")) == []


def test_server_that_takes_altered_bodies_is_told_of(
    proxy: Proxy, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.store(endpoint=proxy.url)
    assert "altered" not in caplog.text
    proxy.dropped = frozenset({"x-nothing"})  # signed anew on its way, so that the server can't see it
    bucket.store(endpoint=proxy.url)
    assert "altered" in caplog.text


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (403, "RequestTimeTooSkewed", "clock"),
        (403, "InvalidAccessKeyId", "access key"),
        (403, "SignatureDoesNotMatch", "secret key"),
        (400, "ExpiredToken", "expired"),
        (400, "AuthorizationHeaderMalformed", "region"),
        (403, "AccessDenied", "does not allow"),
        (403, "SomethingElse", "does not allow"),
        (404, "NoSuchBucket", "no bucket"),
        (404, "NoSuchUpload", "404"),
        (404, "", "404"),
        (500, "InternalError", "500"),
        (503, "SlowDown", "503"),
    ],
)
def test_refusal_never_counts_as_absent(proxy: Proxy, bucket: Bucket, status: int, code: str, told: str) -> None:
    store = bucket.store(endpoint=proxy.url, attempts=1)
    proxy.answer = (status, code)
    operations: list[Callable[[], object]] = [
        lambda: store.get("key"),
        lambda: store.open("key"),
        lambda: store.size("key"),
        lambda: store.put("key", b""),
        lambda: store.put_new("key", b""),
        lambda: store.replace("key", b"", '"tag"'),
        lambda: list(store.list("folder/")),
        lambda: store.delete("key"),
    ]
    for operation in operations:
        with pytest.raises(FarmUnavailable) as caught:
            operation()
        assert told in caught.value.message
        assert caught.value.hint
        assert "secret-in-a-message" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
        (SSLError(endpoint_url="https://s3", error="self-signed"), "WHEELFARM_S3_CA"),
        (ReadTimeoutError(endpoint_url="https://s3"), "run the command again"),
        (EndpointConnectionError(endpoint_url="https://s3"), "run the command again"),
    ],
)
def test_server_that_is_not_reached_is_unavailable(error: Exception, hint: str) -> None:
    with pytest.raises(FarmUnavailable) as caught, reported("bucket", "https://key:secret@s3:9000"):
        raise error
    assert hint in caught.value.hint
    assert "secret" not in caught.value.message


def test_wrong_secret_bucket_and_port_are_told_and_no_secret_is(
    bucket: Bucket, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FarmUnavailable, match="There is no bucket elsewhere at 127"):
        Bucket(name="elsewhere", endpoint=gateway.url).store(attempts=1)
    with pytest.raises(FarmUnavailable, match="can't be reached"):
        bucket.store(endpoint="http://127.0.0.1:9", attempts=1)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another-secret")
    with pytest.raises(FarmUnavailable, match="secret key is not that") as caught:
        bucket.store(attempts=1)
    assert "another-secret" not in str(caught.value.to_json()) + str(caught.value.__cause__)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(FarmUnavailable, match="no credentials"):
        bucket.store(attempts=1)
    assert SECRET_KEY not in str(caught.value.to_json())


def test_write_whose_answer_was_lost_is_told_from_a_race_that_was(proxy: Proxy, bucket: Bucket) -> None:
    store = bucket.store(endpoint=proxy.url)
    lost = {"PUT": 1}
    proxy.fault = lambda seen: Fault.LOSE_ANSWER if lost.pop(seen.method, 0) else None
    assert store.put_new("key", b"first")
    lost["PUT"] = 1
    assert not store.put_new("key", b"second")
    found = store.get_with_etag("key")
    assert found is not None
    lost["PUT"] = 1
    assert store.replace("key", b"second", found[1])
    assert store.get("key") == b"second"
    assert proxy.faults == {Fault.LOSE_ANSWER: 3}


@pytest.mark.parametrize("fault", list(Fault))
def test_every_operation_survives_a_fault(proxy: Proxy, bucket: Bucket, tmp_path: Path, fault: Fault) -> None:
    store = bucket.store(endpoint=proxy.url)
    data = random.Random(1).randbytes(200_000)
    (tmp_path / "file").write_bytes(data)
    begun = len(proxy.seen)
    proxy.fault = lambda seen: fault if (seen.number - begun) % 3 == 0 else None
    store.put("a", data)
    store.put_file("b", tmp_path / "file")
    assert store.put_new("c", data)
    file = store.open("b")
    assert file is not None
    with file:
        assert file.read() == data
    assert (store.get("a"), store.get("c"), store.size("b")) == (data, data, len(data))
    assert list(store.list("")) == ["a", "b", "c"]
    store.delete("a")
    assert store.get("a") is None
    assert proxy.faults[fault] >= 3


def test_large_file_goes_in_pieces_and_a_piece_that_fails_is_sent_again(
    proxy: Proxy, bucket: Bucket, tmp_path: Path
) -> None:
    store = bucket.store(endpoint=proxy.url)
    data = random.Random(2).randbytes(40 << 20)
    (tmp_path / "file").write_bytes(data)
    pieces: list[str] = []

    def fail_second(seen: Seen) -> Fault | None:
        pieces.extend(re.findall(r"partNumber=(\d)", seen.path))
        return Fault.CUT_REQUEST if pieces.count("2") == 1 and "partNumber=2" in seen.path else None

    proxy.fault = fail_second
    store.put_file("large", tmp_path / "file")
    assert store.size("large") == len(data)
    file = store.open("large")
    assert file is not None
    with file:
        assert file.read() == data
    assert sorted(pieces) == ["1", "2", "2", "3"]


def test_upload_that_nobody_ended_is_swept(bucket: Bucket) -> None:
    store = bucket.store()
    bucket.client.create_multipart_upload(Bucket=bucket.name, Key="some/prefix/large")
    assert store.sweep(store.now() - 3600) == 0
    assert store.sweep(store.now() + 3600) == 1
    assert store.sweep(store.now() + 3600) == 0


def test_object_that_changed_in_the_bucket_is_not_believed(bucket: Bucket) -> None:
    store = bucket.store()
    store.put("manifests/a.json", b'{"wheel": 1}')
    bucket.client.put_object(
        Bucket=bucket.name, Key="some/prefix/manifests/a.json", Body=b"{}", Metadata={"sha256": "0" * 64}
    )
    with pytest.raises(CorruptObject, match=r"manifests/a\.json"):
        store.get("manifests/a.json")


@pytest.mark.parametrize(
    ("processes", "share"),
    [(4, 0.1), pytest.param(16, 0.1, marks=pytest.mark.slow), pytest.param(16, 0.0, marks=pytest.mark.slow)],
)
def test_processes_that_publish_through_faults_lose_no_entry(
    proxy: Proxy, bucket: Bucket, processes: int, share: float
) -> None:
    """Of processes with ten wheels each, of one project, each is on its pages, whatever that share of requests met."""
    chance = random.Random(7)
    faults = list(Fault) if share else []
    proxy.fault = lambda seen: chance.choice(faults) if chance.random() < share else None
    argv = [sys.executable, "-m", "tests.support.publisher", proxy.url, bucket.name]
    root = Path(__file__).parents[2]
    running = [
        subprocess.Popen([*argv, str(major), "10"], cwd=root, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
        for major in range(processes)
    ]
    told = [process.communicate(timeout=600)[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * processes
    published = sorted(version for one in told for version in one)
    assert len(published) == 10 * processes

    store = bucket.store()
    filenames = sorted(wheel_of(version)[0].filename for version in published)
    WheelIndex(store).pages.render_stale()
    for page in (layout.project_page(TARGET, PROJECT), layout.flat_page(TARGET, "json")):
        told = json.loads(store.get(page) or b"")
        text = (store.get(page.replace("json", "html")) or b"").decode()
        assert [file["filename"] for file in told["files"]] == filenames
        assert re.findall(r">([^<>]+\.whl)<", text) == filenames
    assert sorted(entry.wheel.version for entry in WheelIndex(store).entries(TARGET)) == published
    for version in published:
        wheel, data = wheel_of(version)
        assert store.get(layout.wheel(wheel.sha256, wheel.filename)) == data
    assert set(proxy.faults) == set(faults)
