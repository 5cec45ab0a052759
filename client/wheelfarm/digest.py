"""Digests of values: the identity of everything the farm coalesces or keeps."""

import hashlib
import json
import re
from pathlib import Path

SHA256 = re.compile(r"[0-9a-f]{64}")


def digest_of(value: object) -> str:
    """The sha256, in lower-case hex, of a value's canonical JSON (sorted keys, no spaces, UTF-8).

    `value` is made of dicts, lists, tuples, strings, integers, booleans and None; tuples count as lists.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of_bytes(data: bytes) -> str:
    """The sha256 of these bytes, in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file's bytes, in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
