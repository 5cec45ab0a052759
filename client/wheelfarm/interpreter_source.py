"""Where Python distributions come from: archives, releases as python-build-standalone publishes them, uv's JSON.

All of it is read by whoever brings a distribution in, with what that machine may reach; the farm sees bytes alone.
No archive is taken without a sha256 that was told apart from it: by the operator, a `SHA256SUMS` or `.sha256` beside
it, or the JSON.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from wheelfarm.digest import SHA256
from wheelfarm.errors import HashMismatch, InputError, NotFound, TooLarge
from wheelfarm.given_file import local_path, opened, read_text, without_secrets
from wheelfarm.interpreter import ARCHIVE_NAME, BUILD, Interpreter, named_like_standalone, parsed_key
from wheelfarm.interpreter_archive import MOST_BYTES

_SUMS = "SHA256SUMS"
_SUM_LINE = re.compile(r"([0-9a-f]{64})[ \t]+\*?(\S+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """An archive that can be brought in, and what is told of it; `url` may be a path."""

    url: str
    filename: str
    key: str
    build: str
    sha256: str

    @property
    def told_url(self) -> str:
        """The URL without credentials and query, as it may be kept."""
        return without_secrets(self.url if urlsplit(self.url).scheme else Path(self.url).absolute().as_uri())


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What an operator says of a source: which keys (patterns) of several, and facts that the source doesn't tell."""

    select: tuple[str, ...] = ()
    sha256: str = ""
    key: str = ""
    build: str = ""
    mirror: str = ""


def find_offers(source: str, wanted: Wanted) -> list[Offer]:
    """The archives that a source offers and that are wanted: an archive, a JSON as uv's, or the folder of a release.

    Raises InputError where something that has to be told is not: the sha256, the key, which of several.
    """
    if source.endswith(".json"):
        return _selected(source, _of_json(source, wanted.mirror), wanted)
    if source.endswith("/") or (not urlsplit(source).scheme and Path(source).is_dir()):
        return _selected(source, _of_release(source.rstrip("/") + "/"), wanted)
    return [_of_archive(source, wanted)]


def fetch(offer: Offer, path: Path) -> None:
    """Bring an archive to `path`. Raises HashMismatch where its bytes are not the promised ones."""
    digest = hashlib.sha256()
    with opened(offer.url) as chunks, path.open("wb") as file:
        size = 0
        for chunk in chunks:
            size += len(chunk)
            if size > MOST_BYTES:
                raise TooLarge(f"{offer.filename} is larger than {MOST_BYTES >> 20} MiB.")
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != offer.sha256:
        raise HashMismatch(
            f"{offer.told_url} has sha256 {digest.hexdigest()}, not {offer.sha256}.",
            hint="Nothing was brought in. Find out which of the two is right before trying again.",
        )


def _of_archive(source: str, wanted: Wanted) -> Offer:
    filename = unquote(urlsplit(source).path.rpartition("/")[2])
    if not ARCHIVE_NAME.fullmatch(filename):
        raise InputError(
            f"{filename!r} is no archive that uv installs a Python from: .tar.gz and .tar.zst are.",
            hint="Pack it anew as .tar.gz. A release's folder is named with a / at its end, a list with .json.",
        )
    key, build = named_like_standalone(filename) or ("", "")
    key, build = wanted.key or key, wanted.build or build
    if not key or not build:
        raise InputError(
            f"{filename} does not tell what it is.",
            hint="Give --key, such as cpython-3.12.1-linux-x86_64-gnu, and --build, such as 20261120.",
        )
    return _checked(
        Offer(
            url=source, filename=filename, key=key, build=build, sha256=wanted.sha256 or _sum_beside(source, filename)
        )
    )


def _of_release(folder: str) -> Iterator[Offer]:
    """Of a release's folder, whose SHA256SUMS lists it; of a local tree of releases, those of each."""
    local = local_path(folder)
    if local is not None and not (local / _SUMS).is_file():
        releases = sorted(path.parent for path in local.glob(f"*/{_SUMS}")) if local.is_dir() else []
        if not releases:
            raise InputError(
                f"{folder} has no {_SUMS}, and no release below it has.",
                hint=f"In each release's folder: sha256sum *.tar.* > {_SUMS}",
            )
        for release in releases:
            yield from _of_release(f"{release}/")
        return
    for filename, sha256 in _sums(read_text(urljoin(folder, _SUMS) if local is None else str(local / _SUMS))).items():
        found = named_like_standalone(filename)
        if found:
            url = urljoin(folder, quote(filename)) if local is None else str(local / filename)
            yield Offer(url=url, filename=filename, key=found[0], build=found[1], sha256=sha256)


