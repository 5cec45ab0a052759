"""Two whole API processes, each with its reconciler, on one broker and one store, and one worker for both."""

import re
from collections import Counter
from pathlib import Path

from tests.acceptance.conftest import PATIENCE_S, Home
from tests.support.fleet import free_port, separate_farm
from tests.support.projects import Project

SLOW = "import time; time.sleep(1)"


def test_command_through_each_replica_at_once_builds_each_wheel_once(home: Home) -> None:
    home.upstream.add(
        Project(name="base", build_code=SLOW),
        Project(name="left", build_requires=["base"]),
        Project(name="right", build_requires=["base"]),
    )
    folder = home.root / "farm"
    folder.mkdir()
    with separate_farm(folder, home.upstream.url) as farm:
        farm.start_broker()
        clients = []
        for name in ("one", "other"):
            farm.port = free_port()
            farm.start_services(name)
            clients.append(farm.client)
        farm.serve("w1", "--slots", "2")

        commands = [home.start("build", "left", "right", environment=client) for client in clients]
        ended = [command.communicate(timeout=PATIENCE_S) for command in commands]

        assert [command.returncode for command in commands] == [0, 0], (ended, farm.logs())
        for out, _ in ended:
            names = sorted(Path(line).name.split("-")[0] for line in out.split())
            assert names == ["left", "right"]
        begun = Counter(re.findall(r"build begins.*sdist='([^'=]+)==", farm.parts["w1"].said))
        assert begun == {"base": 1, "left": 1, "right": 1}
