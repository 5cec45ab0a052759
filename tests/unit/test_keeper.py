"""The keeper and the commands that come and go, one event at a time."""

import json
import select
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wheelfarm.embedded import RuntimeFolder
from wheelfarm.keeper import Keeper, listen_for_commands

RULES = {"WHEELFARM_POLICY": ""}


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """A keeper of nothing, which listens."""
    with tempfile.TemporaryDirectory(prefix="wf-") as folder:  # short: a socket's path has less than 108 bytes
        runtime = RuntimeFolder(path=Path(folder))
        listener = listen_for_commands(runtime)
        yield Keeper(folder=runtime, listener=listener, url="http://farm", token="t", rules=RULES)  # noqa: S106
        listener.close()


def come(keeper: Keeper) -> socket.socket:
    """A command that has connected."""
    command = socket.socket(socket.AF_UNIX)
    command.connect(str(keeper.folder.socket))
    return command


def told(command: socket.socket) -> dict[str, object]:
    told: dict[str, object] = json.loads(command.recv(4096))
    return told


def test_command_that_ended_before_it_read_what_it_was_told_harms_no_other(keeper: Keeper) -> None:
    with come(keeper) as first:
        thread = threading.Thread(target=keeper.run, args=([],))
        thread.start()
        assert told(first)["url"] == "http://farm"
        with come(keeper) as hasty:
            assert select.select([hasty], [], [], 60)[0]  # told, and not read: the kernel reports its end as a reset
        with come(keeper) as third:
            assert told(third)["url"] == "http://farm"
        assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()
    assert not keeper.folder.socket.exists()


def test_command_that_comes_after_the_last_has_left_is_told_that_the_farm_ends(keeper: Keeper) -> None:
    first = come(keeper)
    keeper.handle(keeper.listener)
    first.close()
    with come(keeper) as late:
        keeper.handle(keeper.listener)  # before anybody has seen that the first one left
        assert told(late) == {"ends": True}
        assert late.recv(1) == b""
    assert keeper.is_over


def test_command_that_comes_while_another_is_there_is_greeted_though_a_third_has_left(keeper: Keeper) -> None:
    commands = [come(keeper) for _ in range(2)]
    for _ in commands:
        keeper.handle(keeper.listener)
    commands[0].close()
    with come(keeper) as third, commands[1]:
        keeper.handle(keeper.listener)
        assert told(third)["rules"] == RULES
        assert len(keeper.connections) == 2
    keeper.forget_who_left()
    assert keeper.is_over
