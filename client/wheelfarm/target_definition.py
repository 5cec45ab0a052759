"""Definitions of targets: one TOML file a target, which `wheelfarm target add` writes and an operator may edit.

from = "debootstrap:bookworm"                  # what it was made from, for people
sandbox = "bubblewrap"                         # the back end; or podman, or docker
root = "sha256:…"                              # the root filesystem's archive, in roots/ beside this file;
                                               # left out: this machine's own /usr
distribution = "3.12.1+20261120 sha256:…"      # the Python distribution that the farm keeps (docs/pythons.md);
                                               # left out: an interpreter that is there
python = "/usr/bin/python3.11"                 # in the root filesystem, or on this machine
tag-policy = "native"                          # or portable
variant = "avx2"                               # tells apart targets whose wheels bear the same tags
environment = { CFLAGS = "-O2 -mavx2" }
system-packages = ["libyaml-dev"]              # what the root filesystem was given
external-libraries = ["libcuda.so.1"]          # portable: what a wheel may leave to the machine it is used on
limits = { timeout-s = 7200, memory-mib = 16384, disk-mib = 8192, cores = 1 }
resource-class = "large"                       # only workers of that class build for it

[interpreter]                                  # what the Python of a root filesystem or a distribution tells of itself
version = "3.11.2"
abi = "cp311"
platform = "linux-x86_64"
prefix = "/usr"
"""

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from wheelfarm.digest import SHA256, digest_of
from wheelfarm.errors import InputError
from wheelfarm.recipe import RecipeLimits, read_environment, read_limits, read_packages
from wheelfarm.settings import RESOURCE_CLASS
from wheelfarm.target import HOST_QUEUE, TARGET_NAME, Target, host_toolchain
from wheelfarm.toml_table import Table, load_toml, read_text

BackEnd = Literal["bubblewrap", "podman", "docker"]
TagPolicy = Literal["native", "portable"]
ROOTS = "roots"

