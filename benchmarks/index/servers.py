"""The servers that are compared, each on loopback with the same wheels, and the load on them."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx
from tests.integration.conftest import find_servers
from tests.support.fleet import TOKEN, free_port, separate_farm
from tests.support.index_farm import TARGET

from benchmarks.measure import processor_s
from wheelfarm.wheel import BuiltWheel

_Running = tuple[int, Callable[[BuiltWheel], dict[str, str]]]
"""The process of a server, and where it has what is asked for."""

PEERS = ("simpleindex", "pypiserver", "devpi")

_NGINX = """
worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;
events {{}}
http {{
  access_log off; sendfile on; keepalive_requests 1000000;
  types {{ text/html html; application/octet-stream whl; }}
  client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d;
  scgi_temp_path {root}/e;
  server {{ listen 127.0.0.1:{port}; root {store}; index index.html; }}
}}
"""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A server that runs: its address, its process, the headers of each request, and where a page and a wheel are."""

    name: str
    url: str
    pid: int
    paths: Callable[[BuiltWheel], dict[str, str]]
    headers: Sequence[str] = field(default=())


def require_tools() -> None:
    """Stop unless nginx and wrk are there."""
    if missing := [tool for tool in ("nginx", "wrk") if shutil.which(tool) is None]:
        raise click.ClickException(f"{' and '.join(missing)} must be on PATH: apt-get install nginx-light wrk")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a server stood: requests a second, and its processor time for each in microseconds."""

    rate: float
    processor_us: float


def wrk(server: Peer, path: str, seconds: int) -> Load:
    """The load of eight connections. Raises where any answer was none of 200."""
    given = [word for header in server.headers for word in ("-H", header)]
    words = ["wrk", "-t1", "-c8", "--timeout", "30s", f"-d{seconds}s", *given, server.url + path]
    before = processor_s(server.pid)
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    used_s = processor_s(server.pid) - before
    if "Non-2xx" in told or "Socket errors" in told:
        raise click.ClickException(f"{server.url}{path} does not answer well:\n{told}")
    (requests,), (rate,) = re.findall(r"(\d+) requests in", told), re.findall(r"Requests/sec:\s+([\d.]+)", told)
    return Load(rate=float(rate), processor_us=1e6 * used_s / max(1, int(requests)))


def _as_stored(wheel: BuiltWheel) -> dict[str, str]:
    return {
        "page": f"/simple/{TARGET}/{wheel.name}/",
        "wheel": f"/wheels/{wheel.sha256}/{wheel.filename}",
    }


@contextmanager
def nginx(root: Path, store: Path) -> Iterator[Peer]:
    """nginx with one worker process, on the store as it lies."""
    port, folder = free_port(), root / "nginx"
    folder.mkdir()
    (folder / "conf").write_text(_NGINX.format(root=folder, port=port, store=store))
    if root.stat().st_uid == 0:
        root.chmod(0o755)
        store.chmod(0o755)
        (folder / "conf").write_text("user root;\n" + (folder / "conf").read_text())
    with _running(["nginx", "-p", str(folder), "-c", str(folder / "conf")], port) as pid:
        yield Peer(name="nginx", pid=pid, url=f"http://127.0.0.1:{port}", paths=_as_stored)


@contextmanager
def farm(root: Path) -> Iterator[Peer]:
    """The farm's services, one process, with tokens asked for."""
    (server, *_) = find_servers()
    with separate_farm(root, "http://127.0.0.1:9/simple/", WHEELFARM_STORE=str(root / "store")) as made:
        words = ["--port", "0", "--unixsocket", f"{made.root}/s", "--dir", str(made.root), "--save", ""]
        made.start("broker", [str(server), *words])
        time.sleep(0.5)
        pid = made.start_services().process.pid
        headers = [f"Authorization: Bearer {TOKEN}"]
        yield Peer(name="wheelfarm", pid=pid, url=made.url, paths=_as_stored, headers=headers)


@contextmanager
def peer(name: str, root: Path, wheels: Sequence[Path]) -> Iterator[Peer]:
    """Another index server, installed anew, with the same wheels."""
    folder, port = root / name, free_port()
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    program = {"devpi": ["devpi-server", "devpi-client"], "pypiserver": ["pypiserver[passlib]"]}.get(name, [name])
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *program], check=True)
    (folder / "files").mkdir()
    for wheel in wheels:
        shutil.copy(wheel, folder / "files")
    with _STARTED[name](folder, port) as (pid, paths):
        yield Peer(name=name, pid=pid, url=f"http://127.0.0.1:{port}", paths=paths)


@contextmanager
def _simpleindex(folder: Path, port: int) -> Iterator[_Running]:
    for wheel in (folder / "files").glob("*.whl"):
        project = folder / "tree" / wheel.name.partition("-")[0]
        project.mkdir(parents=True, exist_ok=True)
        wheel.rename(project / wheel.name)
    conf = '[routes."{project}"]\nsource = "path"\nto = "tree/{project}"\n'
    conf += f'[server]\nhost = "127.0.0.1"\nport = {port}\n'
    (folder / "simpleindex.toml").write_text(conf)
    with _running([str(folder / "venv/bin/simpleindex"), str(folder / "simpleindex.toml")], port, cwd=folder) as pid:
        yield pid, lambda wheel: {"page": f"/{wheel.name}/", "wheel": f"/{wheel.name}/{wheel.filename}"}


@contextmanager
def _pypiserver(folder: Path, port: int) -> Iterator[_Running]:
    words = ["run", "-i", "127.0.0.1", "-p", str(port), "--disable-fallback", str(folder / "files")]
    with _running([str(folder / "venv/bin/pypi-server"), *words], port) as pid:
        yield pid, lambda wheel: {"page": f"/simple/{wheel.name}/", "wheel": f"/packages/{wheel.filename}"}


@contextmanager
def _devpi(folder: Path, port: int) -> Iterator[_Running]:
    bin_, data, url = folder / "venv/bin", folder / "data", f"http://127.0.0.1:{port}"
    subprocess.run(
        [str(bin_ / "devpi-init"), "--serverdir", str(data), "--no-root-pypi"], check=True, capture_output=True
    )
    with _running([str(bin_ / "devpi-server"), "--serverdir", str(data), "--port", str(port)], port) as pid:
        client = [str(bin_ / "devpi")]
        state = ["--clientdir", str(folder / "client")]
        for words in (
            ["use", *state, url],
            ["login", *state, "root", "--password", ""],
            ["index", *state, "-c", "bench", "bases="],
            ["use", *state, "root/bench"],
            ["upload", *state, "--from-dir", str(folder / "files")],
        ):
            subprocess.run([*client, *words], check=True, capture_output=True)

        def paths(wheel: BuiltWheel) -> dict[str, str]:
            page = f"/root/bench/+simple/{wheel.name}/"
            text = httpx.get(url + page).text
            (link,) = re.findall(rf'href="[./]*(\+f/[^"#]*{re.escape(wheel.filename)})', text)
            return {"page": page, "wheel": f"/root/bench/{link}"}

        yield pid, paths


_STARTED = {"simpleindex": _simpleindex, "pypiserver": _pypiserver, "devpi": _devpi}


@contextmanager
def _running(words: Sequence[str], port: int, *, cwd: Path | None = None) -> Iterator[int]:
    process = subprocess.Popen(words, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=9), trust_env=False) as client:
            client.get(f"http://127.0.0.1:{port}/", timeout=60)
        yield process.pid
    finally:
        process.terminate()
        process.wait()
