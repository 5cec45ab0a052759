"""Removing folders that hostile code may have made."""

import subprocess
from pathlib import Path


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it; coreutils get through trees that are deeper than Python recurses, and no symbolic
    link is followed."""
    subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL)
    if folder.exists():
        subprocess.run(["chmod", "-R", "u+rwx", "--", folder], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--", folder], check=True)
