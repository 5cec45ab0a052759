"""`python -m tests.support.held_farm`: keeps this environment's embedded farm running, and tells where it and its
source index are, until its stdin ends."""

import json
import os
import sys
from pathlib import Path

from wheelfarm.embedded import attached
from wheelfarm.farm import Farm
from wheelfarm.resolution import source_index_path
from wheelfarm.settings import Settings
from wheelfarm.target import host_target


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
