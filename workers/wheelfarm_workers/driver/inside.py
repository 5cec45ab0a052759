"""Inside the sandbox: wheels of sdists, sdists of trees, metadata alone (PEP 517), or importable trees of wheels.

Run as a script, on Python 3.8 or later. Its task comes as JSON on stdin; its answer, one line of JSON followed by the
wheel's bytes, goes to the descriptor WHEELFARM_RESULT_FD. What the backend prints is the build log.

Hooks run through pyproject_hooks, each in a fork of this process, which has imported the backend once.
"""

import errno
import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import runpy
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
LIBRARIES = os.path.join(HERE, "lib")
ROOT = os.environ.pop("WHEELFARM_ROOT", "")
RESULT_FD = int(os.environ.pop("WHEELFARM_RESULT_FD"))
OLDEST_ZIP_TIME = 315532800  # 1980-01-01, the first moment a zip entry can state
NEWEST_ZIP_TIME = 4354819198  # 2107-12-31
LEFTOVERS = (".DS_Store", "__MACOSX", "pax_global_header")  # beside AppleDouble's "._" files; sdist_head has the same


class Refused(Exception):
    """The archive can't be unpacked as an sdist."""


class HookFailed(Exception):
    """A hook's process ended badly; what it printed is in the log already."""


def main():
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != HERE]
    task = json.load(sys.stdin)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.umask(0o022)
    try:
        {"build": build, "trees": make_trees, "driver": compile_driver}[task["do"]](task)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        answer("full", folder="build")


def answer(outcome, body=None, **facts):
    """Write the answer and leave; nothing of the backend's runs after it."""
    sys.stdout.flush()
    sys.stderr.flush()
    with os.fdopen(RESULT_FD, "wb") as result:
        result.write(json.dumps({"outcome": outcome, **facts}).encode() + b"\n")
        if body is not None:
            with open(body, "rb") as file:
                while True:
                    chunk = file.read(1 << 20)
                    if not chunk:
                        break
                    result.write(chunk)
    os._exit(int(outcome in ("failed", "full")))  # the sandbox looks for want of memory behind a failure


def build(task):
    try:
        source, epoch = unpack(ROOT + "/in/sdist", task["filename"], ROOT + "/build/source")
    except Refused as refusal:
        answer("refused", reason=str(refusal))
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch)
    facts = {
        "source_date_epoch": epoch,
        "pyproject_sha256": digest_of_file(os.path.join(source, "pyproject.toml")),
    }
    apply_patches(source, task["patches"], facts)
    settings = settings_for_cores(task["cores"], task["build_system"]["backend"], task["config_settings"])
    caller = hook_caller(source, task["build_system"])
    requires, make, suffixes = {
        "wheel": (caller.get_requires_for_build_wheel, caller.build_wheel, (".whl",)),
        "sdist": (caller.get_requires_for_build_sdist, caller.build_sdist, (".tar.gz", ".zip")),
        "metadata": (caller.get_requires_for_build_wheel, preparing(caller), (".dist-info",)),
    }[task["make"]]
    asked = hook(requires, settings, facts)
    required, missing = judge(asked) if asked else ([], [])
    if missing and not task["complete"]:
        answer("missing", requires=required, missing=missing, **facts)
    facts["requires"] = required
    output = ROOT + "/build/made"
    os.mkdir(output)
    made = hook(lambda settings: make(output, settings), settings, facts)
    name, found = os.path.basename(made), sorted(name for name in os.listdir(output) if name.endswith(suffixes))
    path = os.path.join(os.path.realpath(output), name, *(["METADATA"] if task["make"] == "metadata" else []))
    if found != [name] or os.path.realpath(path) != path or not os.path.isfile(path):
        answer("unexpected", filename=name, found=found, **facts)
    answer("built", path, filename=name, **facts)


def preparing(caller):
    """The hook that tells metadata without a build; it is missing rather than stood in for by a build."""
    return lambda output, settings: caller.prepare_metadata_for_build_wheel(output, settings, _allow_fallback=False)


