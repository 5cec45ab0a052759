"""What an environment takes, by its own interpreter's word at the moment."""

import os
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.values import make_built_wheel, make_target
from wheelfarm.environment_tags import EnvironmentTags, environment_tags, require_fit
from wheelfarm.errors import BadInterpreter, UnfitTarget
from wheelfarm.target import Target, needs_asking
from wheelfarm.wheel import BuiltWheel

ABI = f"cp{sys.version_info.major}{sys.version_info.minor}"
MACHINE = os.uname().machine
NO_MANYLINUX = "def manylinux_compatible(*_):\n    return False\n"
TARGET = replace(make_target("debian12"), abi=ABI, platform=f"linux-{MACHINE}")


def wheel(platform: str, abi: str = ABI) -> BuiltWheel:
    return make_built_wheel(filename=f"app-1.0-1-{abi}-{abi}-{platform}.whl")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    return folder / "bin" / "python"


def taken(python: Path) -> set[str]:
    tags = environment_tags(python, "here")
    platforms = {"native": f"linux_{MACHINE}", "portable": f"manylinux_2_17_{MACHINE}", "pure": "any"}
    found = {name for name, platform in platforms.items() if name != "pure" and tags.takes(wheel(platform))}
    return found | ({"pure"} if tags.takes(make_built_wheel()) else set())


def site_packages(python: Path) -> Path:
    code = 'import sysconfig; print(sysconfig.get_path("purelib"))'
    return Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())


@pytest.mark.skipif(os.confstr("CS_GNU_LIBC_VERSION") is None, reason="manylinux is glibc's")
def test_manylinux_is_taken_until_site_packages_says_otherwise_and_again_after(python: Path) -> None:
    assert taken(python) == {"native", "portable", "pure"}
    module = site_packages(python) / "_manylinux.py"
    module.write_text(NO_MANYLINUX)
    assert taken(python) == {"native", "pure"}
    module.unlink()
    assert taken(python) == {"native", "portable", "pure"}


def test_what_pythonpath_says_of_manylinux_counts(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_manylinux.py").write_text(NO_MANYLINUX)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert taken(python) == {"native", "pure"}


def test_an_old_packaging_of_the_environments_own_is_not_believed(python: Path) -> None:
    own = site_packages(python) / "packaging"
    own.mkdir()
    (own / "__init__.py").write_text("raise RuntimeError('old')")
    assert "native" in taken(python)
    (own / "__init__.py").unlink()
    own.rmdir()


def test_interpreter_that_tells_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInterpreter, match="does not tell which wheels it takes"):
        environment_tags(Path("/bin/false"), "here")


NATIVE_ONLY = EnvironmentTags(shown="env", tags=frozenset({f"{ABI}-{ABI}-linux_{MACHINE}", "py3-none-any"}))


def test_unfit_wheels_are_named_with_the_targets_that_suit() -> None:
    portable = replace(TARGET, name="portable", tag_policy="portable")
    other = replace(TARGET, name="older", abi="cp38")
    with pytest.raises(
        UnfitTarget, match=r"env does not take what was built for portable: app-1.0-1-.*manylinux"
    ) as error:
        require_fit([wheel(f"manylinux_2_17_{MACHINE}")], portable, NATIVE_ONLY, [portable, TARGET, other])
    assert error.value.hint == f"Targets that suit it: debian12 ({ABI}, linux-{MACHINE}, native)"
    with pytest.raises(UnfitTarget) as error:
        require_fit([wheel(f"manylinux_2_17_{MACHINE}")], portable, NATIVE_ONLY, [portable, other])
    assert error.value.hint.startswith("No target suits it. There are: older (cp38,")
    require_fit([wheel(f"linux_{MACHINE}"), make_built_wheel()], TARGET, NATIVE_ONLY, [])


@pytest.mark.parametrize(
    ("target", "platform", "asked"),
    [
        (replace(TARGET, name="host-x"), f"linux_{MACHINE}", False),
        (replace(TARGET, name="host-x"), "any", False),
        (replace(TARGET, name="host-x"), f"manylinux_2_17_{MACHINE}", True),
        (TARGET, "any", True),
    ],
)
def test_native_wheels_of_the_environments_own_target_need_no_asking(
    target: Target, platform: str, asked: bool
) -> None:
    assert needs_asking([wheel(platform)], target) is asked
