"""What the chart makes for the Prometheus operator, against the operator's own definitions (from npm)."""

import json
import shutil
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from tests.deployment.chart import Manifest, everything, named, render

pytestmark = [pytest.mark.slow, pytest.mark.index]
pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform")

PACKAGE = "@kubernetes-models/prometheus-operator@6.0.0"
CHECK = """
import * as kinds from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
import { readFileSync } from "node:fs";
const object = JSON.parse(readFileSync(0, "utf8"));
try { new kinds[object.kind](object).validate(); } catch (error) { console.log(error.message); }
"""

Check = Callable[[Manifest], str]


@pytest.fixture(scope="module")
def complaint(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """What the definitions say of an object; "" where nothing."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("operator")
    (folder / "check.mjs").write_text(CHECK)
    install = [
        "npm",
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        str(folder),
        PACKAGE,
    ]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return lambda manifest: _said(folder, manifest)


@pytest.mark.parametrize(("kind", "name"), [("ServiceMonitor", "farm"), ("PrometheusRule", "farm")])
def test_object_is_what_its_definition_asks_for(complaint: Check, kind: str, name: str) -> None:
    assert complaint(named(render(everything()), kind, name)) == ""


def test_what_is_wrong_is_refused(complaint: Check) -> None:
    monitor = named(render(everything()), "ServiceMonitor", "farm")
    changes: list[Manifest] = [{"interval": "soon"}, {"relabelings": {}}, {"port": 9464}]
    for change in changes:
        wrong = deepcopy(monitor)
        wrong["spec"]["endpoints"][0] |= change
        assert complaint(wrong), change


def _said(folder: Path, manifest: Manifest) -> str:
    words = ["node", str(folder / "check.mjs")]
    done = subprocess.run(words, input=json.dumps(manifest), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
