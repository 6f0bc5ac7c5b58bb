"""A run of many nodes, written by the real writer at once instead of over an hour."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

from ledger_watcher import codec
from ledger_watcher.ledger import LedgerWriter, RunKey, WriterOptions
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
from ledger_watcher.storage import Store

T0 = datetime(2026, 7, 31, 10, 0, 0, tzinfo=timezone.utc)
RUN = RunKey(dag_id="shop", run_id="scheduled__2026-07-31T10:00:00+00:00", group="dbt")
NODES = 10_000
_PATIENCE = 120.0


def node_id(number: int) -> str:
    """The unique_id of a node."""
    return f"model.shop.stg_orders_enriched_{number:05d}"


def started(seconds: float = 0.0) -> AttemptStarted:
    """The first record of an attempt."""
    time = T0 + timedelta(seconds=seconds)
    return AttemptStarted(
        ts=time,
        attempt=0,
        command=("dbt", "build"),
        invocation="subprocess",
        producer_started_at=time,
        host="worker-1",
        pid=42,
        version="0.1.0",
        task_id="dbt.dbt_producer_watcher",
    )


def finished(seconds: float = 3600.0) -> AttemptFinished:
    """The last one."""
    return AttemptFinished(ts=T0 + timedelta(seconds=seconds), exit_code=0, ended_by=EndedBy.EXIT)


def of_node(number: int, *, seconds: float = 0.0) -> list[Record]:
    """Start, five lines of dbt's in two records, result: four records such as Snowflake and dbt 1.11 make them."""
    begin, end = (T0 + timedelta(seconds=seconds + more) for more in (0.0, 3.217094))
    unique_id, name, thread = node_id(number), f"stg_orders_enriched_{number:05d}", f"Thread-{number % 8 + 1} (worker)"
    relation = f'"ANALYTICS"."STAGING"."{name.upper()}"'
    clock, later = begin.strftime("%H:%M:%S"), end.strftime("%H:%M:%S")
    lines = (
        f"{clock} {number} of {NODES} START sql incremental model staging.{name} ... [RUN]",
        f'{clock} Snowflake adapter: using snowflake connection "{unique_id}"',
        f"{clock} On {unique_id}: merge into {relation} as target using {name}__dbt_tmp as source on target.order_id = source.order_id",
        f"{later} SQL status: SUCCESS 48213 in 2.914 seconds",
        f"{later} {number} of {NODES} OK created sql incremental model staging.{name} ... [SUCCESS 48213 in 3.22s]",
    )
    common: dict[str, Any] = {
        "unique_id": unique_id,
        "resource_type": "model",
        "name": name,
        "materialized": "incremental",
        "relation": relation,
    }
    return [
        NodeStarted(ts=begin, started_at=begin, thread=thread, **common),
        Log(ts=end, unique_id=unique_id, lines=lines[:2]),
        Log(ts=end, unique_id=unique_id, lines=lines[2:]),
        NodeFinished(
            ts=end,
            outcome=Outcome.SUCCESS,
            status="success",
            message="SUCCESS 48213",
            started_at=begin,
            finished_at=end,
            execution_time=3.217094421386719,
            rows_affected=48213,
            query_id=f"01b8e7a2-0604-5d3f-0000-4d19{number:08d}",
            adapter_response={
                "_message": "SUCCESS 48213",
                "code": "SUCCESS",
                "rows_affected": 48213,
                "query_id": f"01b8e7a2-0604-5d3f-0000-4d19{number:08d}",
            },
            thread=thread,
            **common,
        ),
    ]


def records(nodes: int = NODES) -> Iterator[Record]:
    """All records of an attempt between its first and its last, 32 nodes under way at a time, spread over an hour."""
    yield DbtStarted(ts=T0, dbt_version="1.11.2", invocation_id="8f0f4c0e-6f1c-4a0b-9a55-0d5a6d0b7c11", threads=32, target="prod")
    yield Plan(ts=T0, unique_ids=tuple(map(node_id, range(nodes))), source="dbt ls")
    under_way = 32
    for first in range(0, nodes, under_way):
        group = [of_node(number, seconds=number * 3600 / nodes) for number in range(first, min(first + under_way, nodes))]
        for step in range(len(group[0])):
            for node in group:
                yield node[step]


class _Turns:
    """A store that says when a segment has become durable."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.done = threading.Semaphore(0)
        self.root, self.get, self.list, self.delete = store.root, store.get, store.list, store.delete

    def create(self, key: str, data: bytes) -> None:
        self._store.create(key, data)
        if "/seg/" in key:
            self.done.release()


def write_run(store: Store, *, segments: int, nodes: int = NODES, end: bool = True) -> None:
    """Write a run of that many segments (about). The writer decides on commits and checkpoints as in an hour's run, without the hour.

    It commits when ``commit_bytes`` wait; the next record is appended when it has.
    """
    every = sum(len(codec.encode(record)) + 1 for record in records(nodes)) // segments
    never = 3600.0
    turns = _Turns(store)
    writer = LedgerWriter(turns, RUN, options=WriterOptions(commit_interval=never, heartbeat=never, commit_bytes=every))
    writer.open(started())
    turns.done.acquire(timeout=_PATIENCE)  # the fence
    waiting = 0
    for record in records(nodes):
        writer.append(record)
        waiting += len(codec.encode(record)) + 1
        if waiting >= every:
            if not turns.done.acquire(timeout=_PATIENCE):
                raise TimeoutError("The writer committed nothing; run the benchmark again when the machine is not so busy.")
            waiting = 0
    if end:
        writer.close(finished())
