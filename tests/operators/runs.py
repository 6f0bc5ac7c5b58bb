"""Runs as the tasks see them: records at chosen times, folded into a state or written into a real ledger."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

from ledger_watcher import codec
from ledger_watcher.errors import StorageError
from ledger_watcher.ledger import Entry, Kind, RunKey
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.records import AttemptFinished, AttemptStarted, EndedBy, Log, NodeFinished, Outcome, Plan, Record
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore

BORN = datetime(2026, 7, 31, 12, 0, 0, tzinfo=timezone.utc)
RUN = RunKey(dag_id="shop", run_id="manual__1")
RAW = {Outcome.FAILED: "error", Outcome.NOOP: "no-op"}


def at(seconds: float) -> datetime:
    """A time, counted from the birth of the task."""
    return BORN + timedelta(seconds=seconds)


def began(seconds: float, **more: Any) -> AttemptStarted:
    """An attempt whose producer task started then."""
    return AttemptStarted(ts=at(seconds), attempt=0, command=("dbt", "build"), invocation="i", producer_started_at=at(seconds), **more)


def done(unique_id: str, outcome: Outcome = Outcome.SUCCESS, seconds: float = 5.0, **more: Any) -> NodeFinished:
    """A node that ended then."""
    status = RAW.get(outcome, outcome.value)
    return NodeFinished(ts=at(seconds), unique_id=unique_id, outcome=outcome, status=status, finished_at=at(seconds), **more)


def planned(*unique_ids: str) -> Plan:
    """What the attempt is to build."""
    return Plan(ts=at(0), unique_ids=unique_ids, source="airflow")


def said(unique_id: str, *lines: str, dropped: int = 0) -> Log:
    """dbt's lines about a node."""
    return Log(ts=at(4), unique_id=unique_id, lines=lines, dropped=dropped)


def over(message: str | None = None, code: int = 0) -> AttemptFinished:
    """The end of an attempt."""
    return AttemptFinished(ts=at(9), exit_code=code, ended_by=EndedBy.EXIT, message=message)


def state_of(*attempts: Iterable[Record]) -> RunState:
    """The state after these attempts."""
    state = RunState()
    state.apply(Entry(0, epoch, record) for epoch, records in enumerate(attempts, 1) for record in records)
    return state


def task_id_born(when: datetime) -> UUID:
    """A uuid7 of that millisecond, as Airflow gives to a try of a task."""
    milliseconds = round(when.timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (random.getrandbits(12) << 64) | (2 << 62) | random.getrandbits(62))


class CountingStore(LocalStore):
    """A local store that counts its requests and fails when told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.calls: Counter[str] = Counter()
        self.fail: Callable[[str], Exception | None] = lambda _: None

    def get(self, key: str) -> bytes:
        self.calls["get"] += 1
        error = self.fail(key)
        if error is not None:
            raise error
        return super().get(key)

    def list(self, prefix: str) -> list[str]:
        self.calls["list"] += 1
        return super().list(prefix)

    def create(self, key: str, data: bytes) -> None:
        self.calls["create"] += 1
        super().create(key, data)

    def fail_with(self, error: type[StorageError] | None) -> None:
        """From now on, every read fails so; ``None``: none does."""
        self.fail = (lambda key: error("get", key, "out of reach")) if error else (lambda _: None)


class Attempt:
    """One attempt of the producer, written segment by segment, without a thread."""

    def __init__(self, store: LocalStore, started: AttemptStarted, run: RunKey = RUN) -> None:
        self._chain = ChainWriter(store, run)
        self._chain.claim(started)

    def write(self, *records: Record) -> None:
        """One more segment."""
        self._chain.stage(Kind.DATA, [codec.encode(record) for record in records])
        self._chain.push()

    def end(self, finished: AttemptFinished | None = None) -> None:
        """The end of the epoch."""
        self._chain.stage(Kind.END, [codec.encode(finished or over())])
        self._chain.push()
