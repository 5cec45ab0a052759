"""Parts of a farm that go away while a user waits: the command says what it waits for, goes on, and finishes."""

import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from tests.acceptance.conftest import PATIENCE_S, Home, wait_until
from tests.support.fleet import SeparateFarm, separate_farm
from tests.support.projects import Project


class Heard:
    """What a running command says on stderr, line by line."""

    def __init__(self, command: "subprocess.Popen[str]") -> None:
        self.command = command
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.command.kill()
        self._thread.join()
        self.command.communicate()

    def says(self, *words: str) -> bool:
        """Whether it comes to say a line with all these words."""
        return wait_until(lambda: any(all(word in line for word in words) for line in list(self.lines)))

    def end(self) -> tuple[int, str]:
        """Its exit code and the whole of stdout, once it has ended."""
        assert self.command.stdout is not None
        out = self.command.stdout.read()
        self._thread.join()
        return self.command.wait(PATIENCE_S), out

    def _read(self) -> None:
        assert self.command.stderr is not None
        self.lines.extend(self.command.stderr)


@contextmanager
def working_farm(home: Home) -> Iterator[SeparateFarm]:
    """A farm of one worker, which the home's commands use; it counts as living though it is stopped for a while."""
    folder = home.root / "farm"
    folder.mkdir()
    with separate_farm(folder, home.upstream.url, WHEELFARM_DRAIN_S="0", WHEELFARM_LEASE_S="300") as farm:
        farm.start_broker()
        farm.start_services()
        farm.serve("w1", "--slots", "1")
        home.settings |= farm.client
        yield farm


def queued(home: Home) -> bool:
    return any(one["job"]["state"] == "queued" for one in home.run("status", "--json").json["jobs"])


def test_build_waits_for_redis_services_and_store_says_so_and_finishes(home: Home) -> None:
    home.upstream.add(Project(name="helper"), Project(name="app", build_requires=["helper"]))
    store = home.root / "farm" / "store"
    with working_farm(home) as farm, ExitStack() as stack:
        farm.parts["w1"].signal(signal.SIGSTOP)  # so that nothing is over before everything was away
        farm.parts["broker"].kill()
        heard = stack.enter_context(Heard(home.start("build", "app")))
        assert heard.says("broker", "Waiting for it"), heard.lines
        farm.start_broker()
        assert wait_until(lambda: queued(home)), farm.logs()

        away = store.rename(store.with_name("elsewhere"))
        assert heard.says("store", "is gone", "Waiting for it"), heard.lines
        away.rename(store)

        services = farm.parts["services"]
        services.kill()
        assert heard.says("does not answer", "Waiting for it"), heard.lines
        farm.start("services", services.command)
        farm.parts["w1"].signal(signal.SIGCONT)
        code, out = heard.end()
        assert code == 0, "".join(heard.lines) + farm.logs()
    assert Path(out.strip()).name == "app-1.0-1-py3-none-any.whl"
    assert sum("built    app==1.0" in line for line in heard.lines) == 1


def test_worker_keeps_a_wheel_while_redis_and_store_are_away(home: Home) -> None:
    home.upstream.add(Project(name="app", build_code="import time; time.sleep(1)"))
    store = home.root / "farm" / "store"
    with working_farm(home) as farm, Heard(home.start("build", "app")) as heard:
        with home.builds_held():
            farm.parts["broker"].kill()
            away = store.rename(store.with_name("elsewhere"))
        assert wait_until(lambda: "the store is waited for" in farm.parts["w1"].said), farm.logs()
        away.rename(store)
        farm.start_broker()
        code, out = heard.end()
        assert code == 0, "".join(heard.lines) + farm.logs()
        assert farm.parts["w1"].said.count("build begins") == 1
    assert Path(out.strip()).name == "app-1.0-1-py3-none-any.whl"
