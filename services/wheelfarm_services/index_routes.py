"""The API's part for installers: the pages of each target's index, flat and by project (PEP 503, 691)."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

from packaging.utils import canonicalize_name
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.errors import NotFound
from wheelfarm.job import PROJECT_NAME
from wheelfarm_services import layout
from wheelfarm_services.access import Principal, principal_of
from wheelfarm_services.answer_memory import Condition, rests_on
from wheelfarm_services.operation import HTML, Answer, Operation, Parameter
from wheelfarm_services.parameters import ANY_TEXT, TARGET
from wheelfarm_services.store import Store
from wheelfarm_services.tenancy import Tenancy, Thing
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_services.wheel_index.filenames import project_of
from wheelfarm_services.wheel_index.negotiation import QUERY_FORM, SIMPLE_HTML, Form, Representation, representation
from wheelfarm_services.wheel_index.page import (
    SIMPLE_JSON,
    Page,
    is_bare,
    root_page,
    to_html,
    to_json,
    with_files,
)

PROJECT = Parameter(name="project", told="The project's name; any other spelling is redirected.", form=ANY_TEXT)
PAGE_PARAMETERS = (
    Parameter(name="format", told="The media type that is wanted, in place of Accept.", form=QUERY_FORM, place="query"),
    Parameter(name="If-None-Match", told="The ETag of the page that is known.", place="header"),
)
PAGE_HEADERS = {
    "Cache-Control": "How long it may be kept.",
    "ETag": "The page's version, for If-None-Match.",
    "Vary": "Which header decided the form.",
}
PAGE_ANSWERS = {
    200: Answer(told="The page.", media=(SIMPLE_JSON, SIMPLE_HTML, HTML), headers=PAGE_HEADERS),
    304: Answer(told="The page that is known is the present one."),
}
MOVED = {301: Answer(told="The name's normal form.", headers={"Location": "Where its page is."})}


def index_operations(store: Store, index: WheelIndex, tenancy: Tenancy) -> list[Operation]:
    """`/flat/TARGET/` and `/simple/TARGET/`, with a page for each project."""
    endpoints = _Endpoints(store=store, index=index, tenancy=tenancy)
    return [
        Operation(
            name="flatPage",
            path="/flat/{target}/",
            endpoint=endpoints.flat,
            told="The wheels of a target, as a page for --find-links.",
            parameters=(TARGET, *PAGE_PARAMETERS),
            answers=PAGE_ANSWERS,
            errors=(404, 406),
        ),
        Operation(
            name="projectList",
            path="/simple/{target}/",
            endpoint=endpoints.root,
            told="The projects that a target has wheels of: an index for installers (PEP 503, 691).",
            parameters=(TARGET, *PAGE_PARAMETERS),
            answers=PAGE_ANSWERS,
            errors=(404, 406),
        ),
        Operation(
            name="projectPage",
            path="/simple/{target}/{project}/",
            endpoint=endpoints.project,
            told="A project's wheels for a target (PEP 503, 691, 592, 658, 700, 714, 792).",
            parameters=(TARGET, PROJECT, *PAGE_PARAMETERS),
            answers={**PAGE_ANSWERS, **MOVED},
            errors=(404, 406),
        ),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Endpoints:
    store: Store
    index: WheelIndex
    tenancy: Tenancy
    rendering: Lock = field(default_factory=Lock)

    def flat(self, http: HttpRequest) -> Response:
        target = http.path_params["target"]
        self._refresh(target)
        key, missing = partial(layout.flat_page, target), f"Nothing has been built for {target!r}."
        return self._answer(http, key, missing, self._is_fresh(target))

    def root(self, http: HttpRequest) -> Response:
        target = http.path_params["target"]
        self._refresh(target)
        key = layout.root_page if principal_of(http).sees_all else layout.flat_page
        missing = f"Nothing has been built for {target!r}."
        return self._answer(http, partial(key, target), missing, self._is_fresh(target), view=_as_root)

    def project(self, http: HttpRequest) -> Response:
        target, asked = http.path_params["target"], http.path_params["project"]
        project = canonicalize_name(asked)
        if not PROJECT_NAME.fullmatch(project):
            raise NotFound("No project can have that name.")
        if asked != project:
            return Response(status_code=301, headers={"Location": f"../{project}/"})
        missing = f"The index of {target!r} has no wheel of {project!r}."
        return self._answer(http, partial(layout.project_page, target, project), missing)

    def _refresh(self, target: str) -> None:
        """Bring the pages up to date that a publish leaves behind; requests at once do so once."""
        if self.index.pages.is_stale(target):
            with self.rendering:
                if self.index.pages.is_stale(target):
                    self.index.pages.render_target(target)

    def _is_fresh(self, target: str) -> Condition:
        """That no publish has left the target's pages behind."""
        return lambda: not self.index.pages.is_stale(target)

    def _answer(
        self,
        http: HttpRequest,
        key: Callable[[str], str],
        missing: str,
        *conditions: Condition,
        view: Callable[[Page], Page] = lambda page: page,
    ) -> Response:
        """The page under a key, in the form that is asked for; a tenant gets its `view` of what it may see there. To
        others the same is answered again while the page is the same and the conditions hold."""
        chosen = representation(http.headers.get("accept", ""), http.query_params.get("format", ""))
        if chosen is None:
            return not_acceptable()
        principal = principal_of(http)
        if principal.sees_all:
            rests_on(http, self.store.watch(key(chosen.form)), *conditions)
        body = self.store.get(key(chosen.form if principal.sees_all else Form.JSON))
        if body is not None and not principal.sees_all:
            page = view(seen_page(self.tenancy, principal, json.loads(body)))
            body = to_json(page) if chosen.form is Form.JSON else to_html(page, "Wheels")
        if body is None or is_bare(body):
            raise NotFound(missing)
        return page_answer(http, body, chosen)


def seen_page(tenancy: Tenancy, principal: Principal, page: Page) -> Page:
    """A page without the wheels that a tenant was not told of."""
    seen = partial(tenancy.sees, principal, Thing.WHEEL)
    return with_files(page, (file for file in page["files"] if seen(file["hashes"]["sha256"])))


def _as_root(page: Page) -> Page:
    return root_page((project_of(file["filename"]) for file in page["files"]), serial=page["_serial"])


def page_answer(http: HttpRequest, body: bytes, chosen: Representation) -> Response:
    """A page for a client, or that it has the present one."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"Cache-Control": "no-cache", "ETag": etag, "Vary": "Accept"}
    if etag in _known_tags(http):
        return Response(status_code=304, headers=headers)
    return Response(body, headers={**headers, "Content-Type": chosen.media_type})


def _known_tags(http: HttpRequest) -> list[str]:
    """The tags of `If-None-Match`, compared weakly (RFC 9110, 13.1.2): proxies that compress weaken them."""
    return [tag.strip().removeprefix("W/") for tag in http.headers.get("if-none-match", "").split(",")]


def not_acceptable() -> Response:
    """The answer where no form that is asked for is offered."""
    told = {
        "error": "not-acceptable",
        "message": "The page is not offered in any form that was asked for.",
        "hint": f"Accepted: {SIMPLE_JSON}, {SIMPLE_HTML}, {HTML}.",
    }
    return JSONResponse(told, 406, headers={"Vary": "Accept"})