def apply_patches(source, count, facts):
    """Apply the recipe's patches in order; one that does not apply exactly ends the build."""
    import subprocess

    for number in range(count):
        words = ["patch", "-p1", "--batch", "--forward", "--fuzz=0", "--no-backup-if-mismatch", "--directory", source]
        try:
            subprocess.run([*words, "--input", "%s/in/%d.patch" % (ROOT, number)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            answer("failed", reason="patch %d of the recipe does not apply: %s" % (number + 1, error), **facts)


def settings_for_cores(cores, backend, settings):
    """Have build tools use so many cores, each in its own way; the config settings to call the hooks with.

    None of it changes what is built, and what the recipe sets stays.
    """
    if cores < 2:
        return settings
    configuration = ROOT + "/build/cores.cfg"
    with open(configuration, "w") as file:
        file.write("[build_ext]\nparallel = %d\n" % cores)
    os.environ.setdefault("DIST_EXTRA_CONFIG", configuration)
    os.environ.setdefault("MAKEFLAGS", "-j%d" % cores)
    for name in ("CMAKE_BUILD_PARALLEL_LEVEL", "CARGO_BUILD_JOBS", "NPY_NUM_BUILD_JOBS", "MAX_JOBS"):
        os.environ.setdefault(name, str(cores))
    if backend == "mesonpy" and "compile-args" not in settings:
        return {**settings, "compile-args": ["-j%d" % cores]}
    return settings


def hook(function, settings, facts):
    """What a hook returned; a hook that fails ends the build with its reason."""
    try:
        return function(settings)
    except HookFailed as failure:
        reason = str(failure)
    except sys.modules["pyproject_hooks"].HookMissing:
        answer("unprepared", **facts)
    except Exception as error:  # such as pyproject_hooks.BackendUnavailable, which carries the backend's traceback
        told = getattr(error, "traceback", "") or traceback.format_exc()
        print(told)
        reason = [line for line in told.splitlines() if line.strip()][-1]
    for folder in ("build", "tmp"):
        if is_full(ROOT + "/" + folder):
            answer("full", folder=folder, **facts)
    return answer("failed", reason=reason[:2000], **facts)


def is_full(folder):
    """Whether next to nothing can be written there any more."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < 64 << 10


def hook_caller(source, build_system):
    sys.path.insert(0, LIBRARIES)
    import pyproject_hooks

    sys.path.remove(LIBRARIES)
    preload(source, build_system)
    return pyproject_hooks.BuildBackendHookCaller(
        source, build_system["backend"], backend_path=build_system["backend_path"] or None, runner=run_forked
    )


def preload(source, build_system):
    """Import the backend once, for every fork to inherit. What fails here fails again, told properly, in the hook."""
    name = build_system["backend"].partition(":")[0]
    places = [os.path.normpath(os.path.join(source, path)) for path in build_system["backend_path"]]
    if places and importlib.machinery.PathFinder.find_spec(name.partition(".")[0], places) is None:
        return  # it must not be taken from elsewhere
    folder = os.getcwd()
    os.chdir(source)
    sys.path[:0] = places
    try:
        importlib.import_module(name)
    except Exception:
        pass
    finally:
        sys.path[:] = [entry for entry in sys.path if entry not in places]
        os.chdir(folder)


def run_forked(command, cwd=None, extra_environ=None):
    """A runner for pyproject_hooks: its own script, in a fork of this process instead of a new interpreter."""

    def run_script():
        forget_libraries()
        os.close(RESULT_FD)
        os.chdir(cwd)
        os.environ.update(extra_environ or {})
        # pyproject_hooks finds the backend there by itself; metadata beside it (old setuptools' egg-info) it does not
        sys.path[:0] = json.loads(os.environ.get("_PYPROJECT_HOOKS_BACKEND_PATH_JSON", "[]"))
        sys.argv = list(command[1:])
        compiled = importlib.util.cache_from_source(command[1])
        runpy.run_path(compiled if os.path.exists(compiled) else command[1], run_name="__main__")

    status, said = in_fork(run_script)
    if status != 0:
        killed = os.WIFSIGNALED(status)
        how = "was killed by signal %d" % os.WTERMSIG(status) if killed else "exited with %d" % os.WEXITSTATUS(status)
        raise HookFailed(json.loads(said) if said else "the backend's process " + how)


def in_fork(function):
    """Call a function in a fork; its exit status, and its result, or what it died of, as JSON text.

    What it says goes by a file without a name: a pipe would be held open by whatever the fork leaves running.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    scratch = "%s/tmp/.said-%d" % (ROOT, os.getpid())
    said_fd = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_EXCL)  # memfd_create is not in every build of Python
    os.unlink(scratch)
    child = os.fork()
    if child == 0:
        status, said = 1, ""
        try:
            said, status = json.dumps(function()), 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):  # what the interpreter would print
                print(end.code)
                said = json.dumps(end.code[:2000])
        except BaseException as error:
            traceback.print_exc()
            said = json.dumps(("%s: %s" % (type(error).__name__, error))[:2000])
        finally:
            leave(said_fd, said, status)
    status = os.waitpid(child, 0)[1]
    with os.fdopen(said_fd, "rb") as file:
        file.seek(0)
        return status, file.read().decode()


