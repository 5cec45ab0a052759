"""The chart in a real cluster's API: installed, upgraded, rolled back, removed. There are no nodes, so no pod runs."""

import json
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deployment.chart import CHART, everything
from tests.support.tables import tables

pytestmark = pytest.mark.slow
helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
NAMESPACE = "builds"
STEPS = ("install", "upgrade", "rollback", "uninstall")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """An API server without nodes."""

    kubeconfig: Path
    client: httpx.Client

    def get(self, path: str) -> Any:
        """What the API server says of a path."""
        return self.client.get(path).raise_for_status().json()

    def names(self, group: str, kind: str) -> list[str]:
        """The names of the chart's objects of that kind."""
        path = f"/{group}/namespaces/{NAMESPACE}/{kind}"
        return sorted(item["metadata"]["name"] for item in self.get(path)["items"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd, an API server and a controller manager on loopback."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        pytest.skip(f"not on PATH: {', '.join(lacking)} (docs/kubernetes.md)")
    folder = tmp_path_factory.mktemp("cluster")
    store, peer, api = (_free_port() for _ in range(3))
    url, config = f"https://127.0.0.1:{api}", folder / "kubeconfig"
    subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text("admin-of-the-test,admin,1,system:masters\n")
    with ExitStack() as stack:
        at = f"http://127.0.0.1:{store}"
        words = ["--data-dir", f"{folder}/etcd", "--listen-client-urls", at, "--advertise-client-urls", at]
        peers = ["--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls"]
        cluster = ["--initial-cluster", f"default=http://127.0.0.1:{peer}"]
        _start(stack, folder, ["etcd", *words, *peers, f"http://127.0.0.1:{peer}", *cluster])
        _start(stack, folder, _api_server(folder, at, api))
        admin = {"Authorization": "Bearer admin-of-the-test"}
        client = httpx.Client(base_url=url, headers=admin, verify=False, trust_env=False, timeout=10)  # noqa: S501
        made = Cluster(kubeconfig=config, client=stack.enter_context(client))
        _wait(lambda: made.client.get("/readyz").status_code == 200, folder)
        config.write_text(json.dumps(_kubeconfig(url, folder)))
        key = f"--service-account-private-key-file={folder}/sa.key"
        manager = ["kube-controller-manager", f"--kubeconfig={config}", key, "--leader-elect=false", "--port=0"]
        _start(stack, folder, [*manager, "--bind-address=127.0.0.1", "--secure-port=0"])
        yield made


def test_chart_is_installed_upgraded_rolled_back_and_removed(cluster: Cluster, write_docs: bool) -> None:
    values = {**everything(), "monitoring": {"dashboard": {"enabled": True}}}  # the operator's kinds are not there
    told: dict[str, str] = {}
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "kata"}, "handler": "kata"}
    cluster.client.post("/apis/node.k8s.io/v1/runtimeclasses", json=runtime).raise_for_status()
    with closing(helm.Config(kubeconfig_path=str(cluster.kubeconfig), namespace=NAMESPACE)) as config:
        config.install(str(CHART), "farm", values, namespace=NAMESPACE, create_namespace=True)
        assert cluster.names("apis/apps/v1", "statefulsets") == [
            "farm-redis",
            "farm-worker-cp313",
            "farm-worker-debian12-cp311",
        ]
        assert cluster.names("apis/apps/v1", "deployments") == ["farm-api", "farm-reconciler"]
        assert len(cluster.names("apis/networking.k8s.io/v1", "networkpolicies")) == 5
        assert _wait(lambda: len(cluster.names("api/v1", "pods")) >= 7), cluster.names("api/v1", "pods")
        told["install"] = f"{len(cluster.names('api/v1', 'pods'))} pods made, pending"

        config.upgrade(str(CHART), "farm", {**values, "api": {"replicas": 3}}, namespace=NAMESPACE)
        assert _replicas(cluster) == 3
        assert _wait(lambda: sum(name.startswith("farm-api") for name in cluster.names("api/v1", "pods")) == 3)
        told["upgrade"] = "three replicas of the API"

        with pytest.raises(helm.HelmError, match="/api/replicas"):
            config.upgrade(str(CHART), "farm", {**values, "api": {"replicas": -1}}, namespace=NAMESPACE)
        assert _replicas(cluster) == 3

        config.rollback("farm", version=1)
        assert _replicas(cluster) == 2
        told["rollback"] = "two again"

        config.uninstall("farm")
        assert _wait(lambda: cluster.names("apis/apps/v1", "deployments") == [])
        told["uninstall"] = "nothing left but the volumes' claims"
    version = cluster.get("/version")["gitVersion"]
    table = tables("kubernetes.md", ["Results"])["Results"]
    for step in STEPS:
        table.add(step, told[step], f"{datetime.now(UTC):%Y-%m-%d}, Kubernetes {version}, {platform.machine()}")
    if write_docs:
        table.write(STEPS)


def _replicas(cluster: Cluster) -> int:
    return int(cluster.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/farm-api")["spec"]["replicas"])


def _api_server(folder: Path, store: str, port: int) -> list[str]:
    issuer = ["--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.250.0.0/24"]
    keys = [f"--service-account-{name}-file={folder}/sa.key" for name in ("key", "signing-key")]
    listens = ["--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={folder}/certs"]
    rights = [f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC"]
    return ["kube-apiserver", f"--etcd-servers={store}", *listens, *rights, *issuer, *keys]


def _kubeconfig(url: str, folder: Path) -> dict[str, Any]:
    authority = f"{folder}/certs/apiserver.crt"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": authority}}],
        "users": [{"name": "u", "user": {"token": "admin-of-the-test"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def _start(stack: ExitStack, folder: Path, command: list[str]) -> None:
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _wait(ready: Callable[[], bool], folder: Path | None = None) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if ready():
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    if folder is not None:
        pytest.fail("\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.log")))
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
