"""Stamping: a farm wheel carries a build tag, in its name and in its WHEEL file, so that no file name is ever reused.

The stamped wheel is a function of the unstamped bytes and the tag: entries keep their order, times and modes.
"""

import base64
import csv
import hashlib
import io
import re
import zipfile
from itertools import takewhile
from pathlib import Path
from typing import IO


def stamp(wheel: Path, build_tag: int, stamped: Path) -> None:
    """Write a checked wheel anew with `Build: <tag>` in its WHEEL file (PEP 427) and its RECORD made to agree."""
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(stamped, "w") as copy:
        entries = [info for info in source.infolist() if not info.is_dir()]
        marker = next(info.filename for info in entries if re.fullmatch(r"[^/]+\.dist-info/WHEEL", info.filename))
        record = marker.removesuffix("WHEEL") + "RECORD"
        text = _with_build(source.read(marker), build_tag)
        replaced = {marker: text, record: _with_record(source.read(record), marker, text)}
        for info in entries:
            data = replaced.get(info.filename)
            with copy.open(_like(info), "w", force_zip64=info.file_size >= 1 << 31) as file:
                file.write(data) if data is not None else _copy(source, info, file)


def _with_build(wheel: bytes, build_tag: int) -> bytes:
    headers = takewhile(bool, re.split(r"\r\n|\r|\n", wheel.decode()))  # a blank line ends them
    lines = [line for line in headers if not line.lower().startswith("build:")]
    first_tag = next(number for number, line in enumerate(lines) if line.lower().startswith("tag:"))
    lines.insert(first_tag, f"Build: {build_tag}")
    return ("\n".join(lines) + "\n").encode()


def _with_record(record: bytes, path: str, content: bytes) -> bytes:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in csv.reader(io.StringIO(record.decode())):
        writer.writerow([path, f"sha256={digest}", str(len(content))] if row[0] == path else row)
    return text.getvalue().encode()


def _like(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    copied = zipfile.ZipInfo(info.filename, info.date_time)
    copied.compress_type = info.compress_type
    copied.external_attr = info.external_attr
    copied.create_system = info.create_system
    copied.file_size = info.file_size
    return copied


def _copy(source: zipfile.ZipFile, info: zipfile.ZipInfo, target: IO[bytes]) -> None:
    with source.open(info) as file:
        while chunk := file.read(1 << 20):
            target.write(chunk)
