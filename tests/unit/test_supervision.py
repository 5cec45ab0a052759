import json
import os
import selectors
import signal
import sys
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from wheelfarm.errors import FarmUnavailable, InputError
from wheelfarm.supervision import Part, Supervisor

SLEEP = "import time; time.sleep(600)"


class Parts:
    """A supervisor, and what it said."""

    def __init__(self, *, lasting: bool = False) -> None:
        self.said: list[str] = []
        self.selector = selectors.DefaultSelector()
        self.supervisor = Supervisor(self.selector, lasting=lasting, say=self.said.append)

    def start(self, code: str, name: str = "part") -> Part:
        part = Part(name=name, command=(sys.executable, "-I", "-c", code), environment=dict(os.environ))
        self.supervisor.start(part)
        return part

    def bury_next(self) -> None:
        """Wait for a death, and have it seen to."""
        while not (ready := self.selector.select(min(0.05, self.supervisor.patience_s()))):
            self.supervisor.start_due()
        part = self.supervisor.part_of(ready[0][0].fileobj)
        assert part is not None
        self.supervisor.bury(part)

    def end(self) -> None:
        self.supervisor.end((), rest_s=0.1)
        self.selector.close()


def pid_of(part: Part) -> int:
    assert part.process is not None
    return part.process.pid


def test_part_that_was_killed_is_started_again_at_once() -> None:
    parts = Parts()
    part = parts.start(SLEEP)
    first = pid_of(part)
    os.kill(first, signal.SIGKILL)
    parts.bury_next()
    assert pid_of(part) != first
    assert parts.said == ["part ended (status -9) and is started again"]
    parts.end()
    assert part.process is not None
    assert part.process.poll() is not None


@pytest.mark.parametrize("lasting", [False, True])
def test_refusal_is_raised_as_the_part_told_it(lasting: bool) -> None:
    parts = Parts(lasting=lasting)
    reason = InputError("no store", hint="give one")
    parts.start(f"import sys; print({json.dumps(reason.to_json())!r}); sys.exit(2)")
    with pytest.raises(InputError, match="no store"):
        parts.bury_next()
    parts.end()


def test_part_that_dies_again_and_again_ends_the_farm() -> None:
    parts = Parts(lasting=True)
    parts.start("raise SystemExit(7)")
    with pytest.raises(FarmUnavailable, match="part ended 6 times over"):
        for _ in range(6):
            parts.bury_next()
    parts.end()


def test_part_that_ran_well_before_is_started_again_for_ever_in_a_lasting_farm() -> None:
    parts = Parts(lasting=True)
    part = parts.start("raise SystemExit(7)")
    part.settled, part.deaths = True, 50
    parts.bury_next()
    assert parts.said == ["part ended (status 7) and is started again"]
    assert 0 < parts.supervisor.patience_s() <= 5
    parts.end()


def test_each_kind_of_part_has_its_own_time_to_end(tmp_path: Path) -> None:
    parts = Parts()
    order = tmp_path / "order"
    order.touch()
    for name, pause in (("broker", 0.0), ("services", 0.0), ("worker 1", 0.3)):
        ready = tmp_path / name
        parts.start(
            "import pathlib, signal, sys, time\n"
            "def end(*_):\n"
            f"    time.sleep({pause})\n"
            f"    open({str(order)!r}, 'a').write({name!r} + '\\n')\n"
            "    sys.exit(0)\n"
            "signal.signal(signal.SIGTERM, end)\n"
            f"pathlib.Path({str(ready)!r}).touch()\n"
            "time.sleep(600)\n",
            name,
        )
        assert wait_until(ready.exists)
    parts.supervisor.end([("worker", 60.0), ("services", 60.0), ("broker", 60.0)], rest_s=0.1)
    assert order.read_text().splitlines() == ["worker 1", "services", "broker"]
