"""In place of dbt: writes what it would tell of a project to the ledger, with the real writer, so many nodes per second.

A program of its own: ``python _replay.py NODES RATE LEDGER DAG_ID RUN_ID``. ``NODES`` is a file with a unique_id per line, in the order of their ends.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime, timezone
from pathlib import Path

from ledger_watcher.ledger import LedgerWriter, RunKey
from ledger_watcher.records import AttemptFinished, AttemptStarted, DbtStarted, EndedBy, Log, NodeFinished, NodeStarted, Outcome, Plan
from ledger_watcher.storage import open_store

_SECONDS = 1.0
"""That each node takes, by the records."""


def replay(names: list[str], rate: float, writer: LedgerWriter) -> None:
    """One attempt, in real time."""
    began = _now()
    writer.open(AttemptStarted(ts=began, attempt=0, command=("replay",), invocation="replay", producer_started_at=began))
    writer.append(DbtStarted(ts=_now(), dbt_version="0", invocation_id="replay", threads=1, target="none"))
    writer.append(Plan(ts=_now(), unique_ids=tuple(names), source="replay"))
    start = time.monotonic() + _SECONDS
    ahead = max(1, round(_SECONDS * rate))
    for number in range(len(names) + ahead):
        if number < len(names):
            writer.append(NodeStarted(ts=_now(), unique_id=names[number], started_at=_now()))
        if number >= ahead:
            _end(writer, names[number - ahead])
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
    writer.close(AttemptFinished(ts=_now(), exit_code=0, ended_by=EndedBy.EXIT))


def _end(writer: LedgerWriter, name: str) -> None:
    lines = (
        f"1 of 1 START sql table model main.{name} ... [RUN]",
        f"1 of 1 OK created sql table model main.{name} ... [SELECT 1 in 1.00s]",
    )
    writer.append(Log(ts=_now(), unique_id=name, lines=lines))
    done = NodeFinished(
        ts=_now(), unique_id=name, outcome=Outcome.SUCCESS, status="success", finished_at=_now(), execution_time=_SECONDS, rows_affected=1
    )
    writer.append(done)


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    file, per_second, ledger, dag_id, run_id = sys.argv[1:]
    replay(Path(file).read_text("utf-8").split(), float(per_second), LedgerWriter(open_store(ledger), RunKey(dag_id=dag_id, run_id=run_id)))
