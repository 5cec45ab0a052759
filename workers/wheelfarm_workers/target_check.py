"""Whether a target is good for builds: what its interpreter tells of itself, and a C extension built and loaded."""

import json
import threading
from pathlib import Path
from typing import Any

from wheelfarm.errors import BadInterpreter, SandboxUnavailable
from wheelfarm.target import INTERPRETER_PROBE, Target, read_facts, require_suitable
from wheelfarm_workers.grounds import Ground
from wheelfarm_workers.sandbox import Ending, Limits, Mount, Root, Sandbox, SandboxRun

_LIMITS = Limits(wall_s=300, memory_bytes=2 << 30)
_TOLD = 'os.write(int(os.environ["WHEELFARM_RESULT_FD"]), json.dumps(told).encode())'
_CHECK = f"""
import json, os, shlex, subprocess, sys, sysconfig
SOURCE = '''#include <Python.h>
static struct PyModuleDef module = {{PyModuleDef_HEAD_INIT, "farm_check", NULL, -1, NULL}};
PyMODINIT_FUNC PyInit_farm_check(void) {{ return PyModule_Create(&module); }}
'''
open("farm_check.c", "w").write(SOURCE)
configured = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
found = [words for words in (configured, ["cc"], ["gcc"], ["clang"])
    if any(os.access(os.path.join(folder, words[0]), os.X_OK) for folder in os.environ["PATH"].split(":"))]
include = sysconfig.get_path("include")
told = {{"lacks": ""}}
if not os.path.exists(os.path.join(include, "Python.h")):
    told = {{"lacks": "headers", "said": "there is no Python.h in " + include}}
elif not found:
    told = {{"lacks": "compiler", "said": "there is no " + configured[0] + ", cc, gcc or clang"}}
else:
    flags = shlex.split(os.environ.get("CFLAGS", "")) + ["-shared", "-fPIC", "-I" + include]
    done = subprocess.run(found[0] + flags + ["farm_check.c", "-o", "farm_check.so"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        told = {{"lacks": "build", "said": done.stdout.decode(errors="replace")[-1000:]}}
    else:
        sys.path.insert(0, os.getcwd())
        try:
            import farm_check
        except ImportError as error:
            told = {{"lacks": "import", "said": str(error)}}
{_TOLD}
"""
_OTHER_PYTHON = "Name another one in it (--python), or one that the farm keeps: --interpreter, by wheelfarm python list"
_INSTALL = {"headers": "python3-dev", "compiler": "gcc", "build": "libc6-dev"}


def facts_of(root: Root | None, python: str, sandbox: Sandbox, *, distribution: Mount | None = None) -> dict[str, Any]:
    """What the interpreter at a path of a root filesystem tells of itself, or that of a distribution. Raises
    BadInterpreter."""
    log: list[bytes] = []
    run = SandboxRun(
        argv=(python, "-I", "-S", "-c", INTERPRETER_PROBE),
        input=b"",
        interpreter_prefix=None,
        root=root,
        mounts=(distribution,) if distribution else (),
        limits=_LIMITS,
    )
    ended = sandbox.run(run, log=log.append, cancelled=threading.Event())
    ended.result.close()
    said = b"".join(log).decode(errors="replace")
    facts = read_facts(said)
    if facts is None and distribution is not None:
        raise BadInterpreter(
            f"The distribution's Python does not run on that system: {said.strip()[-300:] or 'it said nothing'}",
            hint="It lacks a library, is for another libc or machine, or is not relocatable: docs/pythons.md",
        )
    if facts is None and "Exec format error" in said:
        raise BadInterpreter(
            f"The Python at {python} in the root filesystem is for another kind of machine than this one.",
            hint="To have such programs emulated: apt-get install qemu-user-static binfmt-support",
        )
    if facts is None:
        raise BadInterpreter(
            f"The root filesystem has no Python that runs at {python}: {said.strip()[-300:] or 'it said nothing'}",
            hint="Install one in it (Debian: python3-dev), or name another place with --python.",
        )
    require_suitable(Path(python), facts, hint=_OTHER_PYTHON)
    return facts


def check_target(target: Target, ground: Ground) -> None:
    """Build a C extension as the target's builds do, and load it. Raises SandboxUnavailable saying what it lacks."""
    log: list[bytes] = []
    run = ground.command(
        (target.python, "-I", "-S", "-c", _CHECK),
        input=b"",
        limits=_LIMITS,
        environment=ground.environment,
    )
    ended = ground.sandbox.run(run, log=log.append, cancelled=threading.Event())
    with ended.result as file:
        answer = file.read()
    if ended.ending is not Ending.EXITED or ended.returncode or not answer:
        said = b"".join(log).decode(errors="replace").strip()[-1000:]
        raise SandboxUnavailable(
            f"The target {target.name} does not work ({ended.ending}): {said or 'it said nothing'}"
        )
    found = json.loads(answer)
    if lacks := found["lacks"]:
        package = _INSTALL.get(lacks)
        raise SandboxUnavailable(
            f"The target {target.name} can't build a C extension: {found['said']}.",
            hint=f"Install {package} in it, or make it anew with --package {package}." if package else "",
        )
