"""A process that publishes wheels of one project: `python -m tests.support.publisher ENDPOINT BUCKET MAJOR COUNT`, of
the versions MAJOR.0, MAJOR.1 and so on."""

import hashlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.s3 import Bucket
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.store import CheckedStore
from wheelfarm_services.wheel_index import Manifest, WheelIndex, build_key

TARGET = "host-test"
PROJECT = "app"


def wheel_of(version: str) -> tuple[BuiltWheel, bytes]:
    data = f"the wheel of {version}".encode() * 200
    sha256 = hashlib.sha256(data).hexdigest()
    filename = f"{PROJECT}-{version}-1-py3-none-any.whl"
    return BuiltWheel(name=PROJECT, version=version, filename=filename, sha256=sha256, size=len(data)), data


def publish(index: WheelIndex, version: str, folder: Path) -> None:
    wheel, data = wheel_of(version)
    (folder / version).write_bytes(data)
    metadata = f"Version: {version}\n".encode()
    manifest = Manifest(
        wheel=wheel,
        unstamped_sha256=wheel.sha256,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        requires_python="",
        target=TARGET,
        provenance={},
    )
    index.publish(build_key(version=version), manifest, folder / version, metadata)


def main() -> None:
    endpoint, bucket, major, count = sys.argv[1:]
    index = WheelIndex(CheckedStore(Bucket(name=bucket, endpoint=endpoint).store()))
    with TemporaryDirectory() as folder:
        for number in range(int(count)):
            publish(index, f"{major}.{number}", Path(folder))
            print(f"{major}.{number}", flush=True)


if __name__ == "__main__":
    main()
