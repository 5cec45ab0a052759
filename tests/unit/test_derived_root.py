from pathlib import Path

import pytest

from wheelfarm.derived_root import DerivedRoot, derived_of, find_derived
from wheelfarm.errors import InputError, SandboxUnavailable, SystemPackagesMissing
from wheelfarm_workers.debian_packages import lacking, require_installed
from wheelfarm_workers.root_derivation import derive_root
from wheelfarm_workers.roots import Roots

BASE, ROOT = "a" * 64, "b" * 64
NOTE = DerivedRoot(base=BASE, packages=("libffi-dev", "libyaml-dev"), root=ROOT)


def test_note_is_found_by_its_base_and_its_packages_in_any_order(tmp_path: Path) -> None:
    path = NOTE.write(tmp_path)
    assert find_derived(tmp_path, BASE, ["libyaml-dev", "libffi-dev", "libyaml-dev"]) == NOTE
    assert find_derived(tmp_path, BASE, ["libyaml-dev"]) is None
    assert find_derived(tmp_path, ROOT, NOTE.packages) is None
    assert derived_of(tmp_path, BASE) == {path: NOTE}
    assert derived_of(tmp_path, ROOT) == {}


@pytest.mark.parametrize("text", ["", "{}", '{"base": "a", "packages": [], "root": "../../etc"}', "[]"])
def test_file_that_is_no_note_is_refused(text: str, tmp_path: Path) -> None:
    NOTE.write(tmp_path).write_text(text)
    with pytest.raises(InputError, match="is no note"):
        find_derived(tmp_path, BASE, NOTE.packages)


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    roots = Roots(tmp_path, tmp_path / "cache")
    NOTE.write(tmp_path)
    (tmp_path / "roots").mkdir()
    roots.archive(ROOT).touch()
    assert derive_root(tmp_path, roots, BASE, NOTE.packages) == NOTE


def test_packages_of_the_machine_itself_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\necho 'libffi-dev installed'\necho 'libyaml-dev not-installed'\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    require_installed(["libffi-dev"])
    with pytest.raises(SystemPackagesMissing, match="asks for libyaml-dev, which") as error:
        require_installed(["libffi-dev", "libyaml-dev"])
    assert "apt-get install libyaml-dev" in error.value.hint


def test_packages_that_a_root_filesystem_has_are_known_by_its_dpkg(tmp_path: Path) -> None:
    assert lacking(tmp_path, ["zlib1g-dev", "libyaml-dev"]) == ("libyaml-dev", "zlib1g-dev")
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    entry = "Package: {}\nStatus: {}\nVersion: 1\n\n"
    told = [("zlib1g-dev", "install ok installed"), ("libffi-dev", "deinstall ok config-files")]
    status.write_text("".join(entry.format(*one) for one in told))
    assert lacking(tmp_path, ["zlib1g-dev", "libffi-dev"]) == ("libffi-dev",)


def test_user_without_root_derives_in_a_namespace_or_is_told_what_that_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = Roots(tmp_path, tmp_path / "cache")
    unshare = tmp_path / "unshare"
    unshare.write_text(f'#!/bin/sh\necho \'{{"root": "{ROOT}"}}\'\n')
    unshare.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.getuid", lambda: 1000)
    assert derive_root(tmp_path, roots, BASE, ["libyaml-dev"]).root == ROOT
    unshare.write_text('#!/bin/sh\necho \'{"message": "No such package.", "hint": "Look."}\'\n')
    with pytest.raises(InputError, match="No such package") as refused:
        derive_root(tmp_path, roots, BASE, ["libyaml-dev"])
    assert refused.value.hint == "Look."
    unshare.write_text("#!/bin/sh\necho 'unshare: no line matching user in /etc/subuid' >&2\nexit 1\n")
    with pytest.raises(SandboxUnavailable, match="/etc/subuid") as failed:
        derive_root(tmp_path, roots, BASE, ["libyaml-dev"])
    assert "apt-get install uidmap" in failed.value.hint
