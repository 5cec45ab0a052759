"""`python -m benchmarks.overhead`: what the farm adds to a build, outside its sandbox.

Tiny projects that need nothing are built one after the other, on one slot of a farm of their own.
"""

import json
import os
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median

import click
from tests.support.projects import Project
from tests.support.upstream import Upstream

from wheelfarm.embedded import attached
from wheelfarm.farm import Farm
from wheelfarm.job import JobKind, Sdist
from wheelfarm.resolution import Resolution, resolve
from wheelfarm.settings import Settings
from wheelfarm.target import Target, host_target


@click.command()
@click.option("--jobs", default=30, show_default=True, help="How many projects are built.")
def main(jobs: int) -> None:
    """Print the medians, in milliseconds."""
    projects = [Project(name=f"tiny-{number}") for number in range(jobs + 1)]
    with tempfile.TemporaryDirectory(prefix="wheelfarm-overhead-") as folder, Upstream() as upstream:
        upstream.add(*projects)
        store = (Path(folder) / "store").as_uri()
        settings = Settings(store=store, index=upstream.url, cache=Path(folder) / "cache", slots=1)
        target = host_target(Path(sys.executable), sandbox=settings.sandbox, memory=Path(folder) / "targets")
        with attached(settings) as embedded, Farm(embedded.url, embedded.token, check=embedded.check) as farm:
            farm.register(target)
            found = resolve(
                [project.name for project in projects], target=target, farm=farm, cache_dir=settings.cache / "uv"
            )
            assert isinstance(found, Resolution)  # noqa: S101  (all of them state their metadata)
            times = [build(farm, target, sdist) for sdist in found.sdists]
        sandboxes_s = {sdist.name: sandbox_s(Path(folder) / "store", sdist.name) for sdist in found.sdists}
    rows = list(zip(found.sdists, times, strict=True))[1:]  # with the first, the driver is compiled
    worker = [1000 * (in_worker - sandboxes_s[sdist.name]) for sdist, (in_worker, _) in rows]
    client = [1000 * (seen - sandboxes_s[sdist.name]) for sdist, (_, seen) in rows]
    inside = [1000 * sandboxes_s[sdist.name] for sdist, _ in rows]
    click.echo(f"{jobs} jobs, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    click.echo(f"in the sandbox {median(inside):.0f} ms")
    click.echo(
        f"added from claim to completion {median(worker):.0f} ms, from request to its answer {median(client):.0f} ms"
    )


def build(farm: Farm, target: Target, sdist: Sdist) -> tuple[float, float]:
    """How long the job took its worker, and how long its client waited, in seconds."""
    start = time.monotonic()
    submitted = farm.submit(JobKind.WHEEL, [sdist], [target], request_id=uuid.uuid4().hex)
    status = farm.wait(submitted, lambda _: None)
    waited_s = time.monotonic() - start
    farm.close_request(status.id)
    (job,) = (status.jobs[job] for job in status.requested)
    return job.finished_at - job.started_at, waited_s


def sandbox_s(store: Path, name: str) -> float:
    """How long a wheel was built in the sandbox, by its manifest."""
    manifests = [json.loads(path.read_bytes()) for path in store.glob("manifests/**/*.json")]
    (found,) = (manifest for manifest in manifests if manifest["wheel"]["name"] == name)
    return float(found["provenance"]["duration_s"])


if __name__ == "__main__":
    main()
