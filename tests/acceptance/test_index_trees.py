"""Trees of today's build backends, whose sdists and versions they make themselves: on the machine's own index."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.conftest import Home
from wheelfarm_services.upstreams import default_index_url

pytestmark = pytest.mark.index

SYSTEM = '[build-system]\nrequires = {requires}\nbuild-backend = "{backend}"\n'
TREES = {
    "by-scm": (
        SYSTEM.format(requires='["setuptools>=64", "setuptools-scm>=8"]', backend="setuptools.build_meta")
        + '[project]\nname = "by-scm"\ndynamic = ["version"]\n[tool.setuptools_scm]\n'
    ),
    "by-vcs": (
        SYSTEM.format(requires='["hatchling", "hatch-vcs"]', backend="hatchling.build")
        + '[project]\nname = "by-vcs"\ndynamic = ["version"]\n[tool.hatch.version]\nsource = "vcs"\n'
    ),
    "by-flit": (
        SYSTEM.format(requires='["flit_core"]', backend="flit_core.buildapi")
        + '[project]\nname = "by-flit"\nversion = "1.2.3"\ndescription = "x"\n'
    ),
    "by-poetry": (
        SYSTEM.format(requires='["poetry-core"]', backend="poetry.core.masonry.api")
        + '[tool.poetry]\nname = "by-poetry"\nversion = "1.2.3"\ndescription = ""\nauthors = []\n'
        + 'packages = [{include = "by_poetry", from = "src"}]\n'
    ),
}
LEGACY = (
    "from setuptools import setup\n"
    "setup(name='by-legacy', version='1.2.3', packages=['by_legacy'], package_dir={'': 'src'})\n"
)


def make_tree(root: Path, name: str, files: dict[str, str]) -> Path:
    """A tree of one package, committed and tagged."""
    package = root / name / "src" / name.replace("-", "_")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('"""A package."""\n')
    for file, text in files.items():
        (root / name / file).write_text(text)
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"], ["tag", "v1.2.3"]):
        subprocess.run([*git, *words], cwd=root / name, check=True, capture_output=True)
    return root / name


def test_trees_of_every_common_backend_are_installed_with_the_version_of_their_tag(home: Home) -> None:
    home.settings["WHEELFARM_INDEX"] = default_index_url(os.environ)
    trees = [make_tree(home.root, name, {"pyproject.toml": text}) for name, text in TREES.items()]
    trees.append(make_tree(home.root, "by-legacy", {"setup.py": LEGACY}))

    done = home.run("install", "--target-dir", "filled", *trees, timeout_s=600)

    assert done.code == 0, done.err
    assert sorted(done.out.split()) == sorted(f"{tree.name}==1.2.3" for tree in trees)
    assert all((home.root / "filled" / tree.name.replace("-", "_") / "__init__.py").exists() for tree in trees)
