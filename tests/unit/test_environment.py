from pathlib import Path

import pytest

from tests.support.values import make_built_wheel, make_target
from wheelfarm.errors import FarmUnavailable
from wheelfarm_workers.environment import Environment, Tree, TreeCache, compose, tree_key, write_configuration

TARGET = make_target()
SITE = TARGET.site_packages


class Trees:
    """Trees made of paths, and the environment that they compose to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trees: list[Tree] = []

    def add(self, name: str, *paths: str) -> None:
        folder = self.root / name
        for path in paths:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(b"")
        self.trees.append(Tree(wheel=make_built_wheel(name), folder=folder))

    def compose(self) -> Environment:
        return compose(self.trees, TARGET, self.root / "pyvenv.cfg")


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


def resolve(environment: Environment, path: str) -> str:
    """What stands at a path of the environment: a path of a mounted tree, "directory", or "" for nothing."""
    whole = f"/env/{path}"
    if whole in environment.directories:
        return "directory"
    for link, target in environment.symlinks.items():
        if whole == link or whole.startswith(f"{link}/"):
            return target + whole.removeprefix(link)
    return ""


def test_environment_without_trees_is_a_skeleton_with_an_interpreter(trees: Trees) -> None:
    environment = trees.compose()
    assert environment.python == "/env/bin/python"
    assert environment.directories == (
        *("/env", "/env/bin", "/env/lib", "/env/lib/python3.11", "/env/lib/python3.11/site-packages"),
    )
    assert environment.symlinks == {"/env/bin/python": TARGET.python, "/env/bin/python3": TARGET.python}
    assert [(mount.source, mount.target) for mount in environment.mounts] == [
        (trees.root / "pyvenv.cfg", "/env/pyvenv.cfg")
    ]


def test_directory_of_one_tree_is_one_link(trees: Trees) -> None:
    trees.add("a", f"{SITE}/a/__init__.py", f"{SITE}/a/sub/x.py", f"{SITE}/a-1.0.dist-info/METADATA", "share/a/doc")
    environment = trees.compose()
    assert {link: target for link, target in environment.symlinks.items() if "/bin/" not in link} == {
        f"/env/{SITE}/a": f"/w/0/{SITE}/a",
        f"/env/{SITE}/a-1.0.dist-info": f"/w/0/{SITE}/a-1.0.dist-info",
        "/env/share": "/w/0/share",
    }
    tree = environment.mounts[0]
    assert (tree.source, tree.target, tree.writable) == (trees.root / "a", "/w/0", False)


def test_namespace_that_trees_share_is_merged_as_deep_as_they_share_it(trees: Trees) -> None:
    trees.add("a", f"{SITE}/ns/one/__init__.py", f"{SITE}/ns/both/a.py")
    trees.add("b", f"{SITE}/ns/two/__init__.py", f"{SITE}/ns/both/b.py")
    environment = trees.compose()
    assert resolve(environment, f"{SITE}/ns") == "directory"
    assert resolve(environment, f"{SITE}/ns/both") == "directory"
    assert resolve(environment, f"{SITE}/ns/one/__init__.py") == f"/w/0/{SITE}/ns/one/__init__.py"
    assert resolve(environment, f"{SITE}/ns/two/__init__.py") == f"/w/1/{SITE}/ns/two/__init__.py"
    assert resolve(environment, f"{SITE}/ns/both/a.py") == f"/w/0/{SITE}/ns/both/a.py"
    assert resolve(environment, f"{SITE}/ns/both/b.py") == f"/w/1/{SITE}/ns/both/b.py"


def test_file_that_several_trees_have_is_the_first_ones(trees: Trees) -> None:
    trees.add("a", f"{SITE}/shared.py", f"{SITE}/kind/x.py")
    trees.add("b", f"{SITE}/shared.py", f"{SITE}/kind")
    environment = trees.compose()
    assert resolve(environment, f"{SITE}/shared.py") == f"/w/0/{SITE}/shared.py"
    assert resolve(environment, f"{SITE}/kind/x.py") == f"/w/0/{SITE}/kind/x.py"


def test_scripts_of_all_trees_lie_in_one_bin(trees: Trees) -> None:
    trees.add("a", "bin/a", "bin/both")
    trees.add("b", "bin/b", "bin/both")
    environment = trees.compose()
    assert {
        link: target for link, target in environment.symlinks.items() if not link.endswith(("python", "python3"))
    } == {
        "/env/bin/a": "/w/0/bin/a",
        "/env/bin/b": "/w/1/bin/b",
        "/env/bin/both": "/w/0/bin/both",
    }


def test_tree_cannot_put_itself_in_the_place_of_the_interpreter_or_its_configuration(trees: Trees) -> None:
    trees.add("evil", "bin/python", "bin/python3", "pyvenv.cfg", "lib/python3.11/os.py")
    environment = trees.compose()
    assert environment.symlinks["/env/bin/python"] == TARGET.python
    assert environment.symlinks["/env/bin/python3"] == TARGET.python
    assert "/env/pyvenv.cfg" not in environment.symlinks
    assert [mount.source for mount in environment.mounts if mount.target == "/env/pyvenv.cfg"] == [
        trees.root / "pyvenv.cfg"
    ]


def test_file_in_the_place_of_the_skeleton_is_left_out(trees: Trees) -> None:
    trees.add("evil", "bin", "lib")
    trees.add("b", "bin/b", f"{SITE}/b.py")
    environment = trees.compose()
    assert resolve(environment, "bin") == resolve(environment, "lib") == "directory"
    assert resolve(environment, f"{SITE}/b.py") == f"/w/1/{SITE}/b.py"
    assert resolve(environment, "bin/b") == "/w/1/bin/b"


def test_symbolic_link_in_a_tree_is_never_followed_by_the_worker(trees: Trees, tmp_path: Path) -> None:
    trees.add("a", f"{SITE}/a.py")
    trees.add("b", f"{SITE}/b.py")
    for name in ("a", "b"):
        (trees.root / name / SITE / "link").symlink_to("/etc")
    assert resolve(trees.compose(), f"{SITE}/link") == f"/w/0/{SITE}/link"


def test_no_directory_lies_below_a_link(trees: Trees) -> None:
    trees.add("a", f"{SITE}/ns/x/deep/a.py", "share/doc/a")
    trees.add("b", f"{SITE}/ns/x/deep/b.py", "share/doc/b")
    trees.add("c", f"{SITE}/ns/x", "share")
    environment = trees.compose()
    for path in (*environment.directories, *environment.symlinks):
        above = [str(parent) for parent in Path(path).parents]
        assert not [link for link in environment.symlinks if link in above]
    assert len(set(environment.directories)) == len(environment.directories)


def test_configuration_names_the_interpreters_home_and_is_made_once(tmp_path: Path) -> None:
    path = write_configuration(TARGET, tmp_path)
    assert path.read_text() == "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.7\n"
    assert write_configuration(TARGET, tmp_path) == path
    assert list(tmp_path.iterdir()) == [path]


def test_key_of_a_tree_changes_with_wheel_target_and_driver() -> None:
    wheel = make_built_wheel()
    keys = {
        tree_key(wheel, TARGET, "d"),
        tree_key(make_built_wheel(data=b"other"), TARGET, "d"),
        tree_key(wheel, make_target(revision="f" * 64), "d"),
        tree_key(wheel, TARGET, "e"),
    }
    assert len(keys) == 4


def test_tree_is_in_the_cache_only_once_it_is_whole(tmp_path: Path) -> None:
    cache, key = TreeCache(tmp_path / "trees", tmp_path), "ab" * 32
    folder = cache.begin(key)
    (folder / "half").write_bytes(b"")
    assert not cache.path(key).exists()
    again = cache.begin(key)
    assert list(again.iterdir()) == []
    (again / "file").write_bytes(b"whole")
    assert cache.finish(key, again) == cache.path(key)
    assert (cache.path(key) / "file").read_bytes() == b"whole"


def test_tree_that_another_worker_made_meanwhile_stands(tmp_path: Path) -> None:
    caches = [TreeCache(tmp_path / "trees", tmp_path / name) for name in ("one", "two")]
    for cache, name in zip(caches, ("one", "two"), strict=True):
        (tmp_path / name).mkdir()
        (cache.begin("ab" * 32) / "file").write_text(name)
    paths = [cache.finish("ab" * 32, next((tmp_path / name).iterdir())) for cache, name in
             zip(caches, ("one", "two"), strict=True)]  # fmt: skip
    assert paths[0] == paths[1]
    assert (paths[0] / "file").read_text() == "one"
    assert list((tmp_path / "two").iterdir()) == []


def test_tree_that_cannot_be_kept_is_a_fault_of_the_farm(tmp_path: Path) -> None:
    cache = TreeCache(tmp_path / "trees", tmp_path)
    with pytest.raises(FarmUnavailable):
        cache.finish("ab" * 32, tmp_path / "absent")


def test_tree_is_made_by_one_at_a_time(tmp_path: Path) -> None:
    cache = TreeCache(tmp_path / "trees", tmp_path)
    with cache.lock("a"):
        assert not cache.lock("a").acquire(blocking=False)
        assert cache.lock("b").acquire(blocking=False)
