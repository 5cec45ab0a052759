"""How a process of the farm tells what keeps it from starting or going on."""

import json
import sys
from typing import NoReturn

from wheelfarm.errors import WheelfarmError


def refuse(error: WheelfarmError, *, as_json: bool) -> NoReturn:
    """End with the error's exit code: told as JSON on stdout's last line to a keeper, on stderr to people."""
    if as_json:
        print(json.dumps(error.to_json()), flush=True)
    else:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        print(f"error: {error.message}{hint}", file=sys.stderr, flush=True)
    sys.exit(error.exit_code)
