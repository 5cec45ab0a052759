"""A store in a bucket of S3 or of a server that speaks S3, by boto3.

Conditions stand on small objects only, so that multipart uploads need none. Nothing is believed that the server need
not keep: every object bears its sha256, which is compared on reading, and every condition its writer's mark, so that a
write whose answer was lost is told from one that lost a race.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import HTTPClientError, IncompleteReadError

from wheelfarm.errors import CorruptObject, FarmUnavailable
from wheelfarm.settings import Settings
from wheelfarm_services import layout
from wheelfarm_services.store.protocol import StoredObject, require_key
from wheelfarm_services.store.s3_errors import code_of, condition_failed, may_pass, reported, unavailable

_BROKEN_READS = (HTTPClientError, IncompleteReadError)
_PIECES = TransferConfig(multipart_threshold=32 << 20, multipart_chunksize=16 << 20, max_concurrency=4)
_FRESH_S = 3600.0
"""Objects younger than this need not be put again to count as new."""


def open_bucket(settings: Settings, *, attempts: int = 6) -> "S3Store":
    """The bucket's store, once it has been probed; a request is tried `attempts` times.

    Raises FarmUnavailable with what is wrong.
    """
    from wheelfarm_services.store.probe import probe

    parts = urlsplit(settings.store)
    with reported(parts.netloc, settings.s3_endpoint):
        session = boto3.Session()
        client, once = (s3_client(session, settings, attempts=number) for number in (attempts, 1))
    return probe(S3Store(client, parts.netloc, parts.path.strip("/"), once=once, attempts=attempts))


def s3_client(session: Any, settings: Settings, *, attempts: int) -> Any:
    """boto3's client, with credentials by its own chain (environment, profile, instance or web identity).

    Tries go by botocore's `standard` mode: after SlowDown and other 5xx answers, timeouts and cut connections, with a
    back-off of up to 20 s with jitter, and a quota that ends them in a long outage. Bodies are signed, so that
    a server refuses what changed on its way there; checksum trailers, which older ones store as content, are not sent.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=32,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": settings.s3_addressing, "payload_signing_enabled": True},
    )
    region = settings.s3_region or session.region_name or ("us-east-1" if settings.s3_endpoint else None)
    return session.client(
        "s3",
        endpoint_url=settings.s3_endpoint or None,
        region_name=region,
        verify=str(settings.s3_ca) if settings.s3_ca.name else None,
        config=config,
    )