_LIBRARY = re.compile(r"[A-Za-z0-9_.+-]{1,100}")
_VARIANT = re.compile(r"[a-z0-9]?[a-z0-9._-]{0,30}")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9.+_-]{1,100} sha256:([0-9a-f]{64})")
_FACTS: Mapping[str, re.Pattern[str]] = {
    "version": re.compile(r"\d+\.\d+\.\d+[a-z0-9]*"),
    "abi": re.compile(r"cp\d+t?d?"),
    "platform": re.compile(r"linux-[a-z0-9_]+"),
    "prefix": re.compile(r"/[A-Za-z0-9._+/-]*"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetDefinition:
    """A target as its operator defines it. `root` is the sha256 of a root filesystem's archive, "" where builds stand
    on this machine's /usr; `distribution` the farm's Python distribution, `REFERENCE sha256:HEX`, "" for an interpreter
    that is there; `interpreter` what the Python of either told of itself, empty without them."""

    name: str
    made_from: str = ""
    sandbox: BackEnd = "bubblewrap"
    root: str = ""
    distribution: str = ""
    python: str = ""
    tag_policy: TagPolicy = "native"
    variant: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    system_packages: tuple[str, ...] = ()
    external_libraries: tuple[str, ...] = ()
    limits: RecipeLimits = field(default_factory=RecipeLimits)
    resource_class: str = ""
    interpreter: Mapping[str, str] = field(default_factory=dict)

    @property
    def distribution_sha256(self) -> str:
        """The sha256 of the distribution's archive, "" without one."""
        return self.distribution.rpartition(":")[2]

    def target(self, host: Callable[[str], Target]) -> Target:
        """The target in the revision that it has now; `host` gives this machine's own, of an interpreter's path."""
        own = {
            "sandbox": self.sandbox,
            "tag_policy": self.tag_policy,
            "variant": self.variant,
            "environment": dict(self.environment),
            "external_libraries": sorted(self.external_libraries),
        }
        base = None if self.interpreter else host(self.python)
        stands_on: list[object] = [self.root, self.python, dict(self.interpreter)] if base is None else [base.revision]
        if self.distribution:
            stands_on += [self.distribution_sha256, "" if self.root else host_toolchain()]
        return Target(
            name=self.name,
            revision=digest_of(["target", *stands_on, own]),
            queue=HOST_QUEUE,
            python=base.python if base else self.python,
            prefix=base.prefix if base else self.interpreter["prefix"],
            python_version=base.python_version if base else self.interpreter["version"],
            abi=base.abi if base else self.interpreter["abi"],
            platform=base.platform if base else self.interpreter["platform"],
            sandbox=self.sandbox,
            root=self.root,
            interpreter=self.distribution,
            tag_policy=self.tag_policy,
            variant=self.variant,
        )

    def to_toml(self) -> str:
        """The file's text."""
        limits = {name.replace("_", "-"): getattr(self.limits, name) for name in RecipeLimits.__slots__}
        values: dict[str, Any] = {
            "from": self.made_from,
            "sandbox": self.sandbox,
            "root": f"sha256:{self.root}" if self.root else "",
            "distribution": self.distribution,
            "python": self.python,
            "tag-policy": self.tag_policy,
            "variant": self.variant,
            "environment": dict(self.environment),
            "system-packages": list(self.system_packages),
            "external-libraries": list(self.external_libraries),
            "limits": {name: value for name, value in limits.items() if value},
            "resource-class": self.resource_class,
        }
        lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value]
        if self.interpreter:
            lines += ["", "[interpreter]", *(f"{key} = {_toml(value)}" for key, value in self.interpreter.items())]
        return "\n".join(lines) + "\n"


def read_definitions(folder: Path) -> dict[str, TargetDefinition]:
    """Every definition of a folder, by name; none where there is no such folder. Raises InputError for a bad file."""
    return {path.stem: read_definition(path) for path in sorted(folder.glob("*.toml"))}


def read_definition(path: Path) -> TargetDefinition:
    """The definition in a file. Raises InputError naming the file and the key."""
    return parse_definition(read_text(path), name=path.stem, origin=str(path))


def parse_definition(text: str, *, name: str, origin: str) -> TargetDefinition:
    """The definition of a file's text. Raises InputError."""
    require_name(name)
    table = Table(load_toml(text, origin), origin)
    root = table.take("root", str, "").removeprefix("sha256:")
    if root and not SHA256.fullmatch(root):
        raise table.refused("root", "sha256: and 64 hex digits are expected")
    distribution = table.take("distribution", str, "")
    if distribution and not _DISTRIBUTION.fullmatch(distribution):
        raise table.refused("distribution", "REFERENCE sha256: and 64 hex digits are expected")
    definition = TargetDefinition(
        name=name,
        made_from=table.take("from", str, ""),
        sandbox=_one_of(table, "sandbox", BackEnd, "bubblewrap"),
        root=root,
        distribution=distribution,
        python=table.take("python", str, ""),
        tag_policy=_one_of(table, "tag-policy", TagPolicy, "native"),
        variant=_form(table, "variant", _VARIANT),
        environment=read_environment(table),
        system_packages=read_packages(table),
        external_libraries=_list(table, "external-libraries", _LIBRARY),
        limits=read_limits(table),
        resource_class=_form(table, "resource-class", RESOURCE_CLASS, absent=""),
        interpreter=_interpreter(table, wanted=bool(root or distribution)),
    )
    table.end()
    if not definition.python.startswith("/"):
        raise table.refused("python", "an absolute path is expected")
    return definition


def require_name(name: str) -> None:
    """Raise InputError for what can't be a defined target's name: those of `host` are made up from what it is."""
    if not TARGET_NAME.fullmatch(name) or name == "host" or name.startswith("host-"):
        raise InputError(
            f"{name!r} can't be the name of a target.",
            hint="Lower-case letters, digits, . _ and -, 100 at most; names beginning with host- are the farm's own.",
        )


def unknown_target(name: str, known: Iterable[str], where: str) -> InputError:
    """The error for a target that `where` does not know, with the names that are near."""
    names = sorted(set(known))
    return InputError(
        f"{where} knows no target {name!r}. {near_names(name, names) or 'None is known.'}",
        hint="wheelfarm target list" if names else f"Define it: wheelfarm target add {name} --from … (docs/targets.md)",
    )


def near_names(name: str, names: Collection[str], told: str = "Known") -> str:
    """A sentence of the names that are near one, or of all as what they are `told` to be; "" without any."""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    every = f"{told}: {', '.join(sorted(names))}." if names else ""
    return f"Near: {', '.join(near)}." if near else every


def _interpreter(table: Table, *, wanted: bool) -> dict[str, str]:
    facts = Table(table.take("interpreter", dict, {}), f"{table.origin}, interpreter")
    told = {key: facts.take(key, str, "") for key in _FACTS}
    facts.end()
    if not wanted:
        if any(told.values()):
            raise table.refused("interpreter", "there is no 'root' or 'distribution' whose Python it could tell of")
        return {}
    for key, form in _FACTS.items():
        if not form.fullmatch(told[key]):
            raise facts.refused(key, f"{told[key]!r} is none; let wheelfarm target add write it")
    return told


def _one_of(table: Table, key: str, kind: Any, absent: Any) -> Any:
    value = table.take(key, str, absent)
    if value not in get_args(kind):
        raise table.refused(key, f"{' or '.join(get_args(kind))} is expected, not {value!r:.80}")
    return value


def _form(table: Table, key: str, form: re.Pattern[str], *, absent: str = "") -> str:
    value = table.take(key, str, absent)
    if value != absent and not form.fullmatch(value):
        raise table.refused(key, f"lower-case letters, digits, . _ and - are expected, not {value!r:.80}")
    return value


def _list(table: Table, key: str, form: re.Pattern[str]) -> tuple[str, ...]:
    values = table.take(key, list, [])
    if wrong := [value for value in values if not isinstance(value, str) or not form.fullmatch(value)]:
        raise table.refused(key, f"{wrong[0]!r:.80} is no name of one")
    return tuple(values)


def _toml(value: str | Sequence[str] | Mapping[str, object]) -> str:
    """A value as TOML; its strings are JSON's, but for DEL, which none of ours has."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {json.dumps(one)}" for key, one in value.items()) + " }"
    return json.dumps(value)
