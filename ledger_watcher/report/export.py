"""A run in the forms that other tools take: JSON lines with every record, and CSV with a row per node.

JSON lines lose nothing: each line is a record as it stands in the ledger, with ``seq`` and ``epoch`` (where it stands) and, in an export,
the identity of the run: ``deployment``, ``dag_id``, ``run_id``, ``group``, ``map_index``.

CSV is for people and spreadsheets: characters that are not printable are written as escapes. Its columns stay as they are; new ones come
at the end.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from ledger_watcher import codec
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.segments import Entry
from ledger_watcher.report.text import inert_lines
from ledger_watcher.report.view import NodeRow, finished_at

IDENTITY = ("deployment", "dag_id", "run_id", "group", "map_index")

COLUMNS: tuple[str, ...] = (
    *IDENTITY,
    "unique_id",
    "name",
    "resource_type",
    "materialized",
    "relation",
    "attempt",
    "state",
    "status",
    "execution_time",
    "started_at",
    "finished_at",
    "rows_affected",
    "failures",
    "query_id",
    "thread",
    "skip_cause",
    "source",
    "message",
    "by_choice",
)
"""Of the CSV. ``state`` is the ledger's word, ``status`` dbt's; times are RFC 3339 in UTC, ``execution_time`` is in seconds; ``skip_cause`` is
unique_ids with blanks between them."""

_RESULT = ("status", "execution_time", "rows_affected", "failures", "query_id", "by_choice", "source", "message", "adapter_response")
_FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001 - spreadsheets take the wide forms too


def identity(run: RunKey) -> dict[str, Any]:
    """The run's names, as every line of an export has them."""
    return {name: getattr(run, name) for name in IDENTITY}


def json_line(entry: Entry, more: Mapping[str, Any] | None = None) -> str:
    """One record as a line of JSON with ``seq``, ``epoch`` and ``more``. ASCII only, so that no character can act on a terminal."""
    raw = codec.loads(codec.encode(entry.record))
    return json.dumps({**raw, "seq": entry.seq, "epoch": entry.epoch, **(more or {})}, separators=(",", ":"), ensure_ascii=True)


def csv_text(run: RunKey, rows: Iterable[NodeRow], *, spreadsheet_safe: bool = False) -> str:
    """One row per node below a row of :data:`COLUMNS`, by RFC 4180.

    :param spreadsheet_safe: put an apostrophe before text that a spreadsheet would take for a formula.
    """
    out = io.StringIO()
    writer = csv.writer(out)  # lines end in \r\n, and so a lone one of them within a value is quoted on every Python
    writer.writerow(COLUMNS)
    names = identity(run)
    for row in rows:
        values = {**names, **node_values(row)}
        writer.writerow([_cell(values[name], safe=spreadsheet_safe) for name in COLUMNS])
    return out.getvalue()


def node_values(row: NodeRow) -> dict[str, Any]:
    """The columns of a node but the run's, and ``adapter_response``: text, numbers, times, a tuple, a dict or ``None``."""
    begun, ended = row.begun, row.finished
    values: dict[str, Any] = {
        "unique_id": row.unique_id,
        "name": row.name,
        "resource_type": row.resource_type,
        "materialized": (ended and ended.materialized) or (begun and begun.materialized),
        "relation": (ended and ended.relation) or (begun and begun.relation),
        "attempt": row.attempt,
        "state": row.state,
        "started_at": row.started_at,
        "finished_at": finished_at(ended),
        "thread": (ended and ended.thread) or (begun and begun.thread),
        "skip_cause": ended.skip_cause if ended else None,
    }
    return {**values, **{name: getattr(ended, name) if ended else None for name in _RESULT}}


def _cell(value: str | float | datetime | tuple[str, ...] | None, *, safe: bool) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return rfc3339(value) or ""
        case str() | tuple():
            text = "\n".join(inert_lines(value if isinstance(value, str) else " ".join(value)))
            return f"'{text}" if safe and text.lstrip().startswith(_FORMULA) else text
        case _:
            return str(value)


def rfc3339(time: datetime | None) -> str | None:
    """A time as ledgers write it."""
    return time.astimezone(timezone.utc).isoformat().replace("+00:00", "Z") if time else None
