import os
import tarfile
from pathlib import Path

import pytest

from wheelfarm.errors import InputError, SandboxUnavailable
from wheelfarm_workers.root_sources import bring_root, debian_mirror
from wheelfarm_workers.roots import Roots

DIGEST = "sha256:" + "a" * 64
TOOL = """#!/bin/sh
echo "$@" >> {log}
case "$1 $2" in
    "image inspect") exit 1 ;;
    create*) echo c0ffee ;;
    export*) cp {image} "$3" ;;
esac
"""


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(tmp_path / "targets", tmp_path / "cache")


def fake(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("debian", "is no source of a target"),
        ("debootstrap:", "is no source of a target"),
        ("ftp:x", "is no source of a target"),
        ("debootstrap:--help", "is not the name of a Debian suite"),
        ("oci:debian:12", "names no image by its digest"),
        (f"oci:--all@{DIGEST}", "names no image by its digest"),
        ("tar:/nowhere/x.tar", "can't be read"),
    ],
)
def test_sources_that_are_none_are_refused(roots: Roots, source: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        bring_root(source, roots)


def test_what_is_debootstraps_alone_is_refused_elsewhere(roots: Roots) -> None:
    with pytest.raises(InputError, match="are for debootstrap"):
        bring_root("tar:x", roots, packages=["gcc"])


def test_an_images_files_are_pulled_once_exported_and_its_container_removed(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("of the image")
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.add(tmp_path / "file", "usr/file")
    log = tmp_path / "log"
    fake(tmp_path / "bin", "podman", TOOL.format(log=log, image=tmp_path / "image.tar"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    sha256 = bring_root(f"oci:example/debian@{DIGEST}", roots)
    assert (roots.root(sha256).folder / "usr" / "file").read_text() == "of the image"
    verbs = [line.split()[0] for line in log.read_text().splitlines()]
    assert verbs == ["image", "pull", "create", "export", "rm"]


def test_image_whose_digest_is_gone_is_told_with_what_the_registry_said(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path / "bin", "podman", '#!/bin/sh\necho "manifest unknown" >&2\nexit 125\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(SandboxUnavailable, match=rf"example/debian@{DIGEST} can't be had: manifest unknown"):
        bring_root(f"oci:example/debian@{DIGEST}", roots)


def test_without_podman_and_docker_an_image_cannot_be_had(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="Neither podman nor docker") as error:
        bring_root(f"oci:debian@{DIGEST}", roots)
    assert "apt-get install podman" in error.value.hint


def test_the_mirror_is_apts_own_first_one_that_is_not_for_security(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, "apt-get", "#!/bin/sh\nprintf 'http://m.example/debian-security/\\nhttp://m.example/debian/\\n'\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert debian_mirror() == "http://m.example/debian"


def test_without_a_mirror_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "apt-get", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxUnavailable, match="apt has no mirror"):
        debian_mirror()


def test_user_without_root_has_debian_made_by_mmdebstrap(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("of Debian")
    with tarfile.open(tmp_path / "made.tar", "w") as archive:
        archive.add(tmp_path / "file", "usr/file")
    folder, log = tmp_path / "bin", tmp_path / "log"
    fake(folder, "apt-get", "#!/bin/sh\necho http://m.example/debian/\n")
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    script = f'#!/bin/sh\necho "$@" >{log}\neval "archive=\\${{$(($# - 1))}}"\ncp {tmp_path}/made.tar "$archive"\n'
    fake(folder, "mmdebstrap", script)
    sha256 = bring_root("debootstrap:bookworm", roots, packages=["libyaml-dev"])
    assert (roots.root(sha256).folder / "usr" / "file").read_text() == "of Debian"
    said = log.read_text()
    assert "--mode=unshare" in said
    assert "libyaml-dev" in said
    assert said.endswith("http://m.example/debian\n")

    fake(folder, "mmdebstrap", "#!/bin/sh\necho 'E: no such suite' >&2\nexit 1\n")
    with pytest.raises(InputError, match="could not make bookwurm: E: no such suite"):
        bring_root("debootstrap:bookwurm", roots)


def test_user_without_root_and_mmdebstrap_is_told_of_it(
    roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(SandboxUnavailable, match="works as root only") as error:
        bring_root("debootstrap:bookworm", roots)
    assert "apt-get install mmdebstrap uidmap" in error.value.hint


def test_what_others_bring_meanwhile_stays_where_something_fails(roots: Roots, tmp_path: Path) -> None:
    sha256s = []
    for name in ("theirs", "ours"):
        (tmp_path / name).write_text(name)
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.add(tmp_path / name, name)
    others = Roots(tmp_path / "targets", tmp_path / "cache")
    with pytest.raises(InputError), roots.kept_if_well():
        sha256s += [others.keep_archive(tmp_path / "theirs.tar"), roots.keep_archive(tmp_path / "ours.tar")]
        assert [roots.archive(sha256).exists() for sha256 in sha256s] == [True, True]
        raise InputError("It has no compiler.")
    assert [roots.archive(sha256).exists() for sha256 in sha256s] == [True, False]
