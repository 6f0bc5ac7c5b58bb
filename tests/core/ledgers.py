"""Ledgers for tests of what reads them: written by the real writer into a local folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ledger_watcher import codec
from ledger_watcher.ledger import Kind, LedgerWriter, RunKey
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.ledger.layout import CKPT
from ledger_watcher.records import (
    AttemptFinished,
    AttemptStarted,
    DbtStarted,
    EndedBy,
    Log,
    NodeFinished,
    NodeStarted,
    Outcome,
    Plan,
    Record,
)
from ledger_watcher.storage import LocalStore

T0 = datetime(2026, 7, 31, 10, 0, 0, tzinfo=timezone.utc)
RAW_STATUS = {Outcome.FAILED: "error", Outcome.NOOP: "no-op"}


def at(seconds: float) -> datetime:
    """A time of the run."""
    return T0 + timedelta(seconds=seconds)


def began(seconds: float = 0.0, *, base: datetime = T0, command: tuple[str, ...] = ("dbt", "build")) -> AttemptStarted:
    """The first record of an attempt; its number is set by the writer."""
    time = base + timedelta(seconds=seconds)
    return AttemptStarted(
        ts=time, attempt=0, command=command, invocation="inv", producer_started_at=time, host="worker-1", pid=42, version="0.1.0"
    )


def ended(seconds: float, code: int | None = 0, by: EndedBy = EndedBy.EXIT, **more: Any) -> AttemptFinished:
    """The last record of an attempt."""
    return AttemptFinished(ts=at(seconds), exit_code=code, ended_by=by, **more)


def plan(*names: str) -> Plan:
    """What is to be built: models of the project ``shop``."""
    return Plan(ts=at(0.1), unique_ids=tuple(f"model.shop.{name}" for name in names), source="ls")


def starts(name: str, seconds: float = 1.0, **more: Any) -> NodeStarted:
    """A model begins."""
    return NodeStarted(ts=at(seconds), unique_id=f"model.shop.{name}", name=name, resource_type="model", started_at=at(seconds), **more)


def ends(name: str, outcome: Outcome = Outcome.SUCCESS, seconds: float = 2.0, **more: Any) -> NodeFinished:
    """A model ends."""
    status = RAW_STATUS.get(outcome, outcome.value)
    fields = {"resource_type": "model", "status": status, "execution_time": 0.5, "finished_at": at(seconds), **more}
    return NodeFinished(ts=at(seconds), unique_id=f"model.shop.{name}", name=name, outcome=outcome, **fields)


def log(name: str, *lines: str, dropped: int = 0) -> Log:
    """dbt's lines about a model."""
    return Log(ts=at(1.5), unique_id=f"model.shop.{name}", lines=lines, dropped=dropped)


def dbt(version: str = "1.11.16") -> DbtStarted:
    """dbt says who it is."""
    return DbtStarted(ts=at(0.2), dbt_version=version, invocation_id="0000-1111", threads=4, target="dev")


def write(root: Path, run: RunKey, start: AttemptStarted, records: Iterable[Record], end: AttemptFinished) -> None:
    """A whole attempt."""
    writer = LedgerWriter(LocalStore(str(root)), run)
    writer.open(start)
    for record in records:
        writer.append(record)
    writer.close(end)


def write_open(root: Path, run: RunKey, start: AttemptStarted, records: Iterable[Record] = ()) -> ChainWriter:
    """An attempt without its end, as a process that is still at work, or was killed, leaves it. One segment per call of ``more``."""
    chain = ChainWriter(LocalStore(str(root)), run)
    chain.claim(start)
    lines = list(records)
    if lines:
        more(chain, *lines)
    return chain


def more(chain: ChainWriter, *records: Record, kind: Kind = Kind.DATA) -> None:
    """One more segment."""
    chain.stage(kind, [codec.encode(record) for record in records])
    chain.push()


def segment(root: Path, run: RunKey, seq: int) -> Path:
    """The file of a segment, to damage it. The run's checkpoints go: readers would begin there and never see it."""
    shutil.rmtree(root / run.prefix / CKPT, ignore_errors=True)
    return root / run.segment(seq)


def as_version_2(path: Path) -> None:
    """Make a segment one of a later format: its first line has another shape, and still a ``v``."""
    path.write_bytes(b'{"v":2,"kind":"segment"}\nwhatever\n')


def truncate(path: Path) -> None:
    """Cut the last bytes off."""
    path.write_bytes(path.read_bytes()[:-7])
