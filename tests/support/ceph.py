"""A real S3 server: Ceph's RADOS gateway with a monitor and an object store in memory, from Debian's packages.

Three processes on loopback, up in two seconds, without authentication among themselves.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fleet import free_port

ACCESS_KEY, SECRET_KEY = "AKIDWHEELFARMTEST", "only-for-the-tests-of-wheelfarm"
_PACKAGES = {"ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "radosgw": "radosgw", "ceph": "ceph-common"}
_OSD = "aaaaaaaa-0000-0000-0000-000000000001"
_CONFIGURATION = """
[global]
fsid = 11111111-2222-3333-4444-555555555555
mon_host = [v1:127.0.0.1:{monitor}]
mon_initial_members = a
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
ms_bind_ipv6 = false
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_max_pg_per_osd = 1000
mon_osd_min_up_ratio = 0
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
osd_fast_shutdown = true
log_file = {folder}/$name.log
run_dir = {folder}
admin_socket = {folder}/$name.asok
pid_file =
[mon]
mon_data = {folder}/mon
[osd]
osd_data = {folder}/osd
osd_objectstore = memstore
osd_crush_update_on_start = false
osd_class_update_on_start = false
memstore_device_bytes = 1073741824
[client]
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw_enable_apis = s3, s3website
rgw_enable_static_website = true
rgw_dns_name = 127.0.0.1
rgw_dns_s3website_name = localhost
"""


@dataclass(kw_only=True)
class Gateway:
    """A running gateway; the data outlives `kill`, for others hold it."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End the gateway at once, as SIGKILL does."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again after `kill`."""
        self.process = _start(self.folder, "radosgw", "-f", "-n", "client.rgw")
        _wait(lambda: _answers(self.port), self.process, self.folder)


@contextmanager
def run_gateway() -> Iterator[Gateway]:
    """A gateway with a user of `ACCESS_KEY` and nothing in it."""
    lacking = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if lacking:
        pytest.fail(f"These tests need Debian's {', '.join(lacking)}: apt-get install --no-install-recommends radosgw "
                    "ceph-mon ceph-osd, which ./bootstrap python -m pytest does")  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="wf-ceph-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        port, monitor = free_port(), free_port()
        (folder / "ceph.conf").write_text(_CONFIGURATION.format(folder=folder, port=port, monitor=monitor))
        for name in ("mon", "osd"):
            (folder / name).mkdir()
        stack.callback(_end, stack_monitor := _monitor(folder, monitor))
        stack.callback(_end, _object_store(folder, stack_monitor))
        user = ("--uid=farm", "--display-name=farm", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
        _run(folder, "radosgw-admin", "user", "create", *user)
        gateway = Gateway(folder=folder, port=port, process=_start(folder, "radosgw", "-f", "-n", "client.rgw"))
        stack.callback(lambda: _end(gateway.process))
        _wait(lambda: _answers(port), gateway.process, folder)
        yield gateway


def _monitor(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    address = f"[v1:127.0.0.1:{port}]"
    fsid = "11111111-2222-3333-4444-555555555555"
    _run(folder, "monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, str(folder / "map"))
    _run(folder, "ceph-mon", "--mkfs", "-i", "a", "--monmap", str(folder / "map"))
    process = _start(folder, "ceph-mon", "-f", "-i", "a", "--public-addr", f"127.0.0.1:{port}")
    _wait(lambda: _answers(port), process, folder)
    return process


def _object_store(folder: Path, monitor: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    _run(folder, "ceph", "osd", "new", _OSD)
    _run(folder, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", _OSD)
    _run(folder, "ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h")
    return _start(folder, "ceph-osd", "-f", "-i", "0")


def _run(folder: Path, program: str, *words: str) -> None:
    conf = () if program == "monmaptool" else ("-c", str(folder / "ceph.conf"))
    done = subprocess.run([program, *conf, *words], capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.fail(f"{program} {' '.join(words)} failed: {done.stderr[-2000:]}")


def _start(folder: Path, program: str, *words: str) -> "subprocess.Popen[bytes]":
    with (folder / f"{program}.out").open("ab") as out:
        return subprocess.Popen([program, "-c", str(folder / "ceph.conf"), *words], stdout=out, stderr=out)


def _wait(ready: Callable[[], bool], process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"Ceph did not start: {[path.read_text()[-1000:] for path in folder.glob('*.out')]}")
        time.sleep(0.02)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
