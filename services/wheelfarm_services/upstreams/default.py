"""The upstreams of a farm that names none: the index that this machine's tools use."""

import re
import subprocess
from collections.abc import Mapping

from uv import find_uv_bin

from wheelfarm.settings import Settings
from wheelfarm_services.upstreams.settings import Routes, UpstreamSettings


def routes_of(settings: Settings, environment: Mapping[str, str]) -> Routes:
    """What the upstreams file says or, where none is given, WHEELFARM_INDEX or this machine's own default. Raises
    InputError."""
    if settings.upstreams.name:
        from wheelfarm_services.upstreams.configuration import read_upstreams  # pydantic takes a tenth of a second

        return read_upstreams(settings.upstreams)
    return Routes(upstreams=(UpstreamSettings(name="default", url=settings.index or default_index_url(environment)),))


def default_index_url(environment: Mapping[str, str]) -> str:
    """The index that this machine's tools use: uv's or pip's setting in the environment, or else uv's own default."""
    if (
        url := environment.get("UV_DEFAULT_INDEX")
        or environment.get("UV_INDEX_URL")
        or environment.get("PIP_INDEX_URL")
    ):
        return re.sub(r"^[A-Za-z0-9._-]+=", "", url)  # uv lets an index be given as NAME=URL
    command = [find_uv_bin(), "pip", "compile", "--no-config", "--no-header", "--quiet", "--emit-index-url"]
    clean = {name: value for name, value in environment.items() if not name.startswith(("UV_", "PIP_"))}
    done = subprocess.run(
        [*command, "--no-python-downloads", "-"], input="", env=clean, capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]
