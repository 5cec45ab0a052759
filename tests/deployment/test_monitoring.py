"""Alert rules and dashboard: every expression is about declared metrics, and every rule fires when it should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.support.ledger import FakeLedger
from tests.support.values import make_target, make_worker_record
from wheelfarm.job import JobState
from wheelfarm.worker import LivingWorker
from wheelfarm_services.fleet import Fleet
from wheelfarm_services.ledger import QueueCounts
from wheelfarm_services.metrics import REGISTRY, LedgerMetrics

ROOT = Path(__file__).parents[2]
FILES = ROOT / "helm" / "wheelfarm" / "files"
OTHERS = {"up": {"job", "instance"}, "ALERTS": {"alertstate"}}
SCRAPED = {"job", "instance", "pod", "le"}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
SELECTED = re.compile(r"\b(wheelfarm_\w+|up)\b(?:\{([^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|without|on)\s*\(([^)]*)\)")


class OneWorker:
    """A fleet of one worker, which serves `host`."""

    def workers(self) -> list[LivingWorker]:
        return [LivingWorker(record=make_worker_record("w1", make_target("host")), seen_s=1.0)]


def ledger_metrics() -> LedgerMetrics:
    live = {state: 1 for state in JobState if not state.final}
    counts = QueueCounts(live=live, ended={state: 1 for state in JobState if state.final}, oldest_s=7.0)
    ledger = FakeLedger(queue_counts={"host.0123456789abcdef": counts, "host.fedcba9876543210": counts})
    return LedgerMetrics(ledger.as_ledger, cast(Fleet, OneWorker()))


def declared() -> dict[str, set[str]]:
    """The names that can be asked for, with their labels."""
    found: dict[str, set[str]] = {}
    for collector, names in REGISTRY._collector_to_names.items():
        labels = set(getattr(collector, "_labelnames", ()))
        of_counter = {name for name in names if name.endswith("_total")}
        found |= {name: labels for name in of_counter or names if not name.endswith("_created")}
    for family in ledger_metrics().collect():
        labels = {label for sample in family.samples for label in sample.labels}
        found |= {family.name + suffix: labels for suffix in SUFFIXES[family.type]}
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]:
        yield from ((rule.get("alert") or rule["record"], rule["expr"]) for rule in group["rules"])
    for panel in dashboard()["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


def dashboard() -> Any:
    return json.loads((FILES / "dashboard.json").read_text())


@pytest.mark.parametrize(("place", "expression"), list(expressions()))
def test_expression_is_about_declared_metrics_and_their_labels(place: str, expression: str) -> None:
    known = declared() | OTHERS
    selected = SELECTED.findall(expression)
    assert selected
    labels = set(SCRAPED)
    for name, matchers in selected:
        assert name in known, f"{place}: {name} is declared nowhere"
        labels |= known[name]
        assert set(re.findall(r"(\w+)\s*=", matchers)) <= known[name] | SCRAPED
    grouped = {label for group in GROUPED.findall(expression) for label in re.findall(r"\w+", group)}
    assert grouped <= labels, f"{place}: {grouped - labels}"


def test_dashboard_shows_every_metric_of_the_farm() -> None:
    shown = " ".join(expression for _, expression in expressions())
    bare = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in declared() if name.startswith("wheelfarm_")}
    assert {name for name in bare if name not in shown} == {"wheelfarm_build_info"}


def test_dashboard_has_panels_side_by_side() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard()["panels"]]
    assert len(places) == len(set(places)) == len({panel["id"] for panel in dashboard()["panels"]}) == 15


def test_guide_tells_of_every_metric_and_of_every_alert() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    names = {name for name in declared() if name.startswith("wheelfarm_") and not name.endswith(("_bucket", "_sum"))}
    told = {name.removesuffix("_count") for name in names}
    assert {name for name in told if f"`{name}`" not in guide} == set()
    rules = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules if f"`{rule['alert']}`" not in guide} == set()


def test_rules_fire_when_they_should(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not here: apt-get install --no-install-recommends prometheus")
    for path in (FILES / "alerts.yaml", Path(__file__).with_name("alerts.test.yaml")):
        shutil.copy(path, tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts.test.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