def leave(said_fd, said, status):
    try:
        try:
            with os.fdopen(said_fd, "wb") as file:
                file.write(said.encode())
        except OSError:  # the disk is full, and an answer that is lost is none
            status = status or 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def forget_libraries():
    """Leave the environment's modules alone in a fork: the driver's must not stand in for what it lacks."""
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(LIBRARIES):
            del sys.modules[name]


def judge(asked):
    status, said = in_fork(lambda: missing_requirements(asked))
    if status != 0:
        answer("failed", reason="the requirements that the backend asks for can't be read: %s" % said)
    return json.loads(said)


def missing_requirements(asked):
    """Of the requirements a hook asked for: those that apply here, and those of them the environment does not meet."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "packaging"]:
        del sys.modules[name]
    sys.path.insert(0, LIBRARIES)
    from packaging.requirements import Requirement

    required, missing = [], []
    for requirement in map(Requirement, asked):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        requirement.marker = None
        required.append(str(requirement))
        if requirement.url or not is_met(requirement, set()):
            missing.append(str(requirement))
    return required, missing


def is_met(requirement, judged):
    """Whether the environment meets a requirement, with what its extras need; `judged` are those that were asked of."""
    from importlib.metadata import PackageNotFoundError, distribution

    from packaging.requirements import Requirement

    if str(requirement) in judged:
        return True
    judged.add(str(requirement))
    try:
        found = distribution(requirement.name)
    except PackageNotFoundError:
        return False
    if not requirement.specifier.contains(found.version, prereleases=True):
        return False
    return all(
        is_met(need, judged)
        for need in map(Requirement, found.requires or [])
        if need.marker is not None
        and not need.marker.evaluate({"extra": ""})
        and any(need.marker.evaluate({"extra": extra}) for extra in requirement.extras)
    )


def digest_of_file(path):
    """The sha256 of a file, or "" where there is none."""
    if not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


# Unpacking: tarfile's own filter is absent from or bypassed on many interpreters in use, so every member is judged
# here. The sandbox is the boundary; the judgement is so that a lying archive is named as one.


def unpack(archive, filename, folder):
    """Unpack an sdist; its top folder, and the newest time that its files state (for SOURCE_DATE_EPOCH)."""
    os.mkdir(folder)
    try:
        times = unpack_zip(archive, folder) if filename.endswith(".zip") else unpack_tar(archive, folder)
    except Refused:
        raise
    except Exception as error:
        if getattr(error, "errno", 0) == errno.ENOSPC:
            raise
        raise Refused("%s: %s" % (type(error).__name__, error)) from error
    newest = max([time for time in times if time > OLDEST_ZIP_TIME] or [OLDEST_ZIP_TIME])  # a header may state nan
    return top_folder(folder), int(min(newest, NEWEST_ZIP_TIME))


def top_folder(folder):
    """The source tree in an unpacked archive: its one folder, or, as pip and uv have it, the top itself of a flat one.

    What macOS leaves in archives is not counted.
    """
    found = [name for name in os.listdir(folder) if not name.startswith("._") and name not in LEFTOVERS]
    if len(found) == 1 and os.path.isdir(os.path.join(folder, found[0])):
        return os.path.join(folder, found[0])
    if not {"pyproject.toml", "setup.py"}.intersection(found):
        raise Refused("it holds neither one folder nor a project at its top, but %d entries" % len(found))
    return folder


def unpack_tar(archive, folder):
    import tarfile

    times = []
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.type in (tarfile.XGLTYPE,) or os.path.normpath(member.name) == ".":
                continue
            path = inside(folder, member.name)
            if member.isdir():
                os.makedirs(path, exist_ok=True)
            elif member.isreg():
                write_member(path, tar.extractfile(member), member.mode & 0o111)
                times.append(member.mtime)
            elif member.issym():
                inside(folder, os.path.join(os.path.dirname(member.name), member.linkname), member.name)
                make_way(path)
                os.symlink(member.linkname, path)
            elif member.islnk():
                source = inside(folder, member.linkname, member.name)
                make_way(path)
                os.link(source, path)
            else:
                raise Refused("%r is a device or another special file" % member.name)
    return times


def unpack_zip(archive, folder):
    import calendar
    import zipfile

    times = []
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            path = inside(folder, info.filename)
            if info.is_dir():
                os.makedirs(path, exist_ok=True)
                continue
            with packed.open(info) as member:
                write_member(path, member, (info.external_attr >> 16) & 0o111)
            if info.date_time[1] and info.date_time[2]:  # some writers leave the date out
                times.append(calendar.timegm((*info.date_time, 0, 0, 0)))
    return times


def inside(folder, name, member=None):
    """The path of a member, links resolved; refused when it leaves the folder."""
    parent, last = os.path.split(os.path.join(folder, name))
    if last == "..":
        parent, last = os.path.join(parent, last), ""
    resolved = os.path.normpath(os.path.join(os.path.realpath(parent), last))
    if os.path.isabs(name) or os.path.commonpath([resolved, folder]) != folder:
        raise Refused("%r leads out of the archive" % (member or name))
    return resolved


def make_way(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.lexists(path):
        os.remove(path)


def write_member(path, member, executable):
    make_way(path)
    with open(path, "wb") as file:
        while True:
            chunk = member.read(1 << 20)
            if not chunk:
                break
            file.write(chunk)
    os.chmod(path, 0o755 if executable else 0o644)


def make_trees(task):
    """Unpack wheels, the first into /tree/0, laid out as an environment, and compile them; none of their code runs."""
    sources = {}
    for number, wheel in enumerate(task["wheels"]):
        root = "%s/tree/%d" % (ROOT, number)
        library = unpack_wheel(wheel, root, task["site_packages"])
        relocate_scripts(root + "/bin")
        sources.update(python_sources(library, root, "/env"))
    compile_sources(sources, task["cores"])
    answer("made")


def unpack_wheel(wheel, root, site_packages):
    """Install a wheel into a folder; the folder of its modules."""
    if LIBRARIES not in sys.path:
        sys.path.insert(0, LIBRARIES)
    import installer
    import installer.destinations
    import installer.sources

    library = os.path.join(root, site_packages)
    python = os.path.basename(os.path.dirname(site_packages))
    scheme = {
        "purelib": library,
        "platlib": library,
        "scripts": root + "/bin",
        "data": root,
        "headers": "%s/include/site/%s/%s" % (root, python, wheel["name"]),
    }
    destination = installer.destinations.SchemeDictionaryDestination(scheme, "/env/bin/python", "posix")
    with installer.sources.WheelFile.open(ROOT + "/in/" + wheel["filename"]) as source:
        installer.install(source, destination, {"INSTALLER": b"wheelfarm\n"})
    return library


def compile_driver(task):
    """Copy the driver to /tree/0 and compile it: it starts in every sandbox."""
    import shutil

    root = ROOT + "/tree/0"
    shutil.copytree(LIBRARIES, root + "/lib")
    compile_sources(python_sources(root, root, task["shown_at"]), task["cores"])
    compile_source(os.path.abspath(__file__), task["shown_at"] + "/inside.py", root + "/inside.pyc")
    answer("made")


def python_sources(folder, root, shown_at):
    """The sources in a folder, each with the path that it will be seen at when `root` is shown at another."""
    found = [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return {path: shown_at + path[len(root) :] for path in found if path.endswith(".py")}


def compile_sources(sources, cores):
    """Compile in as many processes, the largest first."""
    ordered = sorted(sources, key=os.path.getsize, reverse=True)
    children = []
    for share in range(cores):
        child = os.fork()
        if child == 0:
            try:
                for path in ordered[share::cores]:
                    compile_source(path, sources[path])
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def compile_source(path, shown_as, compiled=None):
    """Compile a file that will be read-only; one that can't be is told of by whoever imports it."""
    import py_compile

    try:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(path, cfile=compiled, dfile=shown_as, quiet=2, invalidation_mode=mode)
    except Exception:
        pass


def relocate_scripts(folder):
    """Let scripts find their environment by PATH, so that a tree serves wherever it is laid."""
    fixed = b"#!/env/bin/python"
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            continue  # wheels may have folders among their scripts
        with open(path, "rb") as file:
            content = file.read()
        if content.startswith(fixed):
            with open(path, "wb") as file:
                file.write(b"#!/usr/bin/env python" + content[len(fixed) :])


if __name__ == "__main__":
    main()
