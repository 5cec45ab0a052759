"""Sixty well-known projects, the newest sdist of each, and releases of years ago."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WellKnown:
    """A requirement, a cell of the table in docs/slow-suite.md, and what to import to see that it works ("" where the
    code is too old for that)."""

    requirement: str
    kind: str
    module: str = ""

    @property
    def name(self) -> str:
        return self.requirement.partition("==")[0]


def _of(kind: str, *names: str) -> list[WellKnown]:
    """Projects of one kind, each as "name" or "name=module"."""
    pairs = [name.partition("=") for name in names]
    return [
        WellKnown(requirement=name, module=module or name.replace("-", "_"), kind=kind) for name, _, module in pairs
    ]


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

_OLD_PURE = """
suds==0.4 python-dateutil==1.5 paste==1.7.5.1 anyjson==0.3.3 termcolor==1.1.0 mock==1.0.1 pytz==2013.9 docutils==0.12
hexdump==3.3 six==1.4.0 jinja2==2.7 twisted==13.2.0 nose==1.3.0 httplib2==0.8 babel==1.3 testtools==0.9.34 pytest==2.5.2
pyasn1==0.1.7 markdown==2.4 docopt==0.6.2 pymysql==0.6.1 sqlparse==0.1.11 stevedore==1.0 oslo-config==1.3.0
wheel==0.24.0 ipython==1.2.1 boto==2.25.0 jsonschema==2.3.0 sphinx==1.2.2 pylint==1.1.0 demjson==2.2.4 attrs==15.0.0
future==0.18.2
"""
_OLD_C = """
simplejson==2.1.1 zope-interface==4.0.5 ujson==1.33 greenlet==0.4.2 markupsafe==0.23 psutil==2.0.0 tornado==3.2
coverage==3.7.1 sqlalchemy==0.9.10 pycrypto==2.6.1 pyyaml==5.4.1 msgpack==0.5.6 typed-ast==1.4.3 cryptography==3.3.2
"""
OLD = [
    *(WellKnown(requirement=requirement, kind="pure") for requirement in _OLD_PURE.split()),
    *(WellKnown(requirement=requirement, kind="C") for requirement in _OLD_C.split()),
]
