"""The API's part for wheels by digest, the recipes and the policy."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.errors import NotFound
from wheelfarm_services import layout
from wheelfarm_services.access import Principal, principal_of
from wheelfarm_services.answer_memory import rests_on
from wheelfarm_services.answers import IMMUTABLE
from wheelfarm_services.operation import BYTES, Answer, Operation, Parameter
from wheelfarm_services.parameters import ANY_TEXT, WHEEL_SHA256
from wheelfarm_services.policy_book import PolicyBook
from wheelfarm_services.recipe_book import RecipeBook
from wheelfarm_services.store import Store
from wheelfarm_services.stored_file import stored_file
from wheelfarm_services.tenancy import Tenancy
from wheelfarm_services.wheel_index.curation import Curation

_RECIPE = {
    "type": "object",
    "properties": {"origin": str, "source": str, "patches": dict[str, str]},
    "required": ["origin", "source"],
}
_POLICY = {
    "type": "object",
    "properties": {"origin": str, "source": str, "sha256": str, "recipes": str},
    "required": ["origin", "source", "sha256", "recipes"],
}


def wheel_operations(store: Store, recipes: RecipeBook, curation: Curation, tenancy: Tenancy) -> list[Operation]:
    """Wheels, recipes and the policy."""
    endpoints = _Endpoints(store=store, recipes=recipes, policies=PolicyBook(store), curation=curation, tenancy=tenancy)
    cached = {"Cache-Control": "How long it may be kept."}
    return [
        Operation(
            name="wheel",
            path="/wheels/{sha256}/{filename}",
            endpoint=endpoints.wheel,
            told="A wheel's bytes; with `.metadata` behind its name, its METADATA (PEP 658).",
            parameters=(WHEEL_SHA256, Parameter(name="filename", told="The wheel's file name.", form=ANY_TEXT)),
            answers={
                200: Answer(told="The file, for ever the same.", media=(BYTES,), headers=cached),
                206: Answer(told="The range of it that was asked for.", media=(BYTES,), headers=cached),
            },
            errors=(404, 416),
        ),
        Operation(
            name="policy",
            path="/policy",
            endpoint=endpoints.policy,
            told="The policy file: what may enter the farm, empty where there is none; the digest of the recipes.",
            answers={200: Answer(told="The policy.", shape=_POLICY)},
        ),
        Operation(
            name="recipes",
            path="/recipes",
            endpoint=endpoints.list_recipes,
            told="The projects that the farm has recipes for, and where each came from.",
            answers={200: Answer(told="Origins by project.", shape=dict[str, str])},
        ),
        Operation(
            name="recipe",
            path="/recipes/{project}",
            endpoint=endpoints.recipe,
            told="A project's recipe file.",
            parameters=(Parameter(name="project", told="The project's normalised name.", form=ANY_TEXT),),
            answers={200: Answer(told="The recipe.", shape=_RECIPE)},
            errors=(404,),
        ),
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Endpoints:
    store: Store
    recipes: RecipeBook
    policies: PolicyBook
    curation: Curation
    tenancy: Tenancy

    def wheel(self, http: HttpRequest) -> Response:
        sha256, filename = http.path_params["sha256"], http.path_params["filename"]
        key = layout.wheel(sha256, filename)
        may_have = partial(self._may_have, principal_of(http), sha256, filename)
        rests_on(http, self.store.watch(key), may_have)
        may_have()
        return stored_file(http, self.store, key, IMMUTABLE)

    def _may_have(self, principal: Principal, sha256: str, filename: str) -> Literal[True]:
        """Raises NotFound for a wheel that is deleted or that the bearer may not see, PolicyRefused for one that is
        quarantined or denied."""
        self.tenancy.require_wheel(principal, sha256, filename)
        wheel = filename.removesuffix(".metadata")
        if (release := _release(wheel)) is not None:
            self.curation.require_served(wheel)
            self.policies.policy.require_served(*release)
        return True

    def policy(self, _: HttpRequest) -> Response:
        file = self.policies.file
        told = {"origin": file.origin, "source": file.source, "sha256": self.policies.sha256}
        return JSONResponse({**told, "recipes": self.recipes.digest})

    def list_recipes(self, _: HttpRequest) -> Response:
        entries = self.recipes.entries()
        return JSONResponse({name: entry.origin for name, entry in sorted(entries.items())})

    def recipe(self, http: HttpRequest) -> Response:
        found = self.recipes.described(http.path_params["project"])
        if found is None:
            raise NotFound(f"The farm has no recipe for {http.path_params['project']!r}.")
        return JSONResponse(found)


@lru_cache(10_000)
def _release(filename: str) -> tuple[str, str] | None:
    """The project and the version that a wheel's file name tells; None where it is none."""
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None
    return name, str(version)
