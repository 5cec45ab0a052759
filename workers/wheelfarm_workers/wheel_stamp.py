"""Stamping: a farm wheel carries a build tag, in its name and in its WHEEL file, so that no file name is ever reused.

The stamped wheel is a function of the unstamped bytes and the tag: entries keep their order, times and modes.
"""

import base64
import csv
import hashlib
import io
import os
import re
import struct
import zipfile
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO


def stamp(wheel: Path, build_tag: int, stamped: Path) -> None:
    """Write a checked wheel anew with `Build: <tag>` in its WHEEL file (PEP 427) and its RECORD made to agree.

    All other entries are copied as they are packed, for the check has read each and compared its two headers.
    """
    with ExitStack() as files:
        file = files.enter_context(wheel.open("rb"))
        source = files.enter_context(zipfile.ZipFile(file))
        target = files.enter_context(stamped.open("wb"))
        copy = files.enter_context(zipfile.ZipFile(target, "w"))
        entries = [info for info in source.infolist() if not info.is_dir()]
        marker = next(info.filename for info in entries if re.fullmatch(r"[^/]+\.dist-info/WHEEL", info.filename))
        record = marker.removesuffix("WHEEL") + "RECORD"
        text = _with_build(source.read(marker), build_tag)
        replaced = {marker: text, record: _with_record(source.read(record), marker, text)}
        for info in entries:
            if (data := replaced.get(info.filename)) is not None:
                copy.writestr(_like(info), data)
            else:
                _copy_packed(info, file, target, copy)


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
    return copied


def _copy_packed(info: zipfile.ZipInfo, file: BinaryIO, target: BinaryIO, copy: zipfile.ZipFile) -> None:
    """Append an entry without unpacking it, which `zipfile` has no method for: packing it again would take most of the
    time that it takes to publish a wheel."""
    copied = _like(info)
    copied.CRC, copied.file_size, copied.compress_size = info.CRC, info.file_size, info.compress_size
    copied.header_offset = copy.start_dir
    file.seek(info.header_offset)
    file.seek(sum(struct.unpack("<26xHH", file.read(30))), os.SEEK_CUR)
    target.seek(copy.start_dir)
    target.write(copied.FileHeader())
    left = info.compress_size
    while chunk := file.read(min(left, 1 << 20)):
        target.write(chunk)
        left -= len(chunk)
    copy.start_dir = target.tell()
    copy.filelist.append(copied)
    copy.NameToInfo[copied.filename] = copied
