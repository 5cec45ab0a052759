"""Podman for tests: images of the farm on a base that debootstrap makes here, and the services of a compose file.

No registry is asked. Containers share this machine's network, for podman's own needs plugins that are not everywhere.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"
BASE = "localhost/wheelfarm-base:bookworm"
NEEDED = ("podman", "debootstrap", "runc")
_CERTIFICATES = "/etc/ssl/certs"
_PACKAGES = (
    *("ca-certificates", "python3", "python3-dev", "python3-pip", "python3-venv", "bubblewrap", "cmake", "gcc", "g++"),
    *("git", "libseccomp2", "make", "ninja-build", "patch", "patchelf"),
)
_LIMITS = ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096")


def podman(*words: str, timeout_s: float = 900, check: bool = True) -> str:
    """What podman says."""
    command = ["podman", "--runtime", "runc", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    if check and done.returncode:
        pytest.fail(f"{shlex.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-4000:]}")
    return done.stdout.strip()


def require_podman() -> None:
    """Skip the test where there is no podman, or no rights to make a base."""
    lacking = [program for program in NEEDED if shutil.which(program) is None]
    if lacking or os.getuid() != 0:
        pytest.skip(f"needs root and {', '.join(NEEDED)}: apt-get install --no-install-recommends {' '.join(NEEDED)}")


@functools.cache
def why_podman_does_not_run() -> str:
    """What is told of a podman that can't start the simplest of containers, in a way that is none of the farm's; ""
    where it can."""
    if shutil.which("podman") is None:
        return "podman is not installed: apt-get install --no-install-recommends podman runc uidmap"
    if os.getuid() and podman("info", "--format", "{{.Host.CgroupsVersion}}") != "v2":
        return "podman can't hold this user's containers to their limits, for which it takes cgroups of version 2"
    with TemporaryDirectory() as root:
        for name in ("dev", "proc", "sys", "etc", "run", "usr"):
            Path(root, name).mkdir()
        for path in Path("/").iterdir():
            if path.is_symlink():
                Path(root, path.name).symlink_to(path.readlink())
        runtime = ["--runtime", "runc"] if shutil.which("runc", path="/usr/sbin:/usr/bin:/sbin:/bin") else []
        words = [
            "run",
            "--rm",
            "--network",
            "none",
            "--no-hosts",
            "--volume",
            "/usr:/usr:ro",
            "--memory",
            "64m",
            *_LIMITS,
        ]
        command = ["podman", *runtime, *words, "--rootfs", root, "/usr/bin/true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return f"podman can't run containers here: {done.stderr.strip()[-300:]}" if done.returncode else ""


def require_podman_runs() -> None:
    """Skip the test where podman is not installed or the machine lets it run nothing."""
    if reason := why_podman_does_not_run():
        pytest.skip(reason)


def make_base(folder: Path) -> None:
    """The base image: Debian 12 with what builds need. One that is there already is taken."""
    if podman("images", "--quiet", BASE):
        return
    root, archive = folder / "root", folder / "root.tar"
    words = ["debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", "bookworm", str(root)]
    subprocess.run(words, check=True, capture_output=True, timeout=900)
    subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
    shutil.rmtree(root)
    podman("import", str(archive), BASE)
    archive.unlink()


def build(target: str, tag: str, *words: str) -> str:
    """An image of the farm on that base; its name. The machine's package index is the one that pip uses here."""
    name = f"localhost/wheelfarm/{target}:{tag}"
    told = ["--target", target, "--tag", name, "--file", str(ROOT / "docker" / "Dockerfile"), *words]
    podman("build", *_building(), "--timestamp", "1700000000", "--build-arg", f"BASE={BASE}", *told, str(ROOT))
    return name


def build_tool(folder: Path, package: str, entrypoint: str) -> str:
    """An image of one of Debian's servers on that base; its name."""
    name = f"localhost/wheelfarm/tool-{package}"
    install = f"apt-get update && apt-get install -y --no-install-recommends {package}"
    (folder / f"{package}.Dockerfile").write_text(f"FROM {BASE}\nRUN {install}\n{entrypoint}\n")
    podman("build", *_building(), "--tag", name, "--file", str(folder / f"{package}.Dockerfile"), str(folder))
    return name


def _building() -> list[str]:
    shown = [_CERTIFICATES, "/etc/resolv.conf", *_index_folders()]
    mounts = [word for path in shown for word in ("--volume", f"{path}:{path}:ro")]
    return [*("--format", "docker", "--pull=never", "--network", "host"), *mounts, "--env", f"PIP_CERT={_BUNDLE}"]


