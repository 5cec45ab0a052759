"""uv's list of Python distributions (UV_PYTHON_DOWNLOADS_JSON_URL), made of what the farm keeps.

The form is the one that uv 0.9 to 0.13 read; it has no other description than uv's own reader.
"""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from wheelfarm.interpreter import Interpreter, arch_of, newest_by_key


def render_downloads(interpreters: Iterable[Interpreter], base_url: str) -> bytes:
    """The list, one entry a key, that of the newest build: of two uv takes any. `base_url` is that of the archives, for
    uv takes no relative ones."""
    listed = {key: _entry(one, base_url) for key, one in newest_by_key(interpreters).items()}
    return json.dumps(listed, indent=1, sort_keys=True).encode()


def _entry(interpreter: Interpreter, base_url: str) -> dict[str, Any]:
    parts = interpreter.parts
    major, minor, patch = map(int, parts["version"].split("."))
    family, level = arch_of(parts["arch"])
    return {
        "name": parts["name"],
        "arch": {"family": family, "variant": level},
        "os": parts["os"],
        "libc": parts["libc"],
        "major": major,
        "minor": minor,
        "patch": patch,
        "prerelease": parts["prerelease"],
        "url": f"{base_url}{interpreter.build}/{quote(interpreter.filename)}",
        "sha256": interpreter.sha256,
        "variant": parts["variant"] or None,
        "build": interpreter.build,
    }
