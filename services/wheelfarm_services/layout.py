"""Where everything lies in the store: one function a kind of object, the only place that spells keys."""

import re

from packaging.utils import canonicalize_name

from wheelfarm.job import Job

_BLOB = re.compile(
    r"(?:(?:sdists|local|wheels|interpreters)/([0-9a-f]{64})/(?:sdist|archive|[^/]+\.whl)|patches/([0-9a-f]{64}))"
)


def sdist(sha256: str) -> str:
    """An sdist's bytes, as upstream has them."""
    return f"sdists/{sha256}/sdist"


def sdist_head(sha256: str) -> str:
    """The files of that sdist that are read outside a sandbox."""
    return f"sdists/{sha256}/head.json"


def sdist_record(sha256: str) -> str:
    """What the source index listed that sdist as: the proof that a submission may name it."""
    return f"sdists/{sha256}/record.json"


def upstream_page(upstream: str, name: str) -> str:
    """What an upstream said of a project last: a cache, and what an offline farm resolves by."""
    return f"upstreams/{upstream}/{name}.json"


def local_archive(sha256: str) -> str:
    """The bytes of what a client sent, a packed tree or an sdist, or of the sdist that was made of a tree."""
    return f"local/{sha256}/archive"


def local_record(sha256: str) -> str:
    """What a local sdist is: the proof that a submission may name it as local."""
    return f"local/{sha256}/record.json"


def local_sdist(tree_sha256: str, request_key: str) -> str:
    """Which sdist was made of a tree."""
    return f"local/{tree_sha256}/{request_key}.json"


def local_wheel(sha256: str) -> str:
    """The manifest of a wheel that was built from a local sdist: it is found by the wheel's digest alone."""
    return f"local/{sha256}/wheel.json"


def stated_build(sha256: str) -> str:
    """What the sdist states of its build."""
    return f"sdists/{sha256}/build.json"


def static_metadata(sha256: str) -> str:
    """Core metadata that the sdist states for every target (PEP 643, PEP 621)."""
    return f"metadata/{sha256}/static"


def built_metadata(sha256: str, target_revision: str) -> str:
    """Core metadata as the build backend gave it on one target."""
    return f"metadata/{sha256}/{target_revision}"


def metadata_revisions(target_revision: str, project: str) -> str:
    """The folder of a project's revised metadata on one target."""
    return f"revisions/{target_revision}/{project}/"


def revised_metadata(target_revision: str, project: str, sha256: str, revision: int) -> str:
    """Core metadata that was resolved with since a wheel told otherwise than what had been; revisions begin with 1."""
    return f"{metadata_revisions(target_revision, project)}{sha256}/{revision:06d}"


def hook_requirements(sha256: str, target_revision: str) -> str:
    """What `get_requires_for_build_wheel` answered on one target, as a JSON list."""
    return f"requires/{sha256}/{target_revision}.json"


def plan(request_key: str) -> str:
    """The build requirements, exactly, that a request key was planned with, and its build key."""
    return f"plans/{request_key}.json"


def fallback(request_key: str) -> str:
    """Why a request key is built otherwise than first planned: the constraint on top, and the reason."""
    return f"plans/{request_key}.fallback.json"


def failure(request_key: str) -> str:
    """The last failed build of a request key, for as long as its answer stands."""
    return f"failures/{request_key}.json"


def policy() -> str:
    """The farm's policy file, as its services published it."""
    return "policy.json"


def recipe_book() -> str:
    """Every recipe file of the farm, as its services published them."""
    return "recipes/book.json"


def recipe(digest: str) -> str:
    """One recipe, as it applies to a version of a project."""
    return f"recipes/{digest}.json"


def patch(sha256: str) -> str:
    """A patch that a recipe names."""
    return f"patches/{sha256}"


def manifest(build_key: str) -> str:
    """The commit of one build: which wheel came out, and of what."""
    return f"manifests/{build_key}.json"


def wheel(sha256: str, filename: str) -> str:
    """A wheel's bytes, under its digest and its own name."""
    return f"wheels/{sha256}/{filename}"


def wheel_metadata(sha256: str, filename: str) -> str:
    """The wheel's METADATA (PEP 658)."""
    return f"wheels/{sha256}/{filename}.metadata"


def name_claim(target: str, filename: str) -> str:
    """Who has taken a file name on a target's index, for ever."""
    return f"names/{target}/{filename}.json"


def index_entries(target: str, project: str = "") -> str:
    """The folder of a target's index entries, or of a project's."""
    return f"index/{target}/{project}/" if project else f"index/{target}/"


