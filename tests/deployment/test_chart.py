"""The chart: what it renders is valid and holds what a company's cluster asks for; bad values are refused by name."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.deployment.chart import CHART, COLLECTOR_PEERS, STORE_PEERS, Manifest, everything, named, pods, render
from wheelfarm.settings import Settings

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

KUBERNETES = "1.37"
CUSTOM = {"ServiceMonitor", "PrometheusRule"}


@pytest.fixture(scope="module")
def whole() -> list[Manifest]:
    return render(everything())


@pytest.fixture(scope="module")
def plain() -> list[Manifest]:
    return render({})


def test_lint_finds_nothing() -> None:
    found = helm.lint(str(CHART), everything(), strict=True)
    assert found["errors"] == []
    assert [told["error"] for told in found["messages"]] == ["icon is recommended"]


def test_objects_are_valid_to_the_letter(whole: list[Manifest], plain: list[Manifest]) -> None:
    for manifest in [*whole, *plain]:
        if manifest["kind"] not in CUSTOM:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    kinds = sorted(manifest["kind"] for manifest in whole)
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "ConfigMap": 3,
        "Deployment": 2,
        "HorizontalPodAutoscaler": 1,
        "Ingress": 1,
        "NetworkPolicy": 5,
        "PodDisruptionBudget": 4,
        "PrometheusRule": 1,
        "Service": 5,
        "ServiceAccount": 1,
        "ServiceMonitor": 1,
        "StatefulSet": 3,
    }


def test_nothing_is_privileged(whole: list[Manifest]) -> None:
    found = dict(pods(whole))
    assert len(found) == 5
    for name, pod in found.items():
        assert not any(pod.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")), name
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert not [volume for volume in pod["volumes"] if "hostPath" in volume] if "volumes" in pod else True
        (container,) = pod["containers"]
        context = container["securityContext"]
        assert context["privileged"] is context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        is_worker = "-worker-" in name
        assert context.get("procMount") == ("Unmasked" if is_worker else None)
        assert pod["securityContext"]["seccompProfile"]["type"] == ("Localhost" if is_worker else "RuntimeDefault")
        assert pod.get("hostUsers") is (False if is_worker else None)


def test_secrets_are_named_and_never_told(whole: list[Manifest]) -> None:
    assert not [manifest for manifest in whole if manifest["kind"] == "Secret"]
    secret = re.compile(r"TOKEN$|PASSWORD$|SECRET|ACCESS_KEY_ID|BROKER$|HEADERS$")
    for name, pod in pods(whole):
        for variable in pod["containers"][0].get("env", []):
            if secret.search(variable["name"]) and not variable.get("value", "").startswith(
                "redis://:$(REDIS_PASSWORD)@"
            ):
                assert "secretKeyRef" in variable["valueFrom"], (name, variable)


def test_variables_are_settings_of_the_farm(whole: list[Manifest]) -> None:
    for name, pod in pods(whole):
        variables = {one["name"]: one.get("value", "redis://x") for one in pod["containers"][0].get("env", [])}
        given = {key: value for key, value in variables.items() if key.startswith("WHEELFARM_") and "$(" not in value}
        Settings.from_environment(given | {"WHEELFARM_WORKER": "w", "WHEELFARM_TOKEN": "t"})
        assert ("WHEELFARM_TOKEN" in variables) == (name == "farm-api" or "-worker-" in name)


def test_pods_are_given_time_for_the_drain_of_their_workers(whole: list[Manifest]) -> None:
    for name, pod in pods(whole):
        if "-worker-" in name:
            told = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
            assert pod["terminationGracePeriodSeconds"] == int(told["WHEELFARM_DRAIN_S"]) + 30


def test_workers_get_nowhere_but_to_the_farm(whole: list[Manifest]) -> None:
    """Policies add up: what a worker may do is what all of those that select it let through."""
    labels = named(whole, "StatefulSet", "farm-worker-cp313")["spec"]["template"]["metadata"]["labels"]
    policies = [one["spec"] for one in whole if one["kind"] == "NetworkPolicy" and _selects(one["spec"], labels)]
    ways = [(peer, rule["ports"]) for spec in policies for rule in spec.get("egress", []) for peer in rule["to"]]
    assert all("Egress" in spec["policyTypes"] for spec in policies)
    assert len(policies) == 3
    told = {"api": [8080], "redis": [6379]}
    outside: list[tuple[list[Manifest], list[int]]] = [(STORE_PEERS, [443]), (COLLECTOR_PEERS, [4318])]
    for peer, ports in ways:
        numbers = [port["port"] for port in ports]
        component = peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")
        let_out = any(peer in peers and numbers == ports for peers, ports in outside)
        assert told.get(component) == numbers or let_out or set(numbers) == {53}
    assert len(ways) == 5
    entries = [rule for spec in policies for rule in spec.get("ingress", [])]
    assert [[port["port"] for port in rule["ports"]] for rule in entries] == [[9464]]


def test_every_pod_is_closed_by_default(whole: list[Manifest]) -> None:
    closed = named(whole, "NetworkPolicy", "farm-closed")["spec"]
    for manifest in whole:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            assert _selects(closed, manifest["spec"]["template"]["metadata"]["labels"])
    assert "egress" not in closed
    assert "ingress" not in closed


def test_services_and_budgets_select_the_pods_they_are_for(whole: list[Manifest]) -> None:
    templates = [
        manifest["spec"]["template"] for manifest in whole if manifest["kind"] in ("Deployment", "StatefulSet")
    ]
    for manifest in whole:
        if manifest["kind"] in ("Service", "PodDisruptionBudget"):
            selector = manifest["spec"]["selector"]
            labels = (selector.get("matchLabels") or selector).items()
            (pod,) = (one for one in templates if labels <= one["metadata"]["labels"].items())
            names = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in manifest["spec"].get("ports", [])} <= names


def test_pool_is_scaled_by_what_there_is_to_do(whole: list[Manifest]) -> None:
    scaler = named(whole, "HorizontalPodAutoscaler", "farm-worker-cp313")["spec"]
    (metric,) = scaler["metrics"]
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"][1]["rules"]
    assert metric["external"]["metric"]["name"] == rules[0]["record"]
    assert metric["external"]["target"]["averageValue"] == "4"
    assert "replicas" not in named(whole, "StatefulSet", "farm-worker-cp313")["spec"]
    assert named(whole, "StatefulSet", "farm-worker-cp313")["spec"]["template"]["spec"]["runtimeClassName"] == "kata"


def test_rules_and_dashboard_are_the_files_as_they_are(whole: list[Manifest]) -> None:
    rule = named(whole, "PrometheusRule", "farm")
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    told = named(whole, "ConfigMap", "farm-dashboard")["data"]["wheelfarm.json"]
    assert told == (CHART / "files" / "dashboard.json").read_text()


def test_monitor_scrapes_every_part_at_its_metrics_port(whole: list[Manifest]) -> None:
    """Fields that the operator does not know it drops without a word; tests/slow asks its own definitions."""
    spec = named(whole, "ServiceMonitor", "farm")["spec"]
    (endpoint,) = spec["endpoints"]
    assert spec.keys() == {"selector", "endpoints"}
    assert endpoint.keys() == {"port", "interval", "relabelings"}
    assert [relabeling.keys() for relabeling in endpoint["relabelings"]] == [
        {"sourceLabels", "targetLabel", "replacement"}
    ]
    wanted = spec["selector"]["matchLabels"].items()
    services = [one for one in whole if one["kind"] == "Service" and wanted <= one["metadata"]["labels"].items()]
    ports = {one["metadata"]["name"]: [port["name"] for port in one["spec"]["ports"]] for one in services}
    scraped = {name for name, names in ports.items() if endpoint["port"] in names}
    assert scraped == {name for name, _ in pods(whole)} - {"farm-redis"}
    assert endpoint["port"] == "metrics"


def test_rules_hold_nothing_but_what_the_operator_knows(whole: list[Manifest]) -> None:
    spec = named(whole, "PrometheusRule", "farm")["spec"]
    assert spec.keys() == {"groups"}
    for group in spec["groups"]:
        assert {"name", "rules"} <= group.keys() <= {"name", "rules", "interval"}
        for rule in group["rules"]:
            assert rule.keys() <= {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}
            assert ("alert" in rule) != ("record" in rule)


def test_profile_of_the_nodes_can_be_named_for_apparmor() -> None:
    pool = everything()["workers"][0]
    pool["isolation"] = {**pool["isolation"], "appArmor": "Localhost/wheelfarm-worker"}
    worker = named(render({"workers": [pool]}), "StatefulSet", "farm-worker-debian12-cp311")
    kubernetes_validate.validate(worker, KUBERNETES, strict=True)
    told = worker["spec"]["template"]["spec"]["securityContext"]["appArmorProfile"]
    assert told == {"type": "Localhost", "localhostProfile": "wheelfarm-worker"}


def test_images_are_named_by_digest_where_one_is_given() -> None:
    (api,) = (pod for name, pod in pods(render({"image": {"digest": f"sha256:{'a' * 64}"}})) if name == "farm-api")
    assert api["containers"][0]["image"] == f"wheelfarm/services@sha256:{'a' * 64}"


BAD = [
    ({"api": {"replicas": "two"}}, "/api/replicas"),
    ({"api": {"replica": 2}}, "replica"),
    ({"store": {"url": "https://x"}}, "/store/url"),
    ({"token": {"secretName": ""}}, "/token/secretName"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"networkPolicy": {"store": {"ports": [0]}}}, "/networkPolicy/store/ports/0"),
    ({"workers": [{"name": "w"}]}, "/workers/0"),
    ({"logFormat": "xml"}, "/logFormat"),
    ({"workers": [{**everything()["workers"][0], "isolation": {"appArmor": "off"}}]}, "/isolation/appArmor"),
    ({"traces": {"endpoint": "http://user:secret@collector"}}, "/traces/endpoint"),
]


@pytest.mark.parametrize(("values", "name"), BAD)
def test_bad_values_are_refused_by_name(values: dict[str, Any], name: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=re.escape(name)):
        render(values)


def test_autoscaler_without_its_target_is_refused() -> None:
    pool = {**everything()["workers"][1], "metricsTarget": ""}
    with pytest.raises(helm.HelmValuesError, match="metricsTarget"):
        render({"workers": [pool]})


def test_schema_has_a_text_for_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path, part in _parts(schema, ""):
        assert part.get("description", "").endswith("."), path
        if "properties" in part and path:
            assert part["additionalProperties"] is False, path
    told = {path for path, _ in _parts(schema, "")}
    assert _paths(yaml.safe_load((CHART / "values.yaml").read_text()), "") <= told


def _parts(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from _parts(part, f"{path}.{name}")
    if "items" in schema:
        yield from _parts(schema["items"], f"{path}[]")


def _paths(value: Any, path: str) -> set[str]:
    if path.endswith((".requests", ".limits", ".labels", ".clients", ".prometheus", ".to")) or not value:
        return {path}
    if isinstance(value, dict):
        return set().union(*(_paths(part, f"{path}.{name}") for name, part in value.items()))
    if isinstance(value, list):
        return set().union(*(_paths(part, f"{path}[]") for part in value))
    return {path}


def _selects(spec: Manifest, labels: dict[str, str]) -> bool:
    selector = spec["podSelector"]
    unwanted = [one for one in selector.get("matchExpressions", []) if labels.get(one["key"]) in one["values"]]
    return not unwanted and selector["matchLabels"].items() <= labels.items()
