"""What Airflow's services ask of their database. Installed as ``airflow_local_settings``, which each of them imports, it keeps the count.

Each statement is a line (its verb, its first table, and how many rows it changed) at the end of the file ``<service>`` in the folder of
:data:`FOLDER_ENV`. Workers, parses of DAG files and the like are forked by a service and write to its file.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import Engine

FOLDER_ENV = "E2E_STATEMENTS"
__all__ = ()  # of what Airflow's settings are to be replaced by
_SHAPE = re.compile(r'\s*(UPDATE|INSERT\b[^(]*?\bINTO|DELETE FROM|SELECT\b.*?\bFROM)\s+["(]*(\w+)', re.IGNORECASE | re.DOTALL)


@lru_cache(maxsize=4096)
def shape(statement: str) -> str | None:
    """``INSERT xcom`` and the like; ``None`` of what reads and writes no table."""
    found = _SHAPE.match(statement)
    return f"{found[1].split()[0].upper()} {found[2].lower()}" if found else None


class Statement(NamedTuple):
    """Of a service. ``verb``: SELECT, INSERT, UPDATE or DELETE; ``idle``: a write that found nothing to change."""

    service: str
    verb: str
    table: str
    idle: bool


def counts(folder: Path) -> Counter[Statement]:
    """How often each service executed what so far."""
    found: Counter[Statement] = Counter()
    for path in folder.iterdir():
        for line in path.read_text("ascii").splitlines():
            verb, table, rows = line.split()
            found[Statement(path.name, verb, table, verb != "SELECT" and rows == "0")] += 1
    return found


def count(_connection: object, cursor: Any, statement: str, *_: object) -> None:  # noqa: ANN401 - of any driver
    """Append a line, in one write: those of several processes do not mix (write(2), O_APPEND)."""
    found = shape(statement)
    if found is not None:
        service = sys.argv[1] if len(sys.argv) > 1 else "unnamed"
        file = os.open(f"{os.environ[FOLDER_ENV]}/{service}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{found} {cursor.rowcount}\n".encode())
        finally:
            os.close(file)


if FOLDER_ENV in os.environ:
    event.listen(Engine, "after_cursor_execute", count)
