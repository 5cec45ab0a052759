import threading
from dataclasses import dataclass, field

from tests.support.waiting import PATIENCE_S
from wheelfarm_workers.drain import Drain


@dataclass
class Jobs:
    """Jobs that end when they are told to, if at all; `told` is what they were told, in order."""

    busy: bool = True
    stubborn: bool = False
    told: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def stop_claiming(self) -> None:
        self.told.append("stop claiming")

    def hand_back(self) -> None:
        self.told.append("hand back")
        self.busy = self.stubborn

    def abandon(self) -> None:
        self.told.append("abandon")

    def wait_until_idle(self, timeout_s: float) -> bool:
        return not self.busy

    def end(self, code: int) -> None:
        self.told.append(f"end {code}")
        self.over.set()


def drained(jobs: Jobs, *, grace_s: float, signals: int = 1) -> list[str]:
    """What was told by the time that the process ended."""
    told = jobs.told
    draining = Drain(
        jobs,
        grace_s=grace_s,
        began=lambda: told.append("began"),
        last_act=lambda: told.append("last act"),
        end=jobs.end,
        ending_s=0.0,
    )
    for _ in range(signals):
        draining.signalled()
    assert jobs.over.wait(PATIENCE_S)
    return told


def test_idle_worker_ends_without_handing_anything_back() -> None:
    assert drained(Jobs(busy=False), grace_s=60) == ["stop claiming", "began", "last act", "end 0"]


def test_what_is_not_finished_in_the_grace_is_handed_back() -> None:
    assert drained(Jobs(), grace_s=0) == ["stop claiming", "began", "hand back", "last act", "end 0"]


def test_second_signal_ends_the_grace() -> None:
    assert drained(Jobs(), grace_s=3600, signals=2) == ["stop claiming", "began", "hand back", "last act", "end 0"]


def test_jobs_that_do_not_end_are_queued_again_all_the_same() -> None:
    told = drained(Jobs(stubborn=True), grace_s=0)
    assert told == ["stop claiming", "began", "hand back", "abandon", "last act", "end 0"]


def test_third_signal_ends_the_process() -> None:
    assert "end 143" in drained(Jobs(), grace_s=3600, signals=3)
