"""Every part of a farm tells Prometheus what it does, and logs it as JSON."""

import json
import sys

import httpx

from tests.acceptance.conftest import PATIENCE_S, Home, wait_until
from tests.support.fleet import SeparateFarm, free_port, separate_farm
from tests.support.projects import Project


def scrape(port: int) -> dict[str, float]:
    """The samples that a part tells, by name with labels."""
    with httpx.Client(trust_env=False) as client:
        text = client.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S).text
    pairs = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def count(samples: dict[str, float], name: str, **labels: str) -> float:
    """The sum of the samples of that name with these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    named = {key: value for key, value in samples.items() if key.partition("{")[0] == name}
    return sum(value for key, value in named.items() if all(label in key for label in wanted))


def test_parts_tell_what_they_do(home: Home) -> None:
    home.upstream.add(Project(name="helper"), Project(name="app", build_requires=["helper"]))
    folder = home.root / "farm"
    folder.mkdir()
    api, repairs, builds = free_port(), free_port(), free_port()
    settings = {"WHEELFARM_LOG_FORMAT": "json"}
    with separate_farm(folder, home.upstream.url, **settings) as farm:
        _start(farm, api, repairs, builds)
        home.settings |= farm.client
        for _ in range(2):
            done = home.run("build", "app")
            assert done.code == 0, done.err + farm.logs()

        # a worker counts a job once the ledger has been told of it, and so its client, too
        ended = {"kind": "wheel", "outcome": "done"}
        assert wait_until(lambda: count(scrape(builds), "wheelfarm_job_seconds_count", **ended) == 2), farm.logs()
        assert wait_until(lambda: count(scrape(repairs), "wheelfarm_reconciled_timestamp_seconds") > 0), farm.logs()
        services, reconciler, worker = (scrape(port) for port in (api, repairs, builds))
        lines = [json.loads(line) for line in farm.parts["w1"].said.splitlines()]

    for shared in (services, reconciler):
        assert count(shared, "wheelfarm_jobs_ended_total", state="done") == 2
        assert count(shared, "wheelfarm_lookups_total", outcome="miss") == 1
        assert count(shared, "wheelfarm_workers", state="serves") == 1
        assert count(shared, "wheelfarm_broker_up") == 1
    assert count(services, "wheelfarm_api_seconds_count", operation="submitRequest", outcome="2xx") >= 1
    assert count(services, "wheelfarm_upstream_seconds_count", outcome="2xx") >= 2
    assert count(services, "wheelfarm_store_seconds_count", outcome="ok") > 0
    assert count(worker, "wheelfarm_job_seconds_count", outcome="suspended") >= 1
    assert count(worker, "wheelfarm_job_wait_seconds_count") == count(worker, "wheelfarm_job_seconds_count")
    for phase in ("stage", "plan", "environment", "build", "check", "finish", "publish"):
        assert count(worker, "wheelfarm_phase_seconds_count", phase=phase) >= 2, phase
    of_jobs = [line for line in lines if line["logger"].startswith("wheelfarm_workers.") and "sdist" in line]
    assert {line["message"] for line in of_jobs} >= {"build begins", "job waits", "job done"}
    assert all(len(line["job"]) == 12 and line["target"].startswith("host") for line in of_jobs)


def _start(farm: SeparateFarm, api: int, repairs: int, builds: int) -> None:
    def at(port: int) -> dict[str, str]:
        return {"WHEELFARM_METRICS": f"127.0.0.1:{port}"}

    broker = farm.start_broker()
    assert wait_until((farm.root / "s").is_socket), broker.said
    reconciler = [sys.executable, "-m", "wheelfarm_services.reconciler"]
    farm.start("reconciler", reconciler, at(repairs))
    farm.settings |= at(api)
    farm.start_services("services", "--no-reconciler")
    farm.serve("w1", "--slots", "1", settings=at(builds))
