"""A process that publishes wheels into a bucket: `python -m tests.support.publisher ENDPOINT BUCKET NAME COUNT`."""

import hashlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.s3 import Bucket
from wheelfarm.wheel import BuiltWheel
from wheelfarm_services.store import CheckedStore
from wheelfarm_services.wheel_index import Manifest, WheelIndex, build_key

TARGET = "host-test"


def wheel_of(name: str) -> tuple[BuiltWheel, bytes]:
    data = f"the wheel of {name}".encode() * 200
    sha256 = hashlib.sha256(data).hexdigest()
    filename = f"{name}-1.0-1-py3-none-any.whl"
    return BuiltWheel(name=name, version="1.0", filename=filename, sha256=sha256, size=len(data)), data


def publish(index: WheelIndex, name: str, folder: Path) -> None:
    wheel, data = wheel_of(name)
    (folder / name).write_bytes(data)
    metadata = f"Name: {name}\n".encode()
    manifest = Manifest(
        wheel=wheel,
        unstamped_sha256=wheel.sha256,
        metadata_sha256=hashlib.sha256(metadata).hexdigest(),
        requires_python="",
        target=TARGET,
        provenance={},
    )
    index.publish(build_key(name=name), manifest, folder / name, metadata)


def main() -> None:
    endpoint, bucket, name, count = sys.argv[1:]
    index = WheelIndex(CheckedStore(Bucket(name=bucket, endpoint=endpoint).store()))
    with TemporaryDirectory() as folder:
        for number in range(int(count)):
            publish(index, f"{name}-{number}", Path(folder))
            print(f"{name}-{number}", flush=True)


if __name__ == "__main__":
    main()
