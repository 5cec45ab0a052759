"""Root filesystems for tests: a Debian made by debootstrap, or without root by mmdebstrap, once for all runs of a work
tree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = "bookworm"
PYTHON = "cp311"


def debian_root(config: pytest.Config, tmp: Path) -> Path:
    """The archive of a Debian with compilers and a Python; skips where none can be made."""
    tool = "mmdebstrap" if os.getuid() else "debootstrap"
    if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip(f"{tool} is not installed")
    folder = config.cache.mkdir("roots") if config.cache else tmp
    archive = folder / f"{SUITE}.tar"
    if not archive.exists():
        made = tmp / "made"
        environment = {**os.environ, "WHEELFARM_TARGETS": str(made), "WHEELFARM_CACHE": str(tmp / "cache")}
        command = [sys.executable, "-m", "wheelfarm", "target", "add", "made", "--from", f"debootstrap:{SUITE}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (found,) = (made / "roots").glob("*.tar")
        shutil.move(found, part := archive.with_suffix(".part"))
        part.replace(archive)  # whole, or not at all
        shutil.rmtree(tmp / "cache")
    return archive
