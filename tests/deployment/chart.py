"""The chart as Helm's own SDK renders it, with everything in it switched on or as it comes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "wheelfarm"
Manifest = dict[str, Any]

STORE_PEERS = [{"ipBlock": {"cidr": "10.1.2.3/32"}}]
COLLECTOR_PEERS = [{"podSelector": {"matchLabels": {"app": "collector"}}}]


def everything() -> dict[str, Any]:
    """Values that leave no object of the chart out."""
    pool = yaml.safe_load((CHART / "values.yaml").read_text())["workers"][0]
    scaled = {"enabled": True, "minReplicas": 1, "maxReplicas": 4}
    other = {**pool, "name": "cp313", "autoscaling": scaled, "metricsTarget": "host-cp313", "runtimeClassName": "kata"}
    return {
        "redis": {"enabled": True},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecretName": "farm-tls"},
        "imagePullSecrets": [{"name": "registry"}],
        "tokensFile": {"secretName": "farm-tokens"},
        "config": {"policy": "deny = []\n", "upstreams": "# none\n", "recipes": {"numpy.toml": "# none\n"}},
        "store": {"endpoint": "https://s3.example", "region": "eu"},
        "networkPolicy": {"store": {"to": STORE_PEERS}, "collector": {"to": COLLECTOR_PEERS}},
        "traces": {"endpoint": "http://collector:4318", "headers": {"secretName": "collector"}},
        "monitoring": {part: {"enabled": True} for part in ("serviceMonitor", "rules", "dashboard")},
        "workers": [pool, other],
    }


def render(values: Mapping[str, Any]) -> list[Manifest]:
    """The objects that the chart makes of values."""
    from helm_python import Chart

    with Chart.load(str(CHART)) as chart:
        rendered = chart.render(dict(values), name="farm", namespace="builds")
    texts = (text for name, text in sorted(rendered.items()) if name.endswith(".yaml"))
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The name and the pod template's spec of each workload."""
    for found in manifests:
        if found["kind"] in ("Deployment", "StatefulSet"):
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The object of that kind and name."""
    (found,) = (one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found
