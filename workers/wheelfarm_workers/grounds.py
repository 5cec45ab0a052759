"""What builds stand on: for each target its sandbox back end, its root filesystem, its environment and its limits."""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from wheelfarm.derived_root import find_derived
from wheelfarm.errors import InputError, SystemPackagesMissing
from wheelfarm.recipe import RecipeLimits
from wheelfarm.target import Target, host_target
from wheelfarm.target_definition import TargetDefinition, read_definitions, unknown_target
from wheelfarm_workers.cache_bound import use
from wheelfarm_workers.debian_packages import lacking, require_installed
from wheelfarm_workers.distributions import Distributions
from wheelfarm_workers.machines import require_runnable
from wheelfarm_workers.roots import Roots
from wheelfarm_workers.sandbox import Limits, Mount, Root, Sandbox, SandboxRun
from wheelfarm_workers.sandbox.back_ends import BackEnds

_NONE: Mapping[str, str] = MappingProxyType({})
DAY_S = 86400.0
"""For how long what a target stands on is held after it was asked for: longer than builds usually take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What the runs of one target have in common; `interpreter_prefix` is None where the root has the interpreter, or
    one of the `mounts` shows it."""

    sandbox: Sandbox
    interpreter_prefix: Path | None
    root: Root | None = None
    mounts: tuple[Mount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: RecipeLimits = field(default_factory=RecipeLimits)
    external_libraries: tuple[str, ...] = ()

    def command(
        self,
        argv: tuple[str, ...],
        *,
        input: bytes,
        limits: Limits,
        mounts: Iterable[Mount] = (),
        directories: tuple[str, ...] = (),
        symlinks: Mapping[str, str] = _NONE,
        environment: Mapping[str, str] = _NONE,
    ) -> SandboxRun:
        """A command on this ground, for its sandbox to run: it sees what the ground has, and `mounts` beside."""
        return SandboxRun(
            argv=argv,
            input=input,
            interpreter_prefix=self.interpreter_prefix,
            root=self.root,
            limits=limits,
            mounts=(*self.mounts, *mounts),
            directories=directories,
            symlinks=symlinks,
            environment=environment,
        )

    @property
    def unpacked(self) -> list[Path]:
        """What of it lies in the machine's cache."""
        return [*((self.root.folder,) if self.root else ()), *(mount.source for mount in self.mounts)]


class Grounds(Protocol):
    def of(self, target: Target, *, derived: str = "", for_s: float = DAY_S) -> Ground:
        """What to run a target's builds on, which stays for that long; `derived` is the sha256 of a root filesystem
        instead of the target's. Raises InputError where this machine lacks what its definition names."""
        ...

    def derived(self, target: Target, packages: Collection[str]) -> str:
        """The sha256 of the root filesystem that has what a target's has, and packages beside; "" for the target's own,
        also where that has them.

        Raises SystemPackagesMissing where there is none, or where this machine's own /usr lacks one of them.
        """
        ...


class Definitions:
    """The targets that this machine's folder of definitions has, in the revisions that they have now."""

    def __init__(self, folder: Path, *, cache: Path, resource_class: str = "") -> None:
        self.folder = folder
        self._memory = cache / "targets"
        self._resource_class = resource_class

    def target(self, name: str) -> Target:
        """The target of that name. Raises InputError where none is defined or it wants another sort of machine."""
        definitions = read_definitions(self.folder)
        if name not in definitions:
            raise unknown_target(name, ["host", *definitions], f"This worker ({self.folder})")
        wanted = definitions[name].resource_class
        if wanted and wanted != self._resource_class:
            raise InputError(
                f"The target {name} is for workers of the resource class {wanted}, and this one is "
                f"{f'of {self._resource_class}' if self._resource_class else 'of none'}.",
                hint=f"Start this worker with WHEELFARM_RESOURCE_CLASS={wanted} if its machine is such a one.",
            )
        return self._made(definitions[name])

    def definition(self, target: Target) -> TargetDefinition | None:
        """The definition of a target in just that revision; None where there is none."""
        found = read_definitions(self.folder).get(target.name)
        return found if found is not None and self._made(found).revision == target.revision else None

    def _made(self, definition: TargetDefinition) -> Target:
        return definition.target(
            lambda python: host_target(Path(python), sandbox=definition.sandbox, memory=self._memory)
        )


class DefinedGrounds:
    """Grounds of this machine's defined targets, and of its host targets, which stand on the back end `host`."""

    def __init__(
        self,
        *,
        definitions: Definitions,
        roots: Roots,
        distributions: Distributions,
        back_ends: BackEnds,
        host: str,
    ) -> None:
        self._definitions = definitions
        self._roots = roots
        self._distributions = distributions
        self._back_ends = back_ends
        self._host = host
        self._known: dict[str, Ground] = {}
        self._lock = threading.Lock()

    def of(self, target: Target, *, derived: str = "", for_s: float = DAY_S) -> Ground:
        key = f"{target.revision} {derived}"
        with self._lock:
            known = self._known.get(key)
            if known is None or not all(use(path, for_s=for_s) for path in known.unpacked):
                known = self._found(target, for_s)
                if derived:
                    known = replace(known, root=self._roots.root(derived, for_s=for_s))
                self._known[key] = known
            return known

    def derived(self, target: Target, packages: Collection[str]) -> str:
        if not packages:
            return ""
        if not target.root:
            require_installed(packages)
            return ""
        if not (wanted := lacking(self._roots.root(target.root, for_s=DAY_S).folder, packages)):
            return ""
        if (found := find_derived(self._definitions.folder, target.root, wanted)) is None:
            command = f"wheelfarm target derive {target.name} --package {' --package '.join(wanted)}"
            raise SystemPackagesMissing(
                f"A recipe asks for {', '.join(wanted)}, which the system of {target.name} has not been given.",
                hint=f"On the worker's machine: {command}; then again, with --retry",
            )
        return found.root

    def _found(self, target: Target, for_s: float) -> Ground:
        if target.name.startswith("host-"):
            sandbox = self._back_ends.back_end(self._host)
            return Ground(sandbox=sandbox, interpreter_prefix=Path(target.prefix))
        definition = self._definitions.definition(target)
        if definition is None:
            raise InputError(
                f"This machine does not define the target {target.name} in revision {target.revision[:12]}.",
                hint="Its definition was changed or removed since: see wheelfarm target show, and ask again.",
            )
        return ground_of(
            target,
            definition,
            roots=self._roots,
            distributions=self._distributions,
            back_ends=self._back_ends,
            for_s=for_s,
        )


def ground_of(
    target: Target,
    definition: TargetDefinition,
    *,
    roots: Roots,
    distributions: Distributions,
    back_ends: BackEnds,
    for_s: float = DAY_S,
) -> Ground:
    """The ground of a target as it is defined, to be used for that long. Raises InputError where its root filesystem or
    its interpreter is gone, and SandboxUnavailable where it is for a machine of which this one runs no programs."""
    require_runnable(target.machine)
    root = roots.root(definition.root, for_s=for_s) if definition.root else None
    shown = definition.distribution_sha256
    distribution = distributions.mount(shown, for_s=for_s) if shown else None
    return Ground(
        sandbox=back_ends.back_end(definition.sandbox),
        interpreter_prefix=None if root or distribution else Path(target.prefix),
        root=root,
        mounts=(distribution,) if distribution else (),
        environment=definition.environment,
        limits=definition.limits,
        external_libraries=definition.external_libraries,
    )
