"""A farm of separate processes, as a team runs it: a broker, services, workers; each may be ended and started again."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.support.waiting import PATIENCE_S, wait_until
from wheelfarm.broker import broker_server

TOKEN = "t" * 43


@dataclass(kw_only=True)
class Part:
    """A process of the farm; its log survives it."""

    name: str
    command: list[str]
    log: Path
    process: "subprocess.Popen[bytes]"

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass(kw_only=True)
class SeparateFarm:
    """The parts of a farm in `root`; `settings` are those of its services and workers, `client` those of its users."""

    root: Path
    index: str
    settings: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    port: int = field(default_factory=lambda: free_port())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def broker(self) -> str:
        return f"redis+socket://{self.root}/s"

    @property
    def client(self) -> dict[str, str]:
        return {"WHEELFARM_URL": self.url, "WHEELFARM_TOKEN": TOKEN, "WHEELFARM_INDEX": ""}

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WHEELFARM_", "UV_", "PIP_"))}
        mine = {
            "HOME": str(self.root),
            "WHEELFARM_BROKER": self.broker,
            "WHEELFARM_CACHE": str(self.root / "cache"),
            "WHEELFARM_INDEX": self.index,
            "WHEELFARM_STORE": str(self.root / "store"),
            "WHEELFARM_TOKEN": TOKEN,
            "WHEELFARM_URL": self.url,
        }
        return {**kept, **mine, **self.settings}

    def start_broker(self) -> Part:
        words = ["--port", "0", "--unixsocket", f"{self.root}/s", "--dir", str(self.root), "--save", ""]
        return self.start("broker", [broker_server(), *words, "--appendonly", "yes", "--appendfsync", "everysec"])

    def start_services(self, name: str = "services", *words: str) -> Part:
        """The API and a reconciler, once they answer."""
        part = self.start(name, wheelfarm("services", "--listen", f"127.0.0.1:{self.port}", *words))
        assert wait_until(lambda: _listens(self.port) or part.process.poll() is not None), part.said
        with httpx.Client(trust_env=False) as client:
            client.get(f"{self.url}/healthz", timeout=PATIENCE_S)
        return part

    def start_worker(self, name: str, *words: str, settings: Mapping[str, str] | None = None) -> Part:
        return self.start(name, wheelfarm("worker", "--name", name, *words), settings)

    def serve(self, name: str, *words: str, settings: Mapping[str, str] | None = None) -> Part:
        """A worker, once the fleet knows of it."""
        part = self.start_worker(name, *words, settings=settings)
        assert wait_until(lambda: "worker serves" in part.said or part.process.poll() is not None), self.logs()
        return part

    def start(self, name: str, command: list[str], settings: Mapping[str, str] | None = None) -> Part:
        """Start a part, or start it again after its end; its log goes on."""
        log = self.root / f"{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                env={**self.environment, **(settings or {})},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=self.root,
                process_group=0,
            )
        self.parts[name] = Part(name=name, command=command, log=log, process=process)
        return self.parts[name]

    def logs(self) -> str:
        return "\n".join(f"== {part.name}\n{part.said}" for part in self.parts.values())

    def end(self) -> None:
        """End all, the broker last."""
        for part in reversed(self.parts.values()):
            if part.process.poll() is None:
                part.signal(signal.SIGTERM)
                try:
                    part.process.wait(60)
                except subprocess.TimeoutExpired:
                    part.kill()


@contextmanager
def separate_farm(root: Path, index: str, **settings: str) -> Iterator[SeparateFarm]:
    """A farm of which nothing is started yet; `settings` are variables of its services and workers."""
    farm = SeparateFarm(root=root, index=index, settings=settings)
    try:
        yield farm
    finally:
        farm.end()


def wheelfarm(*words: str) -> list[str]:
    """The command line of the command in this environment."""
    return [sys.executable, "-m", "wheelfarm", *words]


def free_port() -> int:
    """A port that nobody listens on, and that the kernel gives to nobody who asks for any, so that it stays free."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", random.randrange(15_000, 32_000))) as server:
            return int(server.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
