"""The interpreters in the store: archives by their digests, and a record of each by its build and file name."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wheelfarm.digest import sha256_of_file
from wheelfarm.errors import BadInterpreterArchive, Conflict, HashMismatch, NotFound
from wheelfarm.interpreter import Interpreter, parsed_key
from wheelfarm.interpreter_archive import examine
from wheelfarm_services import layout
from wheelfarm_services.store import Store

_READERS = 8


class InterpreterShelf:
    """Keeps Python distributions. A file name of a build has one content, until it is removed."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, path: Path, *, key: str, build: str, filename: str, sha256: str, source: str) -> Interpreter:
        """Keep an archive. Safe to repeat.

        Raises HashMismatch, BadInterpreterArchive for one that uv would refuse, that is unsafe to unpack or that holds
        another version than its key says, and Conflict where the file name of that build is another archive's.
        """
        parsed_key(key)
        if (found := sha256_of_file(path)) != sha256:
            raise HashMismatch(f"{filename} came with sha256 {found}, not {sha256}.", hint="Nothing was kept.")
        contents = examine(path, filename)
        interpreter = Interpreter(
            key=key,
            build=build,
            filename=filename,
            sha256=sha256,
            size=path.stat().st_size,
            root=contents.root,
            prefix=contents.prefix,
            source=source,
        )
        _require_version(interpreter, contents.version)
        self._store.put_file(layout.interpreter_archive(sha256), path)
        return self._record(interpreter)

    def all(self) -> list[Interpreter]:
        """Every one, sorted by key, of a key the newest build first."""
        return self._under(layout.interpreters())

    def of_build(self, build: str) -> list[Interpreter]:
        """Those of one build."""
        return self._under(layout.interpreters_of_build(build))

    def find(self, build: str, filename: str) -> Interpreter:
        """The one whose archive has this name. Raises NotFound."""
        data = self._store.get(layout.interpreter(build, filename))
        if data is None:
            raise NotFound(f"The farm keeps no {filename} of a build {build}.", hint="wheelfarm python list")
        return Interpreter.from_json(json.loads(data))

    def remove(self, build: str, filename: str) -> Interpreter:
        """Give one no more; its archive goes with the garbage, once nothing names it. Raises NotFound."""
        found = self.find(build, filename)
        self._store.delete(layout.interpreter(build, filename))
        return found

    def _record(self, interpreter: Interpreter) -> Interpreter:
        key = layout.interpreter(interpreter.build, interpreter.filename)
        if self._store.put_new(key, json.dumps(interpreter.to_json()).encode()):
            return interpreter
        kept = self.find(interpreter.build, interpreter.filename)
        if (kept.sha256, kept.key) != (interpreter.sha256, interpreter.key):
            raise Conflict(
                f"{interpreter.filename} of build {interpreter.build} is {kept.key} with sha256 {kept.sha256} here.",
                hint="Give what was built anew another build. Or remove that one first: wheelfarm python remove",
            )
        return kept

    def _under(self, prefix: str) -> list[Interpreter]:
        with ThreadPoolExecutor(_READERS) as pool:  # a bucket takes its time for each
            texts = list(pool.map(self._store.get, self._store.list(prefix)))
        found = [Interpreter.from_json(json.loads(text)) for text in texts if text is not None]
        return sorted(found, key=lambda one: (one.key, one.preference))


def _require_version(interpreter: Interpreter, version: str) -> None:
    """Raise BadInterpreterArchive where the archive's header states another version than the key; only CPython's header
    states the version that is meant."""
    parts = interpreter.parts
    wanted = parts["version"] + parts["prerelease"]
    if parts["name"] == "cpython" and version and version != wanted:
        raise BadInterpreterArchive(
            f"{interpreter.filename} holds Python {version}, and its key {interpreter.key} says {wanted}.",
            hint="Give the key that it has: --key",
        )
