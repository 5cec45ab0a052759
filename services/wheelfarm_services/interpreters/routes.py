"""The API's part for interpreters: archives as a mirror lays them out, uv's lists of them, taking and removing."""

import hashlib
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.digest import SHA256
from wheelfarm.errors import NotFound
from wheelfarm.interpreter import ARCHIVE_NAME, BUILD, KEY_FORM, Interpreter
from wheelfarm.interpreter_archive import MOST_BYTES
from wheelfarm.token_file import Scope
from wheelfarm_services import layout
from wheelfarm_services.interpreters.downloads import render_downloads
from wheelfarm_services.interpreters.shelf import InterpreterShelf
from wheelfarm_services.operation import BYTES, JSON, Answer, Operation, Parameter
from wheelfarm_services.received_file import receive_file
from wheelfarm_services.scratch import scratch_folder
from wheelfarm_services.store import Store
from wheelfarm_services.stored_file import stored_file

_BUILD = Parameter(name="build", told="A build, such as 20261120.", form=BUILD.pattern)
_FILENAME = Parameter(name="filename", told="The archive's file name.", form=ARCHIVE_NAME.pattern)
_SHA256 = Parameter(
    name="sha256", told="What the archive's sha256 was told to be.", form=SHA256.pattern, place="query", required=True
)
_KEY = Parameter(
    name="key",
    told="What uv calls it: cpython-3.12.1-linux-x86_64-gnu.",
    form=KEY_FORM,
    place="query",
    required=True,
)

_SOURCE = Parameter(name="source", told="Where it came from.", form="[^\\x00-\\x20\\x7f]{0,2000}", place="query")
_REVALIDATED = {"Cache-Control": "no-cache"}
"""An archive may be removed, and another one be given its name."""


def interpreter_operations(store: Store, *, most_bytes: int = MOST_BYTES) -> list[Operation]:
    """`/pythons/BUILD/FILENAME` for the archives, so that `/pythons` is the base of a mirror, and the lists of them."""
    endpoints = _Endpoints(store, most_bytes)
    cached = {"Cache-Control": "How long it may be kept.", "ETag": "Its digest."}
    listed = {
        200: Answer(told="uv's list: entries by key.", shape=dict[str, dict[str, Any]], headers=cached),
        304: Answer(told="It is still what it was."),
    }
    conditional = Parameter(name="If-None-Match", told="The ETag of what is known.", place="header")
    return [
        Operation(
            name="pythons",
            path="/pythons",
            endpoint=endpoints.list_all,
            told="Every Python distribution that the farm keeps.",
            answers={200: Answer(told="By key, of each the newest build first.", shape=list[Interpreter])},
        ),
        Operation(
            name="pythonDownloads",
            path="/pythons/downloads.json",
            endpoint=endpoints.downloads,
            told="The newest build of each key, for UV_PYTHON_DOWNLOADS_JSON_URL.",
            parameters=(conditional,),
            answers=listed,
        ),
        Operation(
            name="pythonDownloadsOfBuild",
            path="/pythons/{build}/downloads.json",
            endpoint=endpoints.downloads,
            told="What there is of one build, for UV_PYTHON_DOWNLOADS_JSON_URL.",
            parameters=(_BUILD, conditional),
            answers=listed,
            errors=(404,),
        ),
        Operation(
            name="pythonArchive",
            path="/pythons/{build}/{filename}",
            endpoint=endpoints.archive,
            told="An archive, where UV_PYTHON_INSTALL_MIRROR leads to if it is the farm's /pythons.",
            parameters=(_BUILD, _FILENAME),
            answers={
                200: Answer(told="The archive.", media=(BYTES,), headers=cached),
                206: Answer(told="The range of it that was asked for.", media=(BYTES,), headers=cached),
            },
            errors=(404, 416),
        ),
        Operation(
            name="keepPython",
            method="PUT",
            path="/pythons/{build}/{filename}",
            endpoint=endpoints.keep,
            told="Bring in an archive.",
            scope=Scope.ADMIN,
            parameters=(_BUILD, _FILENAME, _SHA256, _KEY, _SOURCE),
            body=BYTES,
            answers={200: Answer(told="It is kept.", shape=Interpreter)},
            errors=(409, 422),
        ),
        Operation(
            name="removePython",
            method="DELETE",
            path="/pythons/{build}/{filename}",
            endpoint=endpoints.remove,
            told="Give an archive no more.",
            scope=Scope.ADMIN,
            parameters=(_BUILD, _FILENAME),
            answers={200: Answer(told="What it was.", shape=Interpreter)},
            errors=(404,),
        ),
    ]


class _Endpoints:
    def __init__(self, store: Store, most_bytes: int) -> None:
        self._store = store
        self._shelf = InterpreterShelf(store)
        self._most_bytes = most_bytes

    def list_all(self, _: HttpRequest) -> Response:
        return JSONResponse([one.to_json() for one in self._shelf.all()])

    def downloads(self, http: HttpRequest) -> Response:
        build = http.path_params.get("build")
        listed = self._shelf.all() if build is None else self._shelf.of_build(build)
        if build is not None and not listed:
            raise NotFound(f"The farm keeps no Python of a build {build}.", hint="wheelfarm python list")
        body = render_downloads(listed, f"{http.base_url}pythons/")
        headers = {**_REVALIDATED, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        if http.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=JSON, headers=headers)

    def archive(self, http: HttpRequest) -> Response:
        found = self._shelf.find(http.path_params["build"], http.path_params["filename"])
        return stored_file(http, self._store, layout.interpreter_archive(found.sha256), _REVALIDATED)

    async def keep(self, http: HttpRequest) -> Response:
        with scratch_folder("python") as folder:
            path = folder / "archive"
            await receive_file(http, path, self._most_bytes)
            kept = await run_in_threadpool(
                self._shelf.take,
                path,
                key=http.query_params["key"],
                build=http.path_params["build"],
                filename=http.path_params["filename"],
                sha256=http.query_params["sha256"],
                source=http.query_params.get("source", ""),
            )
        return JSONResponse(kept.to_json())

    def remove(self, http: HttpRequest) -> Response:
        removed = self._shelf.remove(http.path_params["build"], http.path_params["filename"])
        return JSONResponse(removed.to_json())
