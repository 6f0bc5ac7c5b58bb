"""The JSON that ``ls --json`` and ``show --json`` print: stable, so that scripts can be written against it.

docs/cli.md has every key. Keys are added, never renamed or removed, while ``version`` is 1. Every key is always there; what is not known is
``null``. Times are RFC 3339 in UTC, durations are seconds.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ledger_watcher.cli._runs import Reading
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.report.view import (
    NodeRow,
    attempt_seconds,
    attempt_status,
    counts,
    finished_at,
    last_seen,
    node_rows,
    run_seconds,
    run_status,
)
from ledger_watcher.state import Attempt, RunState

VERSION = 1

_ATTEMPT_STARTED = ("invocation", "host", "pid", "try_number", "clear_number")
_DBT = ("dbt_version", "invocation_id", "threads", "target")
_RESULT = ("status", "execution_time", "message", "failures", "rows_affected", "query_id", "adapter_response", "source")
_HOOK = ("unique_id", "status", "message", "execution_time", "source")
_ARTIFACT = ("name", "sha256", "size", "path")
_BATCH = ("index", "total", "status", "execution_time")


def ledger(root: str, readings: list[Reading], total: int, now: datetime) -> dict[str, Any]:
    """The object of ``ls``."""
    runs = [{**_run(reading.uri, reading.run), **_summary(reading, now)} for reading in readings]
    return {"version": VERSION, "ledger": root, "total": total, "runs": runs}


def run(reading: Reading, rows: list[NodeRow], now: datetime, *, full: bool) -> dict[str, Any]:
    """The object of ``show``; ``full`` adds what is told of one node only."""
    return {
        "version": VERSION,
        "run": _run(reading.uri, reading.run),
        **_summary(reading, now),
        "attempts": [_attempt(reading.state, attempt, now) for _, attempt in sorted(reading.state.attempts.items())],
        "nodes": [{**_node(row), **(_details(row) if full else {})} for row in rows],
    }


def _run(uri: str, key: RunKey) -> dict[str, Any]:
    names = ("deployment", "dag_id", "run_id", "group", "map_index")
    return {"uri": uri, **{name: getattr(key, name) for name in names}}


def _summary(reading: Reading, now: datetime) -> dict[str, Any]:
    state = reading.state
    status = run_status(state, now)
    end = state.attempt.finished if state.attempt else None
    return {
        "state": status.word,
        "detail": status.detail or None,
        "started_at": _time(reading.started_at),
        "last_seen_at": _time(last_seen(state)),
        "finished_at": _time(end.ts if end else None),
        "duration": run_seconds(state),
        "exit_code": end.exit_code if end else None,
        "ended_by": end.ended_by.value if end else None,
        "attempt_count": len(state.attempts),
        "counts": counts(node_rows(state)),
        "problem": str(reading.problem) if reading.problem else None,
    }


def _attempt(state: RunState, attempt: Attempt, now: datetime) -> dict[str, Any]:
    status = attempt_status(state, attempt, now)
    started, end = attempt.started, attempt.finished
    return {
        "attempt": attempt.epoch,
        "state": status.word,
        "detail": status.detail or None,
        "command": list(started.command) if started else None,
        **_fields(started, _ATTEMPT_STARTED),
        **_fields(attempt.dbt, _DBT),
        "writer_version": started.version if started else None,
        "producer_started_at": _time(started.producer_started_at if started else None),
        "started_at": _time(started.ts if started else None),
        "last_seen_at": _time(attempt.last_seen),
        "finished_at": _time(end.ts if end else None),
        "duration": attempt_seconds(attempt),
        "ended_by": end.ended_by.value if end else None,
        **_fields(end, ("exit_code", "will_retry", "message", "incomplete")),
        "planned": None if attempt.plan is None else len(attempt.plan),
        "hooks": [{**_fields(hook, _HOOK), "state": hook.outcome.value} for hook in attempt.hooks.values()],
        "artifacts": [_fields(artifact, _ARTIFACT) for artifact in attempt.artifacts.values()],
    }


def _node(row: NodeRow) -> dict[str, Any]:
    begun, ended = row.begun, row.finished
    return {
        "unique_id": row.unique_id,
        "name": row.name,
        "resource_type": row.resource_type,
        "materialized": (ended and ended.materialized) or (begun and begun.materialized) or None,
        "relation": (ended and ended.relation) or (begun and begun.relation) or None,
        "attempt": row.attempt,
        "state": row.state,
        **_fields(ended, _RESULT),
        "thread": (ended and ended.thread) or (begun and begun.thread) or None,
        "started_at": _time(row.started_at),
        "finished_at": _time(finished_at(ended)),
        "skip_cause": list(ended.skip_cause) if ended else [],
        "by_choice": ended.by_choice if ended else None,
    }


def _details(row: NodeRow) -> dict[str, Any]:
    logs = row.node.logs if row.node else []
    return {
        "log": [line for log in logs for line in log.lines],
        "log_dropped": sum(log.dropped for log in logs),
        "batches": [_fields(batch, _BATCH) for batch in (row.node.batches if row.node else [])],
    }


def _fields(record: object | None, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(record, name) if record is not None else None for name in names}


def _time(value: datetime | None) -> str | None:
    return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z") if value else None
