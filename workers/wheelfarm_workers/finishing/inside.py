"""Run in a sandbox of the target, on a wheel of whose making nobody knows: what its ELF files need, and its repair.

Reads a task as JSON from stdin; answers with a line of JSON, then with the bytes of the repaired wheel, if there is
one. What is told of ELF files is the word of whoever made them, so the worker takes nothing of it but names and
numbers.
"""

import json
import os
import re
import subprocess
import sys
import zipfile

ROOT = os.environ["WHEELFARM_ROOT"]
LIBRARIES = ROOT + "/driver/lib"
GLIBC = re.compile(r"(GLIBC|GLIBCXX|CXXABI)_([0-9]+(?:\.[0-9]+)*)")
MOST = 1000


def main():
    task = json.load(sys.stdin)
    sys.path.insert(0, LIBRARIES)
    wheel = os.path.join(ROOT + "/build", task["filename"])
    os.symlink(ROOT + "/in/wheel", wheel)
    told = inspected(wheel, task["abi3"])
    body = b""
    if task["portable"]:
        body = repaired(wheel, task["external"], told)
    with os.fdopen(int(os.environ["WHEELFARM_RESULT_FD"]), "wb") as out:
        out.write(json.dumps(told).encode() + b"\n")
        out.write(body)


def inspected(path, abi3):
    """How many ELF files a wheel has, what they need, and which Python symbols are not of the limited API of `abi3`."""
    from io import BytesIO

    from elftools.elf.elffile import ELFFile

    needed, own, versions, foreign = set(), set(), {}, set()
    count = 0
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:
                if member.read(4) != b"\x7fELF":
                    continue
                count += 1
                data = BytesIO(b"\x7fELF" + member.read())
            own.add(os.path.basename(info.filename))
            try:
                elf = ELFFile(data)
                needed.update(needed_by(elf))
                note_versions(elf, versions)
                foreign.update(beyond_limited_api(elf, abi3) if abi3 else ())
            except Exception as error:
                print("wheelfarm: %s can't be read as ELF: %s" % (info.filename, error), file=sys.stderr)
    highest = {name: ".".join(map(str, number)) for name, number in versions.items()}
    return {"elf": count, "needs": sorted(needed - own)[:MOST], "versions": highest, "abi3": sorted(foreign)[:20]}


def needed_by(elf):
    """The shared libraries that an ELF file names."""
    dynamic = elf.get_section_by_name(".dynamic")
    return [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")] if dynamic else []


def note_versions(elf, versions):
    """Note the highest version of each of glibc's and libstdc++'s symbol sets that an ELF file asks for."""
    section = elf.get_section_by_name(".gnu.version_r")
    for _, entries in section.iter_versions() if section else ():
        for found in filter(None, (GLIBC.fullmatch(entry.name) for entry in entries)):
            number = tuple(int(part) for part in found.group(2).split(".")[:4])
            versions[found.group(1)] = max(number, versions.get(found.group(1), number))


def beyond_limited_api(elf, abi3):
    """The undefined symbols of CPython's that its limited API of version `abi3` (PEP 384) does not have."""
    from abi3info import DATAS, FUNCTIONS

    known = {symbol.name: item.added for table in (FUNCTIONS, DATAS) for symbol, item in table.items()}
    symbols = elf.get_section_by_name(".dynsym")
    for symbol in symbols.iter_symbols() if symbols else ():
        if symbol["st_shndx"] != "SHN_UNDEF" or not re.match("_?Py", symbol.name):
            continue
        added = known.get(symbol.name)
        if added is None or (added.major, added.minor) > tuple(abi3):
            yield symbol.name


def repaired(wheel, external, told):
    """The bytes of the wheel as auditwheel made it, with the libraries in it that it needs; none where it could not."""
    out = ROOT + "/build/repaired"
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from auditwheel.main import main; sys.exit(main())"
    command = [sys.executable, "-I", "-c", script, LIBRARIES, "repair", "--wheel-dir", out]
    for name in external:
        command += ["--exclude", name]
    done = subprocess.run([*command, wheel], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = done.stdout.decode(errors="replace")
    sys.stderr.write(said)
    made = sorted(os.listdir(out)) if os.path.isdir(out) else []
    if done.returncode or len(made) != 1:
        told["failed"] = said.strip()[-1500:]
        return b""
    told["filename"] = made[0]
    with open(os.path.join(out, made[0]), "rb") as file:
        return file.read()


main()
