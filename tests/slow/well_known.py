"""Sixty well-known projects, the newest sdist of each: how it is built, and what to import to see that it works."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WellKnown:
    """A project; `kind` is a cell of the table in docs/slow-suite.md."""

    name: str
    module: str
    kind: str


def _of(kind: str, *names: str) -> list[WellKnown]:
    """Projects of one kind, each as "name" or "name=module"."""
    pairs = [name.partition("=") for name in names]
    return [WellKnown(name=name, module=module or name.replace("-", "_"), kind=kind) for name, _, module in pairs]


WELL_KNOWN = [
    *_of("pure, setuptools", "requests", "six", "python-dateutil=dateutil", "pytz", "django", "boto3", "celery"),
    *_of("pure, setuptools", "pytest"),
    *_of("pure, flit-core", "flask", "jinja2", "idna", "tomli", "docutils"),
    *_of("pure, hatchling", "urllib3", "attrs=attr", "httpx", "fsspec", "black", "virtualenv", "jsonschema"),
    *_of("pure, poetry-core", "rich", "tomlkit", "python-dotenv=dotenv"),
    *_of("pure, pdm-backend", "fastapi", "typer"),
    *_of("C, setuptools", "markupsafe", "simplejson", "psutil", "wrapt", "regex", "ujson", "greenlet", "coverage"),
    *_of("C, setuptools", "tornado", "zope-interface=zope.interface", "charset-normalizer", "multidict", "zstandard"),
    *_of("C, setuptools", "lz4", "pillow=PIL"),
    *_of("C and system libraries", "lxml", "cffi", "psycopg2", "mysqlclient=MySQLdb", "pycurl", "pynacl=nacl"),
    *_of("Cython", "cython=Cython", "pyyaml=yaml", "msgpack", "aiohttp", "frozenlist", "sqlalchemy"),
    *_of("meson-python", "numpy", "contourpy"),
    *_of("scikit-build-core", "pyzmq=zmq"),
    *_of("Rust", "cryptography", "bcrypt", "orjson", "pydantic", "ruff"),
]  # fmt: skip
