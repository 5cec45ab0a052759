"""What two METADATA files tell a resolver, compared as values and not as text."""

import email.parser
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import canonicalize_name, canonicalize_version
from packaging.version import Version

_MOST_TOLD = 40


def metadata_differences(resolved: bytes, built: bytes) -> tuple[str, ...]:
    """The fields of `resolved` that `built` lacks, each as a line with `-`, and those that only `built` has, with `+`.

    Compared are Name, Version (PEP 440: 1.0 is 1.0.0), Requires-Python, Requires-Dist and Provides-Extra, with names,
    specifiers and markers in one form each. Of a long list the first lines stand.
    """
    before, after = _fields(resolved), _fields(built)
    lines = [*(f"-{line}" for line in sorted(before - after)), *(f"+{line}" for line in sorted(after - before))]
    more = [f"and {len(lines) - _MOST_TOLD} more"] if len(lines) > _MOST_TOLD else []
    return (*lines[:_MOST_TOLD], *more)


def _fields(metadata: bytes) -> frozenset[str]:
    message = email.parser.BytesParser().parsebytes(metadata, headersonly=True)
    return frozenset(_told(message))


def _told(message: Message) -> Iterator[str]:
    for name, form in _FORMS.items():
        for value in message.get_all(name, []):
            text = " ".join(str(value).split())
            try:
                told = form(text)
            except (ValueError, RecursionError):  # what can't be read is compared as it stands
                told = text
            if told:
                yield f"{name}: {told[:1000]}"


def _requirement(text: str) -> str:
    requirement = Requirement(text)
    extras = f"[{','.join(sorted(canonicalize_name(extra) for extra in requirement.extras))}]"
    place = f" @ {requirement.url}" if requirement.url else _specifiers(requirement.specifier)
    marker = f"; {_marker(requirement.marker)}" if requirement.marker else ""
    return f"{canonicalize_name(requirement.name)}{extras if requirement.extras else ''}{place}{marker}"


def _specifiers(specifiers: SpecifierSet) -> str:
    """The specifiers in one order, and 1.0 as 1 wherever zeros at the end say nothing (PEP 440)."""
    return ",".join(sorted(f"{one.operator}{_version(one)}" for one in specifiers))


def _version(specifier: Specifier) -> str:
    literal = specifier.operator == "===" or specifier.version.endswith(".*")
    return (
        specifier.version
        if literal
        else canonicalize_version(specifier.version, strip_trailing_zero=specifier.operator != "~=")
    )


def _marker(marker: Marker) -> str:
    """The marker with the members of each `and` and `or` in one order: backends put the extra first or last."""
    return _alternatives(marker._markers)


def _alternatives(terms: list[Any]) -> str:
    groups: list[set[str]] = [set()]
    for term in terms:
        if term == "or":
            groups.append(set())
        elif isinstance(term, list):
            groups[-1].add(_within(_alternatives(term)))
        elif term != "and":
            groups[-1].add(" ".join(part.serialize() for part in term))
    return " or ".join(sorted({" and ".join(sorted(group)) for group in groups}))


def _within(text: str) -> str:
    return f"({text})" if " or " in text else text


_FORMS: dict[str, Callable[[str], str]] = {
    "Name": canonicalize_name,
    "Version": lambda text: canonicalize_version(Version(text)),
    "Requires-Python": lambda text: _specifiers(SpecifierSet(text)),
    "Requires-Dist": _requirement,
    "Provides-Extra": canonicalize_name,
}