def index_entry(target: str, filename: str) -> str:
    """One file of a target's index: immutable."""
    return f"{index_entries(target, canonicalize_name(filename.partition('-')[0]))}{filename}.json"


def project_state(project: str) -> str:
    """What was said about a project's wheels since they were built: yanks, quarantine, deletions."""
    return f"states/{project}.json"


def projects() -> str:
    """The folder of the notes on which projects have been on which targets' indexes."""
    return "projects/"


def project_targets(project: str) -> str:
    """The folder of the notes on which targets' indexes a project has been."""
    return f"{projects()}{project}/"


def project_target(project: str, target: str) -> str:
    """The note that a project has been on a target's index."""
    return f"{project_targets(project)}{target}"


def project_page(target: str, project: str, form: str = "json") -> str:
    """A project's page on a target's index, as `json` (PEP 691) or `html` (PEP 503)."""
    return f"{project_pages(target)}{project}/index.{form}"


def project_pages(target: str) -> str:
    """The folder of a target's project pages, and of the list of its projects."""
    return f"simple/{target}/"


def root_page(target: str, form: str = "json") -> str:
    """The list of the projects on a target's index."""
    return f"{project_pages(target)}index.{form}"


def flat_pages(target: str = "") -> str:
    """The folder of the targets' find-links pages, or of one's."""
    return f"flat/{target}/" if target else "flat/"


def flat_page(target: str, form: str = "html") -> str:
    """A target's find-links page."""
    return f"{flat_pages(target)}index.{form}"


def stale_notes(target: str = "") -> str:
    """The folder of the notes that a target's flat page is behind."""
    return f"stale/{target}/" if target else "stale/"


def stale_note(target: str, project: str, note: str) -> str:
    """The note that a target's flat page may be behind in one project."""
    return f"{stale_notes(target)}{project}.{note}"


def target(name: str, revision: str) -> str:
    """A target's definition."""
    return f"targets/{name}/{revision}.json"


def target_definitions(name: str) -> str:
    """The folder of a target's definitions, one a revision; without a name that of all targets."""
    return f"targets/{name}/" if name else "targets/"


def interpreter_archive(sha256: str) -> str:
    """The archive of a Python distribution."""
    return f"interpreters/{sha256}/archive"


def interpreters() -> str:
    """The folder of the records of Python distributions, a folder a build."""
    return "pythons/"


def interpreters_of_build(build: str) -> str:
    """The folder of those of one build."""
    return f"{interpreters()}{build}/"


def interpreter(build: str, filename: str) -> str:
    """The record of the Python distribution whose archive has that name in that build."""
    return f"{interpreters_of_build(build)}{filename}.json"


def grant(tenant: str, thing: str, name: str) -> str:
    """The note that a tenant was told of a job, a wheel or a local source."""
    return f"tenants/{tenant}/{thing}/{name}"


def open_requests() -> str:
    """The folder of the requests that are not finished."""
    return "requests/open/"


def open_request(request_id: str) -> str:
    """One request, as it was accepted."""
    return f"{open_requests()}{request_id}.json"


def build_log_chunk(job: Job | str, run: str, start: int) -> str:
    """A piece of the log of one run of a job, compressed; it begins at that byte of the log."""
    return f"{build_log_run(job, run)}{start:012d}.gz"


def build_log_run(job: Job | str, run: str) -> str:
    """The folder of the log of one run."""
    return f"{build_logs(job)}{run}/"


def build_logs(job: Job | str) -> str:
    """The folder of a job's logs."""
    return f"{build_logs_of(job if isinstance(job, str) else job.id)}/"


def build_logs_of(job_prefix: str) -> str:
    """What the keys of all logs begin with of jobs whose ids begin so."""
    return f"logs/{job_prefix}"


def blob_sha256(key: str) -> str | None:
    """The sha256 that the object of a key must have; None where the key does not tell."""
    found = _BLOB.fullmatch(key)
    return (found[1] or found[2]) if found else None


def quarantined(key: str) -> str:
    """Where an object is put aside that was found to have other bytes than its key tells."""
    return f"quarantine/{key}"


def http_headers(key: str) -> dict[str, str]:
    """How a web server may serve the object: its Content-Type and Cache-Control."""
    if key.startswith(("flat/", "simple/")):
        media = "text/html" if key.endswith(".html") else "application/vnd.pypi.simple.v1+json"
        return {"ContentType": media, "CacheControl": "no-cache"}
    if key.startswith("wheels/"):
        return {"ContentType": "application/octet-stream", "CacheControl": "max-age=365000000, immutable"}
    return {"ContentType": "application/json" if key.endswith(".json") else "application/octet-stream"}
