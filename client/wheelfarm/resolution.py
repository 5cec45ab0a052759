"""Resolution: requirements in, pinned sdists out; uv does the solving, against the farm's source index alone.

uv runs as a subprocess and answers with a PEP 751 lock, the only output of it that is specified. The source index
supplies the metadata of every sdist, so no build backend runs here. Metadata that has yet to be computed is answered
with 425, on which uv stops at once; the source index keeps, under the resolution's id (the user name of uv's
requests), an account of what was missing, and the caller asks again when it is there.
"""

import json
import subprocess
import tempfile
import time
import tomllib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from packaging.pylock import Pylock, PylockValidationError
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from wheelfarm.errors import (
    DiskFull,
    FarmUnavailable,
    InputError,
    MetadataUnsettled,
    NoSdist,
    NoSolution,
    PolicyRefused,
    ProtocolError,
    UnknownProject,
    WheelfarmError,
    error_from_json,
)
from wheelfarm.job import Sdist
from wheelfarm.target import Target
from wheelfarm.target_markers import uv_options

_ALLOWING_PRERELEASES = ["--prerelease", "allow"]
_OUTPUT = "pylock.toml"
_NONE: Mapping[str, str] = MappingProxyType({})
_UNANSWERED = "failed to fetch"
"""What uv says when it did not come to a verdict, for want of an answer: what is no fault of the requirements, unless
the account of the resolution tells of one."""
_PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """The sdists that satisfy the requirements together, in the lock's order."""

    sdists: tuple[Sdist, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetadataPending:
    """Sdists whose metadata must be computed before the resolution can go on."""

    sdists: tuple[Sdist, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A resolution for which nothing was built: `unknown` are the sdists in it that were taken to require what they
    state, though only their build can tell."""

    sdists: tuple[Sdist, ...]
    unknown: tuple[Sdist, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """What the source index could not give one resolution.

    `errors` are errors as `WheelfarmError.to_json` writes them; `without_sdist` maps each project that has such to the
    versions without an sdist, oldest first, and `with_sdist` the same projects to their other versions; `refused` maps
    projects to their versions that policy lets no sdist in of, each with the reason. `remarks` are what people should
    know of pages on which they find nothing.
    """

    pending: tuple[Sdist, ...] = ()
    unknown: tuple[str, ...] = ()
    without_sdist: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    with_sdist: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    refused: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    errors: tuple[Mapping[str, str], ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Account":
        return cls(
            pending=tuple(Sdist.from_json(sdist) for sdist in value["pending"]),
            unknown=tuple(value["unknown"]),
            without_sdist={name: tuple(found) for name, found in value["without_sdist"].items()},
            with_sdist={name: tuple(found) for name, found in value["with_sdist"].items()},
            refused={name: dict(found) for name, found in value.get("refused", {}).items()},
            remarks=tuple(value["remarks"]),
            errors=tuple(value["errors"]),
        )


class SourceIndexClient(Protocol):
    """Where a resolution asks: the farm's address and secret, and the account of one resolution."""

    url: str
    token: str

    def tell(self, line: str) -> None: ...

    def account(self, resolution_id: str) -> Account: ...

    def see_local(self, resolution_id: str, sdists: Sequence[Sdist]) -> None: ...


class _Unanswered(Exception):
    """A part of the farm (API, Redis, store) was away, which may pass; `error` says so to users."""

    def __init__(self, error: WheelfarmError) -> None:
        super().__init__(error.message)
        self.error = error


def source_index_path(target: Target, *, estimate: bool = False) -> str:
    """The path of the source index as one target revision sees it, or of the one for estimates."""
    return f"/source/{'estimate' if estimate else 'default'}/{target.name}/{target.revision[:16]}/simple/"


def resolve(
    requirements: Sequence[str],
    *,
    target: Target,
    farm: SourceIndexClient,
    cache_dir: Path,
    constraints: Sequence[str] = (),
    local: Sequence[Sdist] = (),
    preferred: Mapping[str, str] = _NONE,
    prerelease: bool = False,
    retry: bool = False,
    patience_s: float = 120.0,
) -> Resolution | MetadataPending:
    """Resolve for a target: by its Python version, platform and markers, never by those of this machine. Safe to
    repeat; a warm repetition takes some ten milliseconds.

    `cache_dir` is uv's own, never the user's. The `local` sdists are all that there is of their projects. `preferred`
    are versions, by project, that are taken where they do. With `prerelease` pre-releases do like any version; with
    `retry` metadata that could not be computed before is pending anew.

    Raises UnknownProject, NoSdist, UpstreamError, HashMismatch or BadSdist when the source index knows the reason, and
    NoSolution with uv's explanation otherwise; FarmUnavailable when for `patience_s` nobody answered.
    """
    deadline, told = time.monotonic() + patience_s, ""
    while True:
        try:
            return _resolve(requirements, target, farm, cache_dir, constraints, local, preferred, prerelease, retry)
        except _Unanswered as unanswered:
            if time.monotonic() > deadline:
                raise unanswered.error from None
            reason = unanswered.error.message.partition("\n")[0]
            if reason != told:
                told = reason
                farm.tell(f"{told} The resolution is begun anew until it does.")
        time.sleep(_PAUSE_S)


def _resolve(
    requirements: Sequence[str],
    target: Target,
    farm: SourceIndexClient,
    cache_dir: Path,
    constraints: Sequence[str],
    local: Sequence[Sdist],
    preferred: Mapping[str, str],
    prerelease: bool,
    retry: bool,
) -> Resolution | MetadataPending:
    """Resolve once. Raises _Unanswered where a part of the farm was away meanwhile, and what `resolve` does."""
    resolution_id = uuid.uuid4().hex
    if local:
        farm.see_local(resolution_id, local)
    options = list(_ALLOWING_PRERELEASES) if prerelease else []
    with tempfile.TemporaryDirectory(prefix="wheelfarm-resolve-") as folder:
        home = Path(folder)
        options += _preferring(preferred, home)
        done = _run_uv(requirements, constraints, options, target, farm, cache_dir, resolution_id, home)
    if done.returncode == 0:
        return read_lock(done.stdout)
    account = farm.account(resolution_id)
    if account.errors and not (retry and account.pending):
        error = error_from_json(account.errors[0])
        raise _Unanswered(error) if type(error) is FarmUnavailable else error
    if account.pending:
        return MetadataPending(sdists=account.pending)
    if _UNANSWERED in done.stderr.lower() and not account.unknown:
        raise _Unanswered(
            FarmUnavailable(
                f"The source index did not answer the resolver.\n{done.stderr.strip()}",
                hint="A part of the farm went away meanwhile. Finished wheels are kept: run the command again.",
            )
        )
    raise explained(requirements, account, done.stderr.strip())


def estimate(
    requirements: Sequence[str],
    *,
    target: Target,
    farm: SourceIndexClient,
    cache_dir: Path,
    constraints: Sequence[str] = (),
    local: Sequence[Sdist] = (),
    preferred: Mapping[str, str] = _NONE,
    prerelease: bool = False,
) -> Estimate:
    """Resolve for a target without having anything computed for it. Raises what `resolve` raises."""
    resolution_id = uuid.uuid4().hex
    if local:
        farm.see_local(resolution_id, local)
    options = list(_ALLOWING_PRERELEASES) if prerelease else []
    with tempfile.TemporaryDirectory(prefix="wheelfarm-resolve-") as folder:
        home = Path(folder)
        options += _preferring(preferred, home)
        done = _run_uv(requirements, constraints, options, target, farm, cache_dir, resolution_id, home, estimate=True)
    account = farm.account(resolution_id)
    if done.returncode == 0:
        sdists = read_lock(done.stdout).sdists
        return Estimate(sdists=sdists, unknown=tuple(sdist for sdist in sdists if sdist in account.pending))
    if account.errors:
        raise error_from_json(account.errors[0])
    raise explained(requirements, account, done.stderr.strip())


def read_lock(text: str) -> Resolution:
    """The sdists of a PEP 751 lock. Raises ProtocolError when it holds anything else."""
    try:
        lock = Pylock.from_dict({"packages": [], **tomllib.loads(text)})  # uv leaves an empty list out
    except (tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise ProtocolError(f"uv wrote a lock that can't be read: {error}.") from error
    sdists = []
    for package in lock.packages:
        if package.sdist is None or package.sdist.url is None or package.version is None:
            raise ProtocolError(f"The lock names no sdist for {package.name}.")
        served_as = unquote(PurePosixPath(urlsplit(package.sdist.url).path).name)
        # a prebuilt wheel of the policy's is served as what it is, but listed as an sdist
        filename = served_as if served_as.endswith(".whl") else package.sdist.name or served_as
        value = {"name": package.name, "version": str(package.version), "filename": filename}
        try:
            sdists.append(Sdist.from_json({**value, "sha256": package.sdist.hashes.get("sha256", "")}))
        except InputError as error:
            raise ProtocolError(f"The lock names an sdist that can't be one: {error.message}.") from error
    return Resolution(sdists=tuple(sdists))


def _preferring(preferred: Mapping[str, str], home: Path) -> list[str]:
    """Options by which uv prefers versions: it keeps to those of the lock that it is to overwrite."""
    if not preferred:
        return []
    text = 'lock-version = "1.0"\ncreated-by = "wheelfarm"\n'
    for name, version in preferred.items():
        text += f"[[packages]]\nname = {json.dumps(name)}\nversion = {json.dumps(version)}\n"
    (home / _OUTPUT).write_text(text)
    return ["--output-file", _OUTPUT]


def _run_uv(
    requirements: Sequence[str],
    constraints: Sequence[str],
    options: Sequence[str],
    target: Target,
    farm: SourceIndexClient,
    cache_dir: Path,
    resolution_id: str,
    home: Path,
    *,
    estimate: bool = False,
) -> subprocess.CompletedProcess[str]:
    command = [find_uv_bin(), "pip", "compile", "--no-config", "--no-header", "--quiet", "--color", "never"]
    command += [*uv_options(target), "--cache-dir", str(cache_dir)]
    command += ["--no-binary", ":all:", "--generate-hashes", "--format", "pylock.toml"]
    if constraints:
        (home / "constraints.txt").write_text("\n".join(constraints) + "\n")
        command += ["--constraint", str(home / "constraints.txt")]
    command += options
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "NO_PROXY": urlsplit(farm.url).hostname or "",
        "UV_DEFAULT_INDEX": f"farm={farm.url}{source_index_path(target, estimate=estimate)}",
        "UV_INDEX_FARM_USERNAME": resolution_id,
        "UV_INDEX_FARM_PASSWORD": farm.token,
        "UV_HTTP_TIMEOUT": "600",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    done = subprocess.run(
        [*command, "-"],
        input="\n".join(requirements) + "\n",
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.returncode and "--output-file" in options:
        done.stdout = (home / _OUTPUT).read_text()
    if done.returncode and "(os error 28)" in done.stderr:
        raise DiskFull(
            f"The disk of the resolver is full ({cache_dir}).",
            hint="Free some space there, then run the command again: finished wheels are kept.",
        )
    return done


def metadata_unsettled(sdists: Sequence[str], rounds: int) -> MetadataUnsettled:
    """The error for sdists whose wheels tell otherwise than their metadata time and again."""
    return MetadataUnsettled(
        f"What was resolved {rounds} times over is not what the built wheels need: "
        f"{', '.join(sdists)} state other metadata than their builds give.",
        hint="Nothing was handed over. Pin a version whose sdist tells the truth, or run the command again to go on: "
        "what was found out is kept.",
    )


def explained(requirements: Sequence[str], account: Account, explanation: str) -> NoSolution:
    asked = ", ".join(requirements)
    if account.unknown:
        names = ", ".join(account.unknown)
        return UnknownProject(
            f"The source index has no project named {names} (asked for: {asked}).",
            hint=f"Check the spelling, or that the upstream index of the farm has it.\n{explanation}",
        )
    if denied := _acceptable_but_for(account.refused, requirements, account):
        reasons = {name: {one: account.refused[name][one] for one in versions} for name, versions in denied.items()}
        return PolicyRefused(
            f"{_refusals(reasons)} (asked for: {asked}).", hint=f"{PolicyRefused.remedy}\n{explanation}"
        )
    if lacking := _acceptable_but_for(account.without_sdist, requirements, account):
        found = "; ".join(
            f"{name} has no sdist of {', '.join(versions[-8:])}{' and older' if len(versions) > 8 else ''}"
            for name, versions in lacking.items()
        )
        return NoSdist(
            f"No acceptable version has a source distribution (asked for: {asked}): {found}.",
            hint=f"Ask for a version that was published with one, as .tar.gz or .zip.\n{explanation}",
        )
    told = f"\n{_refusals(account.refused)}." if account.refused else ""
    told += "".join(f"\nnote: {remark}" for remark in account.remarks)
    return NoSolution(f"No set of sdists satisfies {asked}.\n{explanation}{told}")


def _refusals(refused: Mapping[str, Mapping[str, str]]) -> str:
    """Refusals in words, the versions of each reason together, the newest ones."""
    told = []
    for name, reasons in refused.items():
        for reason in dict.fromkeys(reasons.values()):
            versions = [version for version, other in reasons.items() if other == reason]
            told.append(f"{name} {', '.join(versions[-8:])}{' and older' if len(versions) > 8 else ''}: {reason}")
    return f"policy denies {'; '.join(told)}"


def _acceptable_but_for(
    lacking_of: Mapping[str, Iterable[str]], requirements: Sequence[str], account: Account
) -> dict[str, tuple[str, ...]]:
    """Per project the versions that would do but for what they lack, where no version that lacks nothing does."""
    specifiers: dict[str, SpecifierSet] = {}
    for parsed in map(Requirement, requirements):
        name = str(canonicalize_name(parsed.name))
        specifiers[name] = specifiers.get(name, SpecifierSet()) & parsed.specifier
    lacking = {}
    for name, versions in lacking_of.items():
        accepted = specifiers.get(name, SpecifierSet())
        if not any(accepted.filter(account.with_sdist.get(name, ()))):
            lacking[name] = tuple(accepted.filter(versions, prereleases=True))
    return {name: versions for name, versions in lacking.items() if versions}