class S3Store:
    """Objects of one bucket below a prefix. `once` is a client that does not repeat requests by itself.

    `bare_tags`: the server wants `If-Match` without quotes, as Ceph's releases before 18 do.
    """

    def __init__(
        self, client: Any, bucket: str, prefix: str = "", *, once: Any, attempts: int = 6, bare_tags: bool = False
    ) -> None:
        self.client = client
        self._attempts = attempts
        self._once = once
        self.bucket = bucket
        self.prefix = f"{prefix}/" if prefix else ""
        self.bare_tags = bare_tags

    def get(self, key: str) -> bytes | None:
        found = self.get_with_etag(key)
        return None if found is None else found[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        for _ in self._tries():
            answer = self._fetch(key)
            if answer is None:
                return None
            with suppress(*_BROKEN_READS):
                data = answer["Body"].read()
                self._check(key, answer, hashlib.sha256(data).hexdigest())
                return data, str(answer["ETag"])
        raise self._cut(key)

    def open(self, key: str) -> BinaryIO | None:
        for _ in self._tries():
            answer = self._fetch(key)
            if answer is None:
                return None
            file = TemporaryFile()  # noqa: SIM115  (it is handed on)
            try:
                with suppress(*_BROKEN_READS):
                    for chunk in answer["Body"].iter_chunks(1 << 20):
                        file.write(chunk)
                    file.seek(0)
                    return file
            except BaseException:
                file.close()
                raise
            file.close()
        raise self._cut(key)

    def size(self, key: str) -> int | None:
        found = self._head(key)
        return None if found is None else found[0].size

    def watch(self, key: str) -> Callable[[], bool] | None:
        require_key(key)
        return None  # a bucket has to be asked, which takes as long as reading

    def put(self, key: str, data: bytes) -> None:
        self._put(self.client, key, data)

    def put_file(self, key: str, path: Path) -> None:
        if not self.renew(key):
            with self._reported(key), path.open("rb") as file:
                self.client.upload_fileobj(file, self.bucket, self._name(key), layout.http_headers(key), Config=_PIECES)

    def renew(self, key: str) -> bool:
        found = self._head(key)
        if found is not None and found[0].modified_at < found[1] - _FRESH_S:
            self._copy(key, key)
        return found is not None

    def put_new(self, key: str, data: bytes) -> bool:
        return self._put_if(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes, etag: str | None) -> bool:
        if etag is None:
            return self.put_new(key, data)
        return self._put_if(key, data, IfMatch=etag.strip('"') if self.bare_tags else etag)

    def list(self, prefix: str) -> Iterator[str]:
        return (found.key for found in self.objects(prefix))

    def objects(self, prefix: str, *, page: int = 1000) -> Iterator[StoredObject]:
        if prefix:
            require_key(prefix.rstrip("/"))
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + prefix, PaginationConfig={"PageSize": page}
        )
        with self._reported(prefix):
            for found in (one for answer in pages for one in answer.get("Contents", ())):
                yield StoredObject(
                    key=found["Key"].removeprefix(self.prefix),
                    size=found["Size"],
                    modified_at=found["LastModified"].timestamp(),
                )

    def delete(self, key: str) -> None:
        with self._reported(key):
            self.client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def delete_older(self, key: str, than: float) -> bool:
        found = self._head(key)
        if found is None or found[0].modified_at >= than:
            return False
        self.delete(key)
        return True

    def move(self, key: str, to: str) -> None:
        if self._head(key) is not None:
            self._copy(key, to)
            self.delete(key)

    def sweep(self, before: float) -> int:
        removed = 0
        with self._reported(""):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=self.prefix)
            for upload in [one for answer in pages for one in answer.get("Uploads", ())]:
                if upload["Initiated"].timestamp() < before:
                    with suppress(self.client.exceptions.NoSuchUpload):
                        self.client.abort_multipart_upload(
                            Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        removed += 1
        return removed

    def now(self) -> float:
        with self._reported(""):
            answer = self.client.head_bucket(Bucket=self.bucket)
        return _date(answer)

    def _name(self, key: str) -> str:
        return self.prefix + require_key(key)

    def _fetch(self, key: str, **how: str) -> Any:
        """What a GET answers, or None where there is no such key: 404 alone, of an answer cut short, won't do."""
        failed: FarmUnavailable | None = None
        for _ in self._tries():
            try:
                with self._reported(key), suppress(self.client.exceptions.NoSuchKey):
                    return self.client.get_object(Bucket=self.bucket, Key=self._name(key), **how)
                return None
            except FarmUnavailable as error:
                if code_of(error.__cause__) != "404":
                    raise
                failed = error
        raise failed or self._cut(key)

    def _head(self, key: str) -> tuple[StoredObject, float] | None:
        """The object's facts and the server's time, by a GET of one byte: a HEAD's 404 may be that of the
        bucket."""
        try:
            answer = self._fetch(key, Range="bytes=0-0")
        except FarmUnavailable as error:
            if error.__cause__ is None or code_of(error.__cause__) not in ("InvalidRange", "416"):
                raise
            answer = self._fetch(key)  # it is empty
        if answer is None:
            return None
        with suppress(*_BROKEN_READS):
            answer["Body"].read()  # one byte, and the connection can be used again
        size = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else answer["ContentLength"]
        return StoredObject(key=key, size=size, modified_at=answer["LastModified"].timestamp()), _date(answer)

    def _put(self, client: Any, key: str, data: bytes, **more: Any) -> None:
        metadata = {"sha256": hashlib.sha256(data).hexdigest(), **more.pop("Metadata", {})}
        headers = layout.http_headers(key)
        with self._reported(key):
            client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data, Metadata=metadata, **headers, **more)

    def _put_if(self, key: str, data: bytes, **condition: str) -> bool:
        """Write under a condition. What botocore would repeat is repeated here, for a second try may fail for no other
        reason than that the first was made and its answer lost: the mark of the writer tells."""
        writer = uuid4().hex
        failed: FarmUnavailable | None = None
        for _ in self._tries():
            try:
                self._put(self._once, key, data, Metadata={"writer": writer}, **condition)
                return True
            except FarmUnavailable as error:
                if condition_failed(error.__cause__):
                    return failed is not None and self._is_mine(key, writer)
                if not may_pass(error.__cause__):
                    raise
                failed = error
        raise failed or self._cut(key)

    def _is_mine(self, key: str, writer: str) -> bool:
        """Whether an earlier try, of which the answer was lost, has written the object."""
        answer = self._fetch(key)
        if answer is None:
            return False
        answer["Body"].close()
        return bool(answer["Metadata"].get("writer") == writer)

    def _copy(self, key: str, to: str) -> None:
        """Write the object anew, under its own or another key. Raises nothing where it vanished meanwhile."""
        source = {"Bucket": self.bucket, "Key": self._name(key)}
        headers = layout.http_headers(to)
        with self._reported(key), suppress(self.client.exceptions.NoSuchKey):
            self.client.copy_object(
                Bucket=self.bucket, Key=self._name(to), CopySource=source, MetadataDirective="REPLACE", **headers
            )

    def _check(self, key: str, answer: Any, sha256: str) -> None:
        """Raise CorruptObject where the bytes have another sha256 than the object bears."""
        told = answer["Metadata"].get("sha256", sha256)
        if told != sha256:
            raise CorruptObject(
                f"The object {key!r} in the bucket {self.bucket} has sha256 {sha256}, but {told} was put there.",
                hint="Restore it from a backup, or remove it: what the farm can make anew it makes anew.",
            )

    def _tries(self) -> Iterator[None]:
        """A turn for each try; six take some five seconds, with jitter."""
        for number in range(self._attempts):
            if number:
                time.sleep(0.1 * 2**number * random.uniform(0.5, 1.0))  # noqa: S311  (no secret)
            yield

    def _cut(self, key: str) -> FarmUnavailable:
        return unavailable(f"The bucket {self.bucket} sent {key!r} cut short {self._attempts} times.")

    def _reported(self, key: str) -> Any:
        return reported(self.bucket, self.client.meta.endpoint_url, key)


def _date(answer: Any) -> float:
    """When the server answered, by its own clock."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
