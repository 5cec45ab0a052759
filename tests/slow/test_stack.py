"""A farm of containers, from this checkout: images, the compose file's services, the main job, Prometheus, an alert."""

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.support.ceph import ACCESS_KEY, SECRET_KEY, run_gateway
from tests.support.containers import Stack, build, build_tool, make_base, podman, require_podman, stack
from tests.support.tables import tables
from wheelfarm_services.upstreams import default_index_url

pytestmark = [pytest.mark.slow, pytest.mark.index]

PORTS = (6379, 8080, 9090, 9464, 9465, 9466)
TOKEN = "t" * 43
CLIENT = {"WHEELFARM_URL": "http://api:8080", "WHEELFARM_TOKEN": TOKEN}
MAIN_JOB = ("jinja2==3.1.4", "markupsafe==2.1.5")
IMPORT = "import jinja2, markupsafe._speedups; print(jinja2.__version__)"
ROWS = ("images", "the same again", "parts", "main job", "isolation", "Prometheus", "alert")


@dataclass(kw_only=True)
class Findings:
    """What was seen, for the table of the docs."""

    told: dict[str, str]

    def note(self, row: str, result: str, began: float) -> None:
        where = f"{datetime.now(UTC):%Y-%m-%d}, podman, Debian 12, {platform.machine()}"
        self.told[row] = f"{result}|{time.monotonic() - began:.0f}|{where}"


@pytest.fixture(scope="module")
def findings(write_docs: bool) -> Iterator[Findings]:
    found = Findings(told={})
    yield found
    table = tables("operations.md", ["A stack of containers"])["A stack of containers"]
    for row, cells in found.told.items():
        table.add(row, *cells.split("|"))
    if write_docs:
        table.write(ROWS)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, findings: Findings) -> Iterator[dict[str, str]]:
    """The images of the compose file, by its variables; the base alone stays, for the next time."""
    require_podman()
    folder, began = tmp_path_factory.mktemp("images"), time.monotonic()
    make_base(folder)
    made = {
        "SERVICES_IMAGE": build("services", "test"),
        "WORKER_IMAGE": build("worker", "test"),
        "REDIS_IMAGE": build_tool(folder, "redis-server", ""),
        "PROMETHEUS_IMAGE": build_tool(folder, "prometheus", 'ENTRYPOINT ["prometheus"]\nUSER 10001:10001'),
    }
    findings.note("images", "built on a base by debootstrap", began)
    yield made
    podman("rmi", "--force", *made.values())


def test_images_are_the_same_when_they_are_made_again(images: Mapping[str, str], findings: Findings) -> None:
    began = time.monotonic()
    again = build("services", "again", "--no-cache")
    layers = [podman("inspect", "--format", "{{.RootFS.Layers}}", name) for name in (images["SERVICES_IMAGE"], again)]
    podman("rmi", again)
    assert layers[0] == layers[1]
    findings.note("the same again", "every layer has the same digest", began)


def test_farm_of_containers_does_the_main_job_and_is_watched(images: Mapping[str, str], findings: Findings) -> None:
    taken = [port for port in PORTS if _answers(port)]
    if taken:
        pytest.skip(f"ports are taken: {taken}")
    variables = {**images, "S3_ACCESS_KEY": ACCESS_KEY, "S3_SECRET_KEY": SECRET_KEY, "WHEELFARM_TOKEN": TOKEN}
    with run_gateway() as gateway, stack(variables, {"http://s3:9000": gateway.url}) as farm:
        _start(farm, findings)
        _main_job(farm, findings)
        _isolation(farm, findings)
        _watched(findings)
        _alert(farm, findings)


def _start(farm: Stack, findings: Findings) -> None:
    began = time.monotonic()
    farm.start("redis")
    farm.start("bucket", wait=True)
    index = ["--env", f"WHEELFARM_INDEX={default_index_url(os.environ)}", "--env", f"SSL_CERT_FILE={_BUNDLE}"]
    farm.start("api", *index)
    _wait(lambda: _answers(8080))
    for service in ("reconciler", "worker", "prometheus"):
        farm.start(service)
    _wait(lambda: "compose-1" in farm.run("api", "wheelfarm", "status", environment=CLIENT))
    findings.note("parts", "Redis, API, reconciler, worker, Prometheus; S3 by Ceph", began)


_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def _main_job(farm: Stack, findings: Findings) -> None:
    began = time.monotonic()
    install = f"wheelfarm install --venv /tmp/demo {' '.join(MAIN_JOB)} && /tmp/demo/bin/python -c '{IMPORT}'"
    said = farm.run("worker", "sh", "-c", install, environment=CLIENT)
    assert said.splitlines()[-1] == "3.1.4"
    findings.note("main job", f"`{' '.join(MAIN_JOB)}` from source, installed and imported", began)


def _isolation(farm: Stack, findings: Findings) -> None:
    """The container that the sandboxes work in has no rights: neither root's nor those to gain any."""
    began = time.monotonic()
    status = podman("exec", "wheelfarm-test-worker", "cat", "/proc/1/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["Uid"].split() == ["10001"] * 4
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
    findings.note("isolation", "bubblewrap in a worker of user 10001, without capabilities or new privileges", began)


def _watched(findings: Findings) -> None:
    began = time.monotonic()
    _wait(lambda: {part["labels"]["job"] for part in _targets() if part["health"] == "up"} == _JOBS)
    done = 'sum(max by (target) (wheelfarm_jobs_ended_total{state="done"})) >= 2'
    _wait(lambda: bool(_prometheus("query", query=done)["result"]))
    findings.note("Prometheus", "scrapes all three parts, and counts the jobs done", began)


_JOBS = {"wheelfarm-api", "wheelfarm-reconciler", "wheelfarm-worker"}


def _alert(farm: Stack, findings: Findings) -> None:
    began = time.monotonic()
    assert not _firing()
    podman("stop", "--time", "60", "wheelfarm-test-worker")
    assert podman("inspect", "--format", "{{.State.ExitCode}}", "wheelfarm-test-worker") == "0"
    _wait(lambda: {"WheelfarmWorkersGone", "WheelfarmPartDown"} <= _firing(), 300)
    findings.note("alert", "a worker was stopped: `WheelfarmWorkersGone` and `WheelfarmPartDown` fire", began)


def _firing() -> set[str]:
    return {one["labels"]["alertname"] for one in _prometheus("alerts")["alerts"] if one["state"] == "firing"}


def _targets() -> list[Any]:
    return list(_prometheus("targets")["activeTargets"])


def _prometheus(what: str, **parameters: str) -> Any:
    with httpx.Client(trust_env=False) as client:
        return client.get(f"http://127.0.0.1:9090/api/v1/{what}", params=parameters).json()["data"]


def _wait(ready: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(1)
    logs = [podman("logs", "--tail", "30", name) for name in podman("ps", "-a", "--format", "{{.Names}}").split()]
    pytest.fail("waited in vain\n" + "\n==\n".join(logs))


def _answers(port: int) -> bool:
    with closing(socket.socket()) as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
