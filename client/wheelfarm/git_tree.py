"""What git tells of a tree: the files that belong to it, and a small repository that tells its version.

Build backends often read the version off the tags (setuptools-scm, hatch-vcs and others). What the farm gets for that
is no copy of `.git`: it holds the commits and tags that lead to HEAD, and the contents of HEAD, but no older contents,
no other branches, no remotes and no configuration, where credentials lie. Git runs without hooks and monitors.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from wheelfarm.errors import BadTree

_QUIET = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.splitIndex=false", "core.untrackedCache=false")
_PLAIN = ("index.version=2", "pack.writeReverseIndex=false", "pack.writeBitmaps=false", "core.commitGraph=false")
_READ_BYTES = 1 << 20
_VERSION_FILES = ("pyproject.toml", "setup.cfg", "setup.py")
_ASKS_GIT = re.compile(
    rb"scm|vcs|versioneer|versioningit|dunamai|dynamic[-_]versioning|\bpbr\b|git[-_]version|setuptools[-_]git"
    rb"|\bgit\b[\"', ]"
)


def files_of_git(root: Path) -> tuple[list[str], list[str]] | None:
    """The tracked files, and the untracked ones that are not ignored; other repositories within as folders. None where
    `root` is in no work tree of git's, or git can't tell."""
    try:
        tracked = _git(root, "ls-files", "-z", "--cached")
        others = _git(root, "ls-files", "-z", "--others", "--exclude-standard")
    except _GitFailed:
        return None
    return _names(tracked), _names(others)


def version_may_need_git(root: Path) -> bool:
    """Whether the project's files speak of something that reads versions off a repository."""
    for name in _VERSION_FILES:
        path = root / name
        if path.is_file():
            with path.open("rb") as file:
                if _ASKS_GIT.search(file.read(_READ_BYTES)):
                    return True
    return False


def small_repository(root: Path) -> dict[str, bytes]:
    """The files of a `.git` for `root`, the same for the same state; {} where it is not the top of a work tree, or
    nothing is committed yet. Raises BadTree when git can't make it."""
    try:
        if _git(root, "rev-parse", "--show-prefix").strip():
            return {}
        head = _git(root, "rev-parse", "--verify", "HEAD").decode().strip()
    except _GitFailed:
        return {}
    try:
        with tempfile.TemporaryDirectory(prefix="wheelfarm-git-") as folder:
            return {**_references(root, head), **_objects(root, head, Path(folder))}
    except _GitFailed as error:
        raise BadTree(
            f"The history of {root}, which may tell its version, can't be read: {error}.",
            hint="Look at what `git fsck` says of it.",
        ) from error


def committed_at(root: Path) -> int:
    """When HEAD was committed, in seconds since the epoch."""
    return int(_git(root, "log", "-1", "--no-show-signature", "--format=%ct", "HEAD"))


class _GitFailed(Exception):
    """Git is not there, or ended with an error."""


def _names(listed: bytes) -> list[str]:
    """File names as git lists them, each once: an unmerged one stands there several times."""
    names = (os.fsdecode(name) for name in listed.split(b"\0") if name)
    return list(dict.fromkeys(name.rstrip("/") for name in names))


def _references(root: Path, head: str) -> dict[str, bytes]:
    tags = _git(root, "for-each-ref", "--merged", head, "--format=%(objectname) %(refname)", "refs/tags").decode()
    try:
        branch = _git(root, "symbolic-ref", "--quiet", "HEAD").decode().strip()
    except _GitFailed:  # HEAD is detached
        branch = ""
    lines = [f"{head} {branch}", *tags.splitlines()] if branch else tags.splitlines()
    sha256 = _git(root, "rev-parse", "--show-object-format").strip() == b"sha256"
    extensions = "[extensions]\n\tobjectformat = sha256\n" if sha256 else ""
    config = f"[core]\n\trepositoryformatversion = {int(sha256)}\n\tbare = false\n{extensions}"
    files = {
        "HEAD": f"ref: {branch}\n" if branch else f"{head}\n",
        "packed-refs": "".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.partition(" ")[2])),
        "config": config,
        "refs/heads/.keep": "",
    }
    if _git(root, "rev-parse", "--is-shallow-repository").strip() == b"true":
        shallow = root / os.fsdecode(_git(root, "rev-parse", "--git-path", "shallow").strip())
        files["shallow"] = "".join(sorted(shallow.read_text().splitlines(keepends=True)))
    return {name: text.encode() for name, text in files.items()}


def _objects(root: Path, head: str, folder: Path) -> dict[str, bytes]:
    """An index that knows contents but no times, and one pack: commits and tags, and the contents of HEAD and index."""
    staged = _git(root, "ls-files", "--stage", "-z")
    index = {"GIT_INDEX_FILE": str(folder / "index")}
    _git(root, "update-index", "-z", "--index-info", input=staged, environment=index)
    tags = _git(root, "for-each-ref", "--merged", head, "--format=%(objectname)", "refs/tags")
    history = _git(root, "rev-list", "--objects", "--filter=tree:0", "--stdin", input=f"{head}\n".encode() + tags)
    contents = _git(root, "rev-list", "--objects", "--no-object-names", f"{head}^{{tree}}")
    blobs = [entry.split()[1] for entry in staged.split(b"\0") if entry and not entry.startswith(b"160000")]
    wanted = b"\n".join([*(line.split()[0] for line in history.splitlines()), *contents.split(), *blobs])
    plain = ("--window=0", "--no-reuse-delta", "--no-reuse-object", "--threads=1", "--compression=1")
    _git(root, "pack-objects", "--quiet", *plain, str(folder / "pack"), input=wanted + b"\n")
    packs = {f"objects/pack/{path.name}": path.read_bytes() for path in sorted(folder.glob("pack-*"))}
    return {"index": (folder / "index").read_bytes(), **packs}


def _git(root: Path, *words: str, input: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    fixed = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    settings = [word for setting in (*_QUIET, *_PLAIN) for word in ("-c", setting)]
    try:
        done = subprocess.run(
            ["git", *settings, *words],
            cwd=root,
            env={**inherited, **fixed, **(environment or {})},
            input=input,
            capture_output=True,
            check=True,
        )
    except OSError as error:
        raise _GitFailed(str(error)) from error
    except subprocess.CalledProcessError as error:
        raise _GitFailed(error.stderr.decode(errors="replace").strip()[-500:]) from error
    return done.stdout