def _of_json(source: str, mirror: str) -> Iterator[Offer]:
    try:
        listed = json.loads(read_text(source))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is no JSON: {error}.") from error
    if not isinstance(listed, dict) or "version" in listed:
        raise InputError(f"{source} is no list of Python distributions as uv reads it.")
    for entry in listed.values():
        try:
            url = str(entry["url"])
            filename = unquote(urlsplit(url).path.rpartition("/")[2])
            key, build = _key_told(entry), str(entry.get("build") or "")
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"{source} has an entry that is none: {str(entry)[:200]}") from error
        if mirror:
            url = f"{mirror.rstrip('/')}/{'/'.join(urlsplit(url).path.split('/')[-2:])}"
        build = build or (named_like_standalone(filename) or ("", ""))[1]
        yield Offer(url=url, filename=filename, key=key, build=build, sha256=str(entry.get("sha256") or ""))


def _key_told(entry: Mapping[str, Any]) -> str:
    """The key that an entry's fields make, whatever it is listed under."""
    arch, level = entry["arch"]["family"], entry["arch"].get("variant")
    version = ".".join(str(int(entry[part])) for part in ("major", "minor", "patch")) + str(
        entry.get("prerelease") or ""
    )
    variant = f"+{entry['variant']}" if entry.get("variant") else ""
    return f"{entry['name']}-{version}{variant}-{entry['os']}-{arch}{f'_{level}' if level else ''}-{entry['libc']}"


def _selected(source: str, offers: Iterable[Offer], wanted: Wanted) -> list[Offer]:
    """Those whose keys match, one an archive of a key and build: the one that uv prefers."""
    if wanted.sha256 or wanted.key:
        raise InputError("--sha256 and --key tell of one archive, and several are offered.", hint="Give --select.")
    every = list(offers)
    found: dict[tuple[str, str], Offer] = {}
    for offer in every:
        if any(fnmatchcase(offer.key, pattern) for pattern in wanted.select) and wanted.build in ("", offer.build):
            offer = _checked(replace(offer, build=offer.build or wanted.build))
            named = (offer.key, offer.build)
            found[named] = min(found.get(named, offer), offer, key=_preference)
    if not found:
        there = sorted({offer.key for offer in every})
        shown = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
        raise InputError(
            f"{source} offers {shown or 'nothing'}; {'none of it matches' if wanted.select else 'say which of it'}.",
            hint="--select 'cpython-3.12.*-linux-x86_64-gnu' (patterns of keys, may be repeated)",
        )
    return list(found.values())


def _preference(offer: Offer) -> tuple[Any, ...]:
    return _as_kept(offer).preference


def _checked(offer: Offer) -> Offer:
    """The offer, if it is whole. Raises InputError telling what is missing or malformed."""
    if not offer.sha256:
        raise InputError(
            f"Nothing tells the sha256 of {offer.filename}: no archive is taken without.",
            hint=f"Give --sha256, or put a {_SUMS} beside it. uv itself would install it unverified.",
        )
    if not ARCHIVE_NAME.fullmatch(offer.filename):
        raise InputError(
            f"{offer.filename} is no archive that uv installs a Python from: .tar.gz and .tar.zst are.",
            hint="Select another one, or pack it anew.",
        )
    if not BUILD.fullmatch(offer.build):
        raise InputError(f"Nothing tells the build of {offer.filename}.", hint="Give --build, such as 20261120.")
    parsed_key(offer.key)
    return replace(offer, sha256=_as_kept(offer).sha256)


def _as_kept(offer: Offer) -> Interpreter:
    return Interpreter(
        key=offer.key,
        build=offer.build,
        filename=offer.filename,
        sha256=offer.sha256.lower(),
        size=0,
        root="",
        prefix="",
        source=offer.told_url,
    )


def _sum_beside(source: str, filename: str) -> str:
    """What a file beside the archive tells of its sha256; empty where there is none."""
    folder, _, name = source.rpartition("/")
    for beside in (f"{source}.sha256", f"{folder}/{_SUMS}" if folder else _SUMS):
        try:
            text = read_text(beside)
        except NotFound:
            continue
        if SHA256.fullmatch(text.strip()):
            return text.strip()
        if found := _sums(text).get(filename) or _sums(text).get(name):
            return found
    return ""


def _sums(text: str) -> dict[str, str]:
    """Digests by file name, as sha256sum writes them."""
    found = (_SUM_LINE.fullmatch(line.strip()) for line in text.splitlines())
    return {one[2].rpartition("/")[2]: one[1] for one in found if one}


def offers_left(offers: Sequence[Offer], kept: Iterable[Interpreter]) -> list[Offer]:
    """Those that the farm has not got yet, by build, file name and sha256."""
    there = {(one.build, one.filename, one.sha256) for one in kept}
    return [offer for offer in offers if (offer.build, offer.filename, offer.sha256) not in there]
