"""What runs inside the sandbox, and how its parts are laid out for it.

`inside.py` is run by the environment's own interpreter, of any Python that its libraries run on; these are shown to
it apart from the environment, so that they neither shadow nor complete what a project asked for. Their digest is part
of every build key.
"""

import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from wheelfarm.errors import SandboxUnavailable

MOUNTED_AT = "/driver"
_LIBRARIES = ("installer", "packaging", "pyproject_hooks")


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """The driver's files in one folder, to be mounted at `MOUNTED_AT`, the digest of them all, and what to run."""

    folder: Path
    digest: str
    script: str = f"{MOUNTED_AT}/inside.py"


def lay_out_driver(cache: Path, work: Path) -> Driver:
    """Copy the driver and its libraries to a folder of their own, named by their digest, unless it is there; by way of
    `work`, on the same file system."""
    return lay_out("driver", Path(__file__).with_name("inside.py"), _LIBRARIES, cache, work)


def lay_out(
    name: str, script: Path, libraries: Iterable[str], cache: Path, work: Path, *, distributions: Iterable[str] = ()
) -> Driver:
    """The same for any script that runs in sandboxes, upon libraries of this process's own environment; those of the
    `distributions` find their own metadata."""
    sources = {Path("inside.py"): script}
    for library in libraries:
        root = _library_root(library)
        files = (path for kind in ("*.py", "*.json") for path in sorted(root.rglob(kind)))
        sources |= {Path("lib") / library / path.relative_to(root): path for path in files}
    for distribution in map(metadata.distribution, distributions):
        info = f"{distribution.name}-{distribution.version}.dist-info/METADATA"
        sources[Path("lib") / info] = Path(str(distribution.locate_file(info)))
    digest = _digest(sources)
    folder = cache / name / digest[:32]
    if not folder.exists():
        partial = work / name
        for path, source in sources.items():
            (partial / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, partial / path)
        folder.parent.mkdir(exist_ok=True)
        try:
            partial.replace(folder)
        except OSError:
            if not folder.exists():  # another worker was faster with the same
                raise
    return Driver(folder=folder, digest=digest)


def _library_root(library: str) -> Path:
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        raise SandboxUnavailable(f"The worker lacks the library {library}.", hint="pip install 'wheelfarm[workers]'")
    return Path(spec.origin).parent


def _digest(sources: dict[Path, Path]) -> str:
    digest = hashlib.sha256()
    for path, source in sorted(sources.items()):
        digest.update(f"{path.as_posix()} {hashlib.sha256(source.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
