"""Prebuilt exceptions of the policy: one named wheel of upstream, checked and published like a built one."""

import hashlib
import json
import platform
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests.acceptance.conftest import Home
from tests.acceptance.test_policy import AHEAD, ENDED, REFUSED, with_policy
from tests.support.archives import make_zip
from tests.support.projects import Project, record_hash


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel on the upstream index."""

    name: str = "gpu"
    version: str = "1.0"
    tag: str = "py3-none-any"
    told: str = ""
    """The name in its METADATA, where that is another one."""
    requires_dist: str = ""

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-{self.tag}.whl"

    @property
    def data(self) -> bytes:
        info = f"{self.name}-{self.version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {self.told or self.name}\nVersion: {self.version}\n"
        metadata += f"Requires-Dist: {self.requires_dist}\n" if self.requires_dist else ""
        files = {
            f"{self.name}.py": b"ORIGIN = 'prebuilt'\n",
            f"{info}/METADATA": metadata.encode(),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {self.tag}\n".encode(),
        }
        rows = "".join(f"{path},{record_hash(data)},{len(data)}\n" for path, data in files.items())
        return make_zip({**files, f"{info}/RECORD": f"{rows}{info}/RECORD,,\n".encode()})

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def publish(self, home: Home) -> None:
        home.upstream.add_file(self.name, self.filename, self.data)

    def exception(self, *, expires: str = AHEAD, sha256: str = "") -> str:
        return (
            f'[[prebuilt]]\nproject = "{self.name}"\nversion = "{self.version}"\nfilename = "{self.filename}"\n'
            f'sha256 = "{sha256 or self.sha256}"\nreason = "Its sources are secret."\nexpires = {expires}\n'
        )


def test_prebuilt_wheel_of_a_project_without_sdists_is_installed_with_the_rest(home: Home) -> None:
    wheel = Wheel(requires_dist="dep")
    wheel.publish(home)
    home.upstream.add(Project(name="app", requires_dist=["gpu"]), Project(name="dep"))
    policy = with_policy(home, wheel.exception())

    assert (
        "prebuilt: gpu-1.0-py3-none-any.whl: Its sources are secret" in home.run("plan", "app", environment=policy).out
    )
    done = home.run("install", "--target-dir", home.root / "target", "app", environment=policy)

    assert done.code == 0, done.err
    assert (home.root / "target" / "gpu.py").read_text() == "ORIGIN = 'prebuilt'\n"
    assert (home.root / "target" / "dep").is_dir()
    assert "gpu-1.0-1-py3-none-any.whl" in home.wheel_names()  # a name of the farm's own
    assert home.upstream.files_asked.count(wheel.filename) == 1

    [manifest] = [found for found in manifests(home) if found["wheel"]["name"] == "gpu"]
    assert manifest["unstamped_sha256"] == wheel.sha256
    assert manifest["provenance"]["prebuilt"] == {
        "filename": wheel.filename,
        "sha256": wheel.sha256,
        "reason": "Its sources are secret",
        "expires": AHEAD,
    }
    why = home.run("why", "gpu", environment=policy)
    assert f"prebuilt    Its sources are secret (policy's exception, until {AHEAD})" in why.out, why.err
    assert "asked for on" in why.out


def test_prebuilt_wheel_is_a_build_requirement_like_any(home: Home) -> None:
    wheel = Wheel()
    wheel.publish(home)
    write = "import gpu; TINY['modules'] = {'app.py': repr(gpu.ORIGIN)}"
    home.upstream.add(Project(name="app", build_requires=["gpu"], build_code=write))
    policy = with_policy(home, wheel.exception())

    done = home.run("install", "--target-dir", home.root / "target", "app", environment=policy)

    assert done.code == 0, done.err
    assert (home.root / "target" / "app.py").read_text() == "'prebuilt'"
    assert "gpu 1.0" in home.run("why", "app", environment=policy).out


def test_prebuilt_wheel_is_taken_in_place_of_the_sdist_and_other_versions_are_built(home: Home) -> None:
    wheel = Wheel()
    wheel.publish(home)
    home.upstream.add(Project(name="gpu", version="1.0"), Project(name="gpu", version="0.9"))
    policy = with_policy(home, wheel.exception())

    for version in ("1.0", "0.9"):
        done = home.run("build", f"gpu=={version}", environment=policy)
        assert done.code == 0, done.err
    assert set(home.upstream.files_asked) == {wheel.filename, "gpu-0.9.tar.gz"}


def test_without_an_exception_no_wheel_is_fetched(home: Home) -> None:
    wheel = Wheel()
    wheel.publish(home)

    assert home.run("build", "gpu").code == 12
    assert home.upstream.files_asked == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (Wheel().exception(expires=ENDED), "its prebuilt exception expired on 2020-01-01 (Its sources are secret)"),
        (Wheel().exception(sha256="0" * 64), "is not upstream with that sha256"),
        (Wheel().exception() + '[[deny]]\nproject = "gpu"\nreason = "Never."\n', "policy denies gpu 1.0: Never"),
    ],
    ids=["expired", "other-bytes", "denied"],
)
def test_exception_that_does_not_hold_is_told_and_nothing_is_fetched(home: Home, text: str, said: str) -> None:
    Wheel().publish(home)

    done = home.run("build", "gpu", environment=with_policy(home, text))

    assert (done.code, said in done.err) == (REFUSED, True), done.err
    assert home.upstream.files_asked == []


@pytest.mark.parametrize(
    ("wheel", "said"),
    [
        (Wheel(told="other"), "is about 'other'"),
        (Wheel(tag="py3-none-manylinux_2_999_x86_64"), "are not the target's"),
    ],
    ids=["of-another-project", "for-a-newer-libc"],
)
def test_prebuilt_wheel_is_checked_like_a_built_one(home: Home, wheel: Wheel, said: str) -> None:
    wheel.publish(home)

    done = home.run("build", "gpu", environment=with_policy(home, wheel.exception()))

    assert done.code == 23, done.err
    assert any(part in done.err for part in said.split("|")), done.err
    assert home.wheel_names() == []


def test_prebuilt_wheel_for_a_glibc_that_the_machine_has_is_taken(home: Home) -> None:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    wheel = Wheel(tag=f"{python}-{python}-manylinux_2_17_{platform.machine()}")
    wheel.publish(home)

    done = home.run("install", "--venv", "env", "gpu", environment=with_policy(home, wheel.exception()))

    assert (done.code, done.out.split()) == (0, ["gpu==1.0"]), done.err
    assert ["manylinux_2_17" in name for name in home.wheel_names()] == [True]


def test_wheel_is_not_given_out_once_its_exception_has_expired(home: Home) -> None:
    wheel = Wheel()
    wheel.publish(home)
    assert home.run("build", "gpu", environment=with_policy(home, wheel.exception())).code == 0

    for text in (wheel.exception(expires=ENDED), ""):
        done = home.run("build", "gpu", environment=with_policy(home, text))
        assert done.code in (REFUSED, 12), done.err


def manifests(home: Home) -> list[Any]:
    return [json.loads(path.read_text()) for path in home.store.glob("manifests/*.json")]
