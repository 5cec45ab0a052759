"""The operation by which an operator has the store's garbage collected."""

from dataclasses import asdict
from threading import Lock

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from wheelfarm.garbage import GarbageReport, GarbageRules
from wheelfarm.token_file import Scope
from wheelfarm_services.garbage import collect_garbage
from wheelfarm_services.json_body import json_object, read_json_body
from wheelfarm_services.operation import Answer, Operation
from wheelfarm_services.store import Store


def garbage_operations(store: Store) -> list[Operation]:
    """`POST /garbage`, which answers when it is done."""
    one_at_a_time = Lock()

    def collect(rules: GarbageRules, dry_run: bool) -> GarbageReport:
        with one_at_a_time:
            return collect_garbage(store, rules, dry_run=dry_run)

    async def answer(http: HttpRequest) -> Response:
        value = json_object(await read_json_body(http))
        rules = GarbageRules.from_json(json_object(value.get("rules", {})))
        report = await run_in_threadpool(collect, rules, value.get("dry_run") is not False)
        return JSONResponse(asdict(report))

    return [
        Operation(
            name="collectGarbage",
            method="POST",
            path="/garbage",
            endpoint=answer,
            told="Remove what nothing in the store leads to any more; unless `dry_run` is false, only tell of it.",
            scope=Scope.ADMIN,
            body={
                "type": "object",
                "properties": {"rules": {"type": "object"}, "dry_run": {"type": "boolean"}},
            },
            answers={200: Answer(told="What went, or would go.", shape=GarbageReport)},
        )
    ]
