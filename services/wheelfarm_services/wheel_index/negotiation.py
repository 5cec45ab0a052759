"""Which form of a page a client gets (PEP 691; RFC 9110, 12.5.1)."""

from dataclasses import dataclass
from enum import StrEnum

from wheelfarm_services.wheel_index.page import SIMPLE_JSON

SIMPLE_HTML = "application/vnd.pypi.simple.v1+html"
HTML = "text/html"


class Form(StrEnum):
    """The forms that pages are kept in."""

    JSON = "json"
    HTML = "html"


@dataclass(frozen=True, kw_only=True, slots=True)
class Representation:
    """The form of a page, and the media type it is sent as."""

    form: Form
    media_type: str


_OFFERED = {
    SIMPLE_JSON: Representation(form=Form.JSON, media_type=SIMPLE_JSON),
    SIMPLE_HTML: Representation(form=Form.HTML, media_type=SIMPLE_HTML),
    HTML: Representation(form=Form.HTML, media_type=HTML),
    "application/vnd.pypi.simple.latest+json": Representation(form=Form.JSON, media_type=SIMPLE_JSON),
    "application/vnd.pypi.simple.latest+html": Representation(form=Form.HTML, media_type=SIMPLE_HTML),
}
_BY_RANGE = {"*/*": HTML, "text/*": HTML, "application/*": SIMPLE_JSON}
QUERY_FORM = "|".join(media_type.replace("+", "[+ ]").replace(".", r"\.") for media_type in _OFFERED)
"""What the `format` of a query may be; there a `+` that nobody escaped means a space."""


def representation(accept: str, wanted: str = "") -> Representation | None:
    """What an `Accept` header asks for first, or the `format` of a query, which comes before it; None for what is
    not offered. Whoever asks for nothing in particular gets HTML, as from every index."""
    if wanted:
        return _OFFERED.get(wanted.replace(" ", "+"))
    found: tuple[float, Representation] | None = None
    for choice in (accept or "*/*").lower().split(","):
        media_type, *parameters = (part.strip() for part in choice.split(";"))
        offered = _OFFERED.get(_BY_RANGE.get(media_type, media_type))
        quality = _quality(parameters)
        if offered is not None and quality > (found[0] if found else 0.0):
            found = quality, offered
    return found[1] if found else None


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