def _index_folders() -> list[str]:
    """The folders of this machine that its pip is told to take packages from."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    paths = [Path(path) for path in re.findall(r"(?<=[ ='/])/\w[^\s']*", told.stdout)]
    folders = {path.parent if path.name == "simple" else path for path in paths}  # links of pages lead beside them
    return sorted(str(path) for path in folders if path.is_dir() and str(path) != _CERTIFICATES)


_BUNDLE = f"{_CERTIFICATES}/ca-certificates.crt"


@dataclass(kw_only=True)
class Stack:
    """The services of the compose file as podman runs them. `variables` are those of its environment file; `instead` is
    put for words of it, such as the address of an S3 server that is not among them."""

    variables: Mapping[str, str]
    instead: Mapping[str, str]
    running: list[str] = field(default_factory=list)

    def start(self, service: str, *words: str, wait: bool = False) -> str:
        """Start a service, with further words for podman; with `wait`, its output once it has ended."""
        name = f"wheelfarm-test-{service}"
        self.running.append(name)
        keep = [] if wait else ["--detach"]
        return podman("run", *keep, "--name", name, *self.options(service), *words, *self._command(service))

    def run(self, service: str, *command: str, environment: Mapping[str, str]) -> str:
        """The output of a command in a container like that of a service."""
        given = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        return podman("run", "--rm", *self.options(service, whole=False), *given, self._image(service), *command)

    def options(self, service: str, *, whole: bool = True) -> list[str]:
        """What podman is told of a service; without `whole` only what holds it in."""
        found = self._service(service)
        hosts = [word for host in self._services for word in ("--add-host", f"{host}:127.0.0.1")]
        options = [
            "--network",
            "host",
            "--no-healthcheck",
            *_LIMITS,
            *hosts,
            "--volume",
            f"{_CERTIFICATES}:{_CERTIFICATES}:ro",
        ]
        options += [word for capability in found["cap_drop"] for word in ("--cap-drop", capability)]
        options += ["--read-only"] if found["read_only"] else []
        options += [word for mount in found["tmpfs"] for word in ("--tmpfs", mount)]
        options += [word for option in found["security_opt"] for word in ("--security-opt", _podmans(option))]
        options += ["--user", found["user"]] if "user" in found else []
        if whole:
            options += [word for volume in found.get("volumes", []) for word in ("--volume", _mount(volume))]
            options += [
                word for name, value in found.get("environment", {}).items() for word in ("--env", f"{name}={value}")
            ]
        return options

    def _command(self, service: str) -> list[str]:
        return [self._image(service), *self._service(service)["command"]]

    def _image(self, service: str) -> str:
        return str(self._service(service)["image"])

    def _service(self, name: str) -> Any:
        return self._services[name]

    @property
    def _services(self) -> dict[str, Any]:
        text = re.sub(r"\$\{([A-Z0-9_]+)[^}]*\}", lambda found: self.variables.get(found[1], ""), COMPOSE.read_text())
        for old, new in self.instead.items():
            text = text.replace(old, new)
        return dict(yaml.safe_load(text)["services"])


def _podmans(option: str) -> str:
    """An option of Docker's as podman has it."""
    known = {"no-new-privileges:true": "no-new-privileges", "systempaths=unconfined": "unmask=ALL"}
    return known.get(option) or option.replace("seccomp=", f"seccomp={COMPOSE.parent}/")


def _mount(volume: str) -> str:
    """A volume of the compose file: a file beside it, or one that ends with its container."""
    source, _, rest = volume.partition(":")
    return (
        f"{(COMPOSE.parent / source).resolve()}:{rest}"
        if source.startswith(".")
        else f"wheelfarm-test-{source}:{rest}:U"
    )


@contextmanager
def stack(variables: Mapping[str, str], instead: Mapping[str, str]) -> Iterator[Stack]:
    """A stack of which nothing is started yet; nothing of it is left."""
    made = Stack(variables=variables, instead=instead)
    try:
        yield made
    finally:
        for name in reversed(made.running):
            podman("rm", "--force", "--time", "20", "--volumes", name, check=False)
        for volume in ("redis", "s3", "cache", "prometheus"):
            podman("volume", "rm", "--force", f"wheelfarm-test-{volume}", check=False)
