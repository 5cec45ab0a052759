"""Combined indexes: several targets' wheels behind one URL, for environments that differ in what they can install.

A client takes what its own tags let it take, so the targets must differ in those: two that build for one ABI of one
platform are refused, for nobody could tell their wheels apart. Of pure wheels, and of others that several targets have
by the same name, the first target's is listed.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

from packaging.utils import canonicalize_name
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from wheelfarm.errors import InputError, NotFound
from wheelfarm.job import PROJECT_NAME
from wheelfarm.target import TARGET_NAME, Target
from wheelfarm_services import layout
from wheelfarm_services.access import principal_of
from wheelfarm_services.index_routes import (
    MOVED,
    PAGE_ANSWERS,
    PAGE_PARAMETERS,
    PROJECT,
    not_acceptable,
    page_answer,
    seen_page,
)
from wheelfarm_services.operation import Operation, Parameter
from wheelfarm_services.store import Store
from wheelfarm_services.tenancy import Tenancy
from wheelfarm_services.wheel_index import WheelIndex
from wheelfarm_services.wheel_index.filenames import project_of
from wheelfarm_services.wheel_index.negotiation import Form, representation
from wheelfarm_services.wheel_index.page import Page, is_bare, root_page, to_html, to_json, with_files

_MOST = 20
_TARGETS = Parameter(
    name="targets",
    told="Names of targets, the preferred one first, with commas between them.",
    form=f"{TARGET_NAME.pattern}(,{TARGET_NAME.pattern}){{0,{_MOST - 1}}}",
)


def combined_operations(store: Store, index: WheelIndex, tenancy: Tenancy) -> list[Operation]:
    """`/combined/TARGET,TARGET/`, with a page for each project."""
    endpoints = _Endpoints(store=store, index=index, tenancy=tenancy)
    return [
        Operation(
            name="combinedProjectList",
            path="/combined/{targets}/",
            endpoint=endpoints.root,
            told="The projects that any of several targets has wheels of: one index for installers.",
            parameters=(_TARGETS, *PAGE_PARAMETERS),
            answers=PAGE_ANSWERS,
            errors=(404, 406),
        ),
        Operation(
            name="combinedProjectPage",
            path="/combined/{targets}/{project}/",
            endpoint=endpoints.project,
            told="A project's wheels for several targets.",
            parameters=(_TARGETS, PROJECT, *PAGE_PARAMETERS),
            answers={**PAGE_ANSWERS, **MOVED},
            errors=(404, 406),
        ),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Endpoints:
    store: Store
    index: WheelIndex
    tenancy: Tenancy

    def root(self, http: HttpRequest) -> Response:
        targets = self._targets(http)
        for target in targets:
            if self.index.pages.is_stale(target):
                self.index.pages.render_target(target)
        pages = self._pages(http, (layout.flat_page(target, Form.JSON) for target in targets))
        names = (project_of(file["filename"]) for page in pages for file in page["files"])
        serial = max((page["_serial"] for page in pages), default=0)
        return self._answer(http, root_page(names, serial=serial) if pages else None)

    def project(self, http: HttpRequest) -> Response:
        targets, asked = self._targets(http), http.path_params["project"]
        project = canonicalize_name(asked)
        if not PROJECT_NAME.fullmatch(project):
            raise NotFound("No project can have that name.")
        if asked != project:
            return Response(status_code=301, headers={"Location": f"../{project}/"})
        pages = self._pages(http, (layout.project_page(target, project) for target in targets))
        return self._answer(http, merged(pages) if pages else None)

    def _targets(self, http: HttpRequest) -> list[str]:
        """The targets that are asked for, each of which the token must be for. Raises InputError where two collide."""
        names = list(dict.fromkeys(http.path_params["targets"].split(",")))
        for name in names:
            principal_of(http).require_target(name)
        require_distinct([target for name in names if (target := self._definition(name))])
        return names

    def _definition(self, name: str) -> Target | None:
        key = next(iter(self.store.list(layout.target_definitions(name))), None)
        data = self.store.get(key) if key else None
        return None if data is None else Target.from_json(json.loads(data))

    def _pages(self, http: HttpRequest, keys: Iterable[str]) -> list[Page]:
        principal = principal_of(http)
        pages: list[Page] = [json.loads(data) for key in keys if (data := self.store.get(key)) is not None]
        return pages if principal.sees_all else [seen_page(self.tenancy, principal, page) for page in pages]

    def _answer(self, http: HttpRequest, page: Page | None) -> Response:
        chosen = representation(http.headers.get("accept", ""), http.query_params.get("format", ""))
        if chosen is None:
            return not_acceptable()
        write: Callable[[Page], bytes] = to_json if chosen.form is Form.JSON else lambda page: to_html(page, "Wheels")
        body = write(page) if page is not None else b""
        if page is None or is_bare(body):
            hint = "A combined index builds nothing on demand; where that is wanted, ask the index of one target."
            raise NotFound("None of these indexes has it.", hint=hint)
        return page_answer(http, body, chosen)


def merged(pages: list[Page]) -> Page:
    """One project's page out of several targets', of which the first has the last word; there is one at least."""
    files = {file["filename"]: file for page in reversed(pages) for file in page["files"]}
    serial = max(page["_serial"] for page in pages)
    return with_files({**pages[0], "_serial": serial}, files.values())


def require_distinct(targets: list[Target]) -> None:
    """Raise InputError where two targets' native wheels would have the same tags."""
    for one, other in combinations(targets, 2):
        if (one.abi, one.platform) == (other.abi, other.platform):
            raise InputError(
                f"{one.name} and {other.name} both build {one.abi} for {one.platform}: nobody could tell their wheels "
                "apart.",
                hint="Give each environment the index of its own target.",
            )
