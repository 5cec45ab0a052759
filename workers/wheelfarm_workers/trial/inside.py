"""Run in a clean sandbox of the target, on a wheel of whose making nobody knows: whether it can be used there.

Reads a task as JSON from stdin and answers with a line of JSON. Each extension module is loaded, and each module
imported, in a process of its own, which may crash or hang without the others. Python 3.8 or later.
"""

import contextlib
import importlib
import importlib.machinery
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import traceback

ROOT = os.environ.pop("WHEELFARM_ROOT")
LIBRARIES = ROOT + "/in/lib"
RESULT_FD = int(os.environ.pop("WHEELFARM_RESULT_FD"))
TASK = json.load(sys.stdin)
PREFIX = ROOT + "/build/prefix"
SITE = PREFIX + "/" + TASK["site_packages"]
SECONDS = 120
"""For how long one module may load."""
DIED = "its process ended with"


def main():
    make_environment()
    said, _ = in_process(install, ROOT + "/in/" + TASK["filename"], seconds=0)
    answer({"uninstallable": said} if said else tried())


def answer(told):
    with os.fdopen(RESULT_FD, "wb") as out:
        out.write(json.dumps(told).encode() + b"\n")


def tried():
    """What was seen of the wheel, once it is installed."""
    show_beside(ROOT + "/env/" + TASK["site_packages"])
    sys.path.insert(0, SITE)
    told = {"loaded": [], "imported": [], "unproven": [], "failed": []}
    for module, path in extensions() if TASK["load"] else ():
        note(told, "loaded", module, *load(module, path))
    for module in TASK["imports"]:
        said, lacks = in_process(import_, module)
        note(told, "imported", module, said, lacks and TASK["absent"])
    if TASK["command"]:
        told["status"] = run(TASK["command"])
    return told


def make_environment():
    """Make an environment of the target's interpreter, like the one that this runs in, with nothing installed."""
    os.makedirs(SITE)
    os.mkdir(PREFIX + "/bin")
    shutil.copyfile(ROOT + "/env/pyvenv.cfg", PREFIX + "/pyvenv.cfg")
    for name in ("python", "python3"):
        os.symlink(os.readlink(ROOT + "/env/bin/" + name), PREFIX + "/bin/" + name)


def install(wheel):
    """Install a wheel there as an installer does, with the scripts of its entry points; what is said against that."""
    sys.path.insert(0, LIBRARIES)
    from installer import install
    from installer.destinations import SchemeDictionaryDestination
    from installer.sources import WheelFile

    python, headers = PREFIX + "/bin/python", PREFIX + "/include"
    scheme = {"purelib": SITE, "platlib": SITE, "data": PREFIX, "scripts": PREFIX + "/bin", "headers": headers}
    try:
        with WheelFile.open(wheel) as source:
            install(source, SchemeDictionaryDestination(scheme, python, "posix", overwrite_existing=True), {})
    except Exception as error:
        traceback.print_exc()
        return "%s: %s" % (type(error).__name__, error), False
    return "", False


def show_beside(installed):
    """Link to what is installed beside the wheel: libraries are found by the way from one distribution to another."""
    for name in os.listdir(installed) if os.path.isdir(installed) else ():
        if not os.path.lexists(os.path.join(SITE, name)):
            os.symlink(os.path.join(installed, name), os.path.join(SITE, name))


def extensions():
    """The wheel's extension modules that are for this interpreter, and their files."""
    suffixes = sorted(importlib.machinery.EXTENSION_SUFFIXES, key=len, reverse=True)
    for folder, folders, names in os.walk(SITE):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            suffix = next((suffix for suffix in suffixes if name.endswith(suffix)), None)
            if suffix is None or os.path.islink(path):
                continue
            module = os.path.relpath(path, SITE)[: -len(suffix)].replace(os.sep, ".")
            if all(part.isidentifier() for part in module.split(".")) and is_module(path, module.rpartition(".")[2]):
                yield module, path


def is_module(path, name):
    """Whether a library has the function that makes a module of that name; others are loaded by what needs them."""
    made_by = b"PyInit_" + name.encode() if name.isascii() else b"PyInitU_"
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(made_by) >= 0


def note(told, kind, module, said, excused):
    """Note how a module did: well where nothing is said against it; for want of what is not here it proves nothing."""
    if not said:
        told[kind].append(module)
    else:
        print("wheelfarm: %s: %s" % (module, said), file=sys.stderr)
        told["unproven" if excused else "failed"].append([module, said])


def load(module, path):
    """What is said against an extension module, and whether it is excused: it can be loaded neither alone nor, since
    some packages first load libraries for their modules, as a part of its package."""
    alone, _ = in_process(link, module, path)
    if not alone:
        return "", False
    whole, lacks = in_process(import_, module)
    is_external = any(name in alone for name in TASK["external"])
    return (alone, lacks or TASK["absent"] or is_external or alone.startswith(DIED)) if whole else ("", False)


def link(module, path):
    """What the linker says against a file; what its module does once it is linked may be for want of its package."""
    loader = importlib.machinery.ExtensionFileLoader(module, path)
    try:
        loader.create_module(importlib.machinery.ModuleSpec(module, loader, origin=path))
    except ImportError as error:
        if error.path == path and not str(error).startswith("dynamic module"):
            return str(error).replace(SITE + "/", ""), False
    except BaseException:
        pass
    return "", False


def import_(module):
    """What is said against a module by importing it, and whether that is for want of a module from elsewhere."""
    try:
        importlib.import_module(module)
    except BaseException as error:
        traceback.print_exc()
        is_lacking = isinstance(error, ModuleNotFoundError) and not is_here((error.name or "").partition(".")[0])
        return "%s: %s" % (type(error).__name__, error), is_lacking
    return "", False


def is_here(top):
    """Whether there is a module of that name."""
    return any(name.partition(".")[0] == top for name in os.listdir(SITE))


def in_process(act, *words, seconds=SECONDS):
    """What an action returns, done in a process of its own; how that ended where it did not come to its end. With 0
    seconds it may take as long as all of this."""
    path = ROOT + "/build/told"
    pid = os.fork()
    if not pid:
        signal.alarm(seconds)
        os.close(RESULT_FD)
        told = act(*words)
        with open(path, "w") as file:
            json.dump(told, file)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return "%s signal %d" % (DIED, status & 127) if status & 127 else "%s status %d" % (DIED, status >> 8), False
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def run(command):
    """The status of a command of that environment; it runs in an empty folder."""
    folder = ROOT + "/build/test"
    os.mkdir(folder)
    path = PREFIX + "/bin:" + os.environ["PATH"]
    program = shutil.which(command[0], path=path)
    if program is None:
        print("wheelfarm: neither the wheel nor the target has a command %s" % command[0], file=sys.stderr)
        return 127
    try:
        environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": PREFIX}
        return subprocess.run([program, *command[1:]], cwd=folder, env=environment).returncode
    except OSError as error:
        print("wheelfarm: %s" % error, file=sys.stderr)
        return 127


main()
