"""A table, drawn with rich on a terminal and as aligned text everywhere else.

Rich is optional. Text for a file or a pipe is never cut or wrapped, so that it can be searched; what a state means is always in a
word, a symbol and a colour only repeat it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TextIO

from ledger_watcher.report.text import inert, width

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_LOOKS: dict[str, tuple[str, str]] = {
    "success": ("✓", "green"),
    "warn": ("!", "yellow"),
    "failed": ("✗", "bold red"),
    "skipped": ("»", "dim"),
    "noop": ("·", "dim"),
    "reused": ("↺", "green"),
    "cancelled": ("⊘", "red"),
    "running": ("▶", "cyan"),
    "waiting": ("…", "dim"),
    "unfinished": ("?", "red"),
    "not_run": ("-", "dim"),
    "silent": ("?", "yellow"),
    "superseded": ("?", "dim"),
}


_GAP = 2


class Cell(NamedTuple):
    """Text and the state whose symbol and colour it gets on a terminal, if any."""

    text: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading. ``right`` aligns numbers; ``wraps`` lets a narrow terminal break the text, into lines of at least so many columns."""

    title: str
    right: bool = False
    wraps: int = 0


@dataclass(frozen=True, slots=True)
class Grid:
    """Columns and rows. A column that is empty in every row is left out when drawn."""

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell | str]]

    def _filled(self) -> tuple[list[Column], list[list[Cell]]]:
        rows = [[Cell(inert(cell.text), cell.state) if isinstance(cell, Cell) else Cell(inert(cell)) for cell in row] for row in self.rows]
        keep = [at for at in range(len(self.columns)) if any(row[at].text for row in rows)]
        return [self.columns[at] for at in keep], [[row[at] for at in keep] for row in rows]

    def plain(self) -> str:
        """Aligned text with a line of headings, no line ending in blanks."""
        columns, rows = self._filled()
        lines = [[column.title for column in columns], *([cell.text for cell in row] for row in rows)]
        widths = [max(width(line[at]) for line in lines) for at in range(len(columns))]
        padded = [[_padded(text, size, how) for text, size, how in zip(line, widths, columns, strict=True)] for line in lines]
        return "\n".join("  ".join(line).rstrip() for line in padded)

    def least_width(self) -> int:
        """How many columns a terminal needs, so that :meth:`rich` cuts nothing off."""
        columns, rows = self._filled()
        return sum(max(len(column.title), _least(column, [row[at] for row in rows])) + _GAP for at, column in enumerate(columns))

    def rich(self) -> Table:
        """The same for a terminal."""
        from rich.table import Table  # noqa: PLC0415 - rich is optional

        columns, rows = self._filled()
        table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold")
        for at, column in enumerate(columns):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=not column.wraps,
                overflow="fold" if column.wraps else "ellipsis",
                min_width=_least(column, [row[at] for row in rows]) if column.wraps else None,
            )
        for row in rows:
            table.add_row(*(styled(cell) for cell in row))
        return table


def styled(cell: Cell) -> Text:
    """A cell for a terminal: its text, with symbol and colour of its state."""
    from rich.text import Text  # noqa: PLC0415

    symbol, style = _LOOKS.get(cell.state, ("", ""))
    return Text(f"{symbol} {cell.text}" if symbol else cell.text, style=style)


def terminal(out: TextIO) -> Console | None:
    """A console if ``out`` is a terminal that shows symbols and rich is installed, else ``None``."""
    if not out.isatty() or not (getattr(out, "encoding", None) or "").lower().startswith("utf"):
        return None
    try:
        from rich.console import Console  # noqa: PLC0415
    except ImportError:
        return None
    console = Console(file=out, markup=False, emoji=False, highlight=False)
    return None if console.is_dumb_terminal else console


def _least(column: Column, cells: Sequence[Cell]) -> int:
    longest = max((width(cell.text) + 2 * (cell.state in _LOOKS) for cell in cells), default=0)
    return min(longest, column.wraps) if column.wraps else longest


def _padded(text: str, size: int, column: Column) -> str:
    blanks = " " * (size - width(text))
    return blanks + text if column.right else text + blanks
