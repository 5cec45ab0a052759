"""`python -m tests.support.held_farm`: keeps this environment's embedded farm running, and tells where it and its
source index are, until its stdin ends."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wheelfarm.embedded import attached
from wheelfarm.farm import Farm
from wheelfarm.resolution import source_index_path
from wheelfarm.settings import Settings
from wheelfarm.target import host_target


@contextmanager
def held_farm(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """An embedded farm that runs meanwhile, so that no command has to start it: its source index and its token."""
    command = [sys.executable, "-m", "tests.support.held_farm"]
    with subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            told: dict[str, str] = json.loads(holder.stdout.readline())
            yield told
        finally:
            holder.stdin.close()


def main() -> None:
    settings = Settings.from_environment(os.environ)
    with attached(settings) as embedded, Farm(embedded.url, embedded.token, check=embedded.check) as farm:
        target = host_target(Path(sys.executable), sandbox=settings.sandbox, memory=settings.cache / "targets")
        farm.register(target)
        told = {"farm": embedded.url, "url": embedded.url + source_index_path(target), "token": embedded.token}
        print(json.dumps(told), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
