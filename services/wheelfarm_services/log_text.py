"""Build logs as people see them: text in which nothing steers a terminal or turns the direction of writing."""

import re

_CONTROL = re.compile(r"[^\t\n -~\u00a0-\u200d\u2010-\u2027\u2030-\u2065\u206a-\ud7ff\uf900-\ufffd]")
_CUT_CHARACTER = re.compile(rb"(?:[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z")


def harmless(data: bytes) -> str:
    """The text of a piece of log, control characters and what is no UTF-8 replaced."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", data.decode(errors="replace"))


def whole_characters(data: bytes) -> bytes:
    """The piece without the beginning of a character at its end, unless it is nothing else."""
    cut = _CUT_CHARACTER.search(data)
    return data[: cut.start()] if cut and cut.start() else data
