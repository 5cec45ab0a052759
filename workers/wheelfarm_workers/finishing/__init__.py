"""What becomes of a built wheel before it is published: its needs are read, and it is made portable where that is the
target's policy, in a clean sandbox of the target, since its ELF files are the work of whoever wrote the sdist."""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wheelfarm.errors import BadWheel
from wheelfarm.target import portable_tags
from wheelfarm_workers.answer import read_answer
from wheelfarm_workers.build import BUILD_ENVIRONMENT
from wheelfarm_workers.driver import MOUNTED_AT, Driver, lay_out
from wheelfarm_workers.grounds import Grounds
from wheelfarm_workers.hold import Hold
from wheelfarm_workers.library_packages import library_packages
from wheelfarm_workers.plan import StagedSdist
from wheelfarm_workers.sandbox import Limits, Mount
from wheelfarm_workers.wheel_check import CheckedWheel, check_wheel

_LIBRARIES = ("abi3info", "auditwheel", "elftools", "packaging")
_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,100}")
_VERSION = re.compile(r"\d+(\.\d+){0,3}")
_ABI3 = re.compile(r"-cp(\d)(\d+)-abi3-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """What a wheel with a platform tag needs of the machine that it is used on.

    `needs` are the shared libraries that are not in it, `packages` those of them whose Debian package the target's
    system names, `versions` the highest symbol versions of glibc's and libstdc++'s; `elf_files` 0 tells that what the
    tag stands for was left out of the build. `beyond_abi3` are symbols that its abi3 tag does not allow for.
    """

    elf_files: int
    needs: tuple[str, ...] = ()
    packages: Mapping[str, str]
    versions: Mapping[str, str]
    beyond_abi3: tuple[str, ...] = ()
    portable: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def lay_out_finisher(cache: Path, work: Path) -> Driver:
    """The finisher's script and its libraries, in a folder of their own."""
    script = Path(__file__).with_name("inside.py")
    return lay_out("finisher", script, _LIBRARIES, cache, work, distributions=["auditwheel"])


class Finisher:
    """Finishes wheels; those without a platform tag are finished as they come."""

    def __init__(self, *, grounds: Grounds, tools: Driver, limits: Limits) -> None:
        self._grounds = grounds
        self._tools = tools
        self.digest = tools.digest
        self._limits = limits

    def finish(
        self, staged: StagedSdist, checked: CheckedWheel, hold: Hold, work: Path, *, source_date_epoch: int
    ) -> tuple[CheckedWheel, Fit | None]:
        """The wheel to publish, and what it needs. Raises BadWheel where a portable target's wheel can't be made so."""
        if checked.filename.endswith("-any.whl"):
            return checked, None
        target, ground = staged.target, self._grounds.of(staged.target, derived=staged.derived)
        portable = target.tag_policy == "portable"
        abi3 = _ABI3.search(checked.filename)
        task = {
            "filename": checked.filename,
            "portable": portable,
            "external": list(ground.external_libraries),
            "abi3": [int(abi3[1]), int(abi3[2])] if abi3 else None,
        }
        run = ground.command(
            (target.python, "-I", "-S", self._tools.script),
            input=json.dumps(task).encode(),
            limits=self._limits,
            mounts=(
                Mount(source=self._tools.folder, target=MOUNTED_AT),
                Mount(source=checked.path, target="/in/wheel"),
            ),
            environment={**BUILD_ENVIRONMENT, "SOURCE_DATE_EPOCH": str(source_date_epoch)},
        )
        checked.path.chmod(0o644)
        result = ground.sandbox.run(run, log=hold.log, cancelled=hold.cancelled)
        answer = read_answer(result, f"finishing {checked.filename}", self._limits)
        with answer.body:
            fit = _fit(answer.facts, ground.root.folder if ground.root else Path("/"), portable=portable)
            if not fit.elf_files:
                hold.log(_left_out(checked.filename).encode())
            if portable:
                _require_portable(staged, checked, fit, answer.facts)
                path = work / "portable.whl"
                with path.open("wb") as copy:
                    shutil.copyfileobj(answer.body, copy, 1 << 20)
                checked = check_wheel(path, str(answer.facts["filename"]), staged.job.sdist, portable_tags(target))
        return checked, fit


def _fit(facts: Mapping[str, Any], root: Path, *, portable: bool) -> Fit:
    """The facts as far as they have the form of such."""
    needs = tuple(name for name in _strings(facts.get("needs")) if _NAME.fullmatch(name))
    told = facts.get("versions")
    versions = told if isinstance(told, dict) else {}
    return Fit(
        elf_files=elf if isinstance(elf := facts.get("elf"), int) else 0,
        needs=needs,
        packages=library_packages(root, needs),
        versions={
            str(name): version
            for name, version in sorted(versions.items())
            if _NAME.fullmatch(str(name)) and isinstance(version, str) and _VERSION.fullmatch(version)
        },
        beyond_abi3=tuple(name for name in _strings(facts.get("abi3")) if _NAME.fullmatch(name)),
        portable=portable,
    )


def _require_portable(staged: StagedSdist, checked: CheckedWheel, fit: Fit, facts: Mapping[str, Any]) -> None:
    sdist = staged.job.sdist
    if not fit.elf_files:
        raise BadWheel(
            f"The wheel of {sdist} ({checked.filename}) is for one platform and has nothing of it: {_LEFT_OUT}",
            hint="Give the target what the extension needs (system packages), or build it for a native target.",
        )
    if fit.beyond_abi3:
        raise BadWheel(
            f"The wheel of {sdist} ({checked.filename}) is tagged abi3 and uses what is not of that limited API: "
            f"{', '.join(fit.beyond_abi3[:5])}.",
            hint="Have its build leave the abi3 tag out (a recipe's config-settings or environment).",
        )
    if not isinstance(facts.get("filename"), str):
        said = str(facts.get("failed") or "auditwheel said nothing")[-800:]
        raise BadWheel(
            f"The wheel of {sdist} can't be made portable: {said}",
            hint="Libraries that its users have may be left out of it: external-libraries in the target's definition.",
        )


_LEFT_OUT = "an optional extension was left out, most likely for want of a compiler, a header or a library."


def _left_out(filename: str) -> str:
    return f"wheelfarm: {filename} is for one platform and has no ELF file: {_LEFT_OUT}\n"


def _strings(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
