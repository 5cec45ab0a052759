"""`python -m wheelfarm_services.examination`: what this machine has of what the services need, as JSON on stdout."""

import json
import os

from wheelfarm.check import Check, failed, found
from wheelfarm.errors import WheelfarmError
from wheelfarm.settings import Settings
from wheelfarm_services.upstreams import Index, index_of, routes_of

_PROJECT = "setuptools"
"""Asked for because every index that serves sdists has it, or answers 404, which is an answer."""


def upstream_check(upstream: Index) -> Check:
    """Whether the upstream index answers as an index. Its credentials are told nowhere."""
    try:
        page = upstream.page(_PROJECT).page
    except WheelfarmError as error:
        return failed("upstream index", error)
    listed = f"{len(page.sdists)} sdists of {_PROJECT}" if page else f"no {_PROJECT}"
    return found("upstream index", f"{upstream.url} ({listed})")


def main() -> None:
    """Check, and print."""
    settings = Settings.from_environment(os.environ)
    upstreams = [index_of(one) for one in routes_of(settings, os.environ).upstreams]
    print(json.dumps([upstream_check(upstream).to_json() for upstream in upstreams]))


if __name__ == "__main__":
    main()
