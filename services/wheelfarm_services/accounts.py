"""Accounts: what the source index could not give one resolution, kept for a while under the resolution's id."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal, Protocol

from redis import Redis

from wheelfarm.errors import WheelfarmError
from wheelfarm.job import Sdist
from wheelfarm_services.upstreams import ProjectPage

_TTL_S = 900
Kind = Literal["pending", "unknown", "page", "error"]


class PageSource(Protocol):
    def page(self, name: str) -> ProjectPage | None: ...


class Accounts:
    """Notes in Redis, so that any replica of the API can tell what any other answered."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def pending(self, resolution_id: str, sdist: Sdist) -> None:
        """The metadata of `sdist` has yet to be computed."""
        self._note(resolution_id, "pending", asdict(sdist))

    def unknown(self, resolution_id: str, name: str) -> None:
        """Upstream has no project of that name."""
        self._note(resolution_id, "unknown", name)

    def page(self, resolution_id: str, name: str) -> None:
        """The project's page was given, and there is more to it than its sdists."""
        self._note(resolution_id, "page", name)

    def error(self, resolution_id: str, error: WheelfarmError) -> None:
        """Something ended the resolution."""
        self._note(resolution_id, "error", error.to_json())

    def see_local(self, resolution_id: str, sdists: Sequence[Sdist]) -> None:
        """From now on, the resolution sees of these sdists' projects nothing but these local sdists."""
        value = json.dumps({sdist.name: asdict(sdist) for sdist in sdists})
        self._redis.set(f"{_key(resolution_id)}:local", value, ex=_TTL_S)

    def local(self, resolution_id: str, name: str) -> Sdist | None:
        """The local sdist that a resolution sees of a project."""
        data = self._redis.get(f"{_key(resolution_id)}:local")
        value = json.loads(data).get(name) if isinstance(data, bytes | str) else None
        return None if value is None else Sdist.from_json(value)

    def read(self, resolution_id: str, pages: PageSource) -> dict[str, object]:
        """The account, as `wheelfarm.resolution.Account.from_json` reads it."""
        notes = [json.loads(note) for note in self._redis.lrange(_key(resolution_id), 0, -1)]
        listed = [page for kind, name in notes if kind == "page" and (page := pages.page(name)) is not None]
        return {
            "pending": _distinct([value for kind, value in notes if kind == "pending"]),
            "unknown": sorted({value for kind, value in notes if kind == "unknown"}),
            "without_sdist": {page.name: page.without_sdist for page in listed},
            "with_sdist": {page.name: _versions(page) for page in listed},
            "refused": {page.name: page.refused for page in listed if page.refused},
            "remarks": sorted({remark for page in listed for remark in page.remarks}),
            "errors": [value for kind, value in notes if kind == "error"],
        }

    def _note(self, resolution_id: str, kind: Kind, value: object) -> None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.rpush(_key(resolution_id), json.dumps([kind, value]))
            pipe.ltrim(_key(resolution_id), 0, 4999)
            pipe.expire(_key(resolution_id), _TTL_S)
            pipe.execute()


def _versions(page: ProjectPage) -> list[str]:
    return [listed.sdist.version for listed in (*page.sdists, *page.prebuilt)]


def _key(resolution_id: str) -> str:
    return f"{{wheelfarm}}:account:{resolution_id}"


def _distinct(values: list[Mapping[str, str]]) -> list[Mapping[str, str]]:
    return list({value["sha256"]: value for value in values}.values())
