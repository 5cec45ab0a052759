"""Tables of the docs that tests write: a row is what a test found, and the committed row must say the same."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(kw_only=True)
class Table:
    """One table of a page: the lines below its heading that begin with a bar. The first cell names the row."""

    page: Path
    heading: str
    found: dict[str, str] = field(default_factory=dict)

    def rows(self) -> dict[str, str]:
        """The rows by their first cell, as they are committed."""
        _, lines, _ = self._parts()
        return {cells_of(line)[0]: line for line in lines[_HEAD:]}

    def add(self, *cells: str) -> None:
        """Note a row that was found."""
        self.found[cells[0]] = f"| {' | '.join(cells)} |"

    def add_cells(self, name: str, column: int, *cells: str) -> None:
        """Note cells of a row from a column on; the others stay as they are, and are "?" where there are none yet."""
        row = cells_of(self.found.get(name) or self.rows().get(name) or f"| {name} |")
        row += ["?"] * (column + len(cells) - len(row))
        row[column : column + len(cells)] = cells
        self.add(*row)

    def write(self, order: Iterable[str]) -> None:
        """Write the rows that were found over those that stand, in that order; rows that are not in it go."""
        rows = {**self.rows(), **self.found}
        before, lines, after = self._parts()
        written = [*lines[:_HEAD], *(rows[name] for name in order if name in rows)]
        self.page.write_text("\n".join([*before, *written, *after]) + "\n")

    def _parts(self) -> tuple[list[str], list[str], list[str]]:
        """The page's lines before the table, the table's, and those after it."""
        lines = self.page.read_text().splitlines()
        heading = lines.index(f"## {self.heading}")
        begin = next(number for number in range(heading, len(lines)) if lines[number].startswith("|"))
        end = next((number for number in range(begin, len(lines)) if not lines[number].startswith("|")), len(lines))
        return lines[:begin], lines[begin:end], lines[end:]


_HEAD = 2


def cells_of(line: str) -> list[str]:
    """The cells of a row."""
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def tables(page: str, headings: Iterable[str]) -> dict[str, Table]:
    """The tables of a page of the docs, by their headings."""
    return {heading: Table(page=DOCS / page, heading=heading) for heading in headings}
