"""Filling gaps of the records from run_results.json.

The events are right where run_results.json is wrong: core's ``--fail-fast`` lists finished nodes as skipped, Fusion after SIGINT lists
succeeded nodes as errors. So it never changes an outcome; it only adds what the events did not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from ledger_watcher.capture import compat
from ledger_watcher.capture.event import text_of
from ledger_watcher.records import HookFinished, NodeFinished, Outcome, Record, bounded_message, utcnow
from ledger_watcher.state import RunState

_HOOK = "operation."
_SOURCE = "run_results"
_NODE_FIELDS = ("message", "relation", "execution_time", "failures", "rows_affected", "query_id", "adapter_response")
_HOOK_FIELDS = ("message", "execution_time")


def reconcile(state: RunState, run_results: Mapping[str, Any]) -> list[Record]:
    """Records for what run_results.json knows and the newest attempt's records do not.

    Nodes and hooks without a result (unstarted ones under ``--fail-fast``, hooks that raised) get one; a result of the same status gets
    the fields that it lacks (a hook's message; on Fusion messages and row counts). Everything else stays as it is.
    """
    attempt = state.attempt
    results = run_results.get("results")
    if attempt is None or not isinstance(results, list):
        return []
    records: list[Record] = []
    for result in results:
        if not isinstance(result, Mapping):
            continue
        unique_id, status = text_of(result, "unique_id"), text_of(result, "status")
        if unique_id is None or status is None:
            continue
        if unique_id.startswith(_HOOK):
            hook = _hook(unique_id, status, result)
            records += _gap(attempt.hooks.get(unique_id), hook, _HOOK_FIELDS)
        else:
            node = state.nodes.get(unique_id)
            known = node.finished if node is not None and node.epoch == attempt.epoch else None
            records += _gap(known, _node(unique_id, status, result), _NODE_FIELDS)
    return records


def _gap(known: NodeFinished | HookFinished | None, found: NodeFinished | HookFinished, fields: tuple[str, ...]) -> list[Record]:
    if known is None:
        return [found]
    if known.status != found.status:
        return []
    missing = {name: value for name in fields if getattr(known, name) is None and (value := getattr(found, name)) is not None}
    return [replace(known, ts=found.ts, source=_SOURCE, **missing)] if missing else []


def _hook(unique_id: str, status: str, result: Mapping[str, Any]) -> HookFinished:
    return HookFinished(
        ts=utcnow(),
        unique_id=unique_id,
        outcome=compat.outcome_of(status) or Outcome.FAILED,
        status=status,
        message=bounded_message(text_of(result, "message")),
        execution_time=compat.number(result.get("execution_time")),
        source=_SOURCE,
    )


def _node(unique_id: str, status: str, result: Mapping[str, Any]) -> NodeFinished:
    response = compat.adapter_response_of(result.get("adapter_response"))
    resource_type = unique_id.split(".", 1)[0]
    started, finished = _times(result.get("timing"))
    return NodeFinished(
        ts=utcnow(),
        unique_id=unique_id,
        outcome=compat.outcome_of(status) or Outcome.FAILED,
        status=status,
        resource_type=resource_type,
        relation=text_of(result, "relation_name"),
        message=bounded_message(text_of(result, "message")),
        started_at=started,
        finished_at=finished,
        execution_time=compat.number(result.get("execution_time")),
        failures=compat.failures_of(resource_type, status, result["failures"]) if result.get("failures") is not None else None,
        rows_affected=compat.rows_affected(response),
        query_id=compat.query_id(response),
        adapter_response=response,
        thread=text_of(result, "thread_id"),
        source=_SOURCE,
    )


def _times(timing: object) -> tuple[datetime | None, datetime | None]:
    steps = [step for step in timing if isinstance(step, Mapping)] if isinstance(timing, list) else []
    starts = [time for step in steps if (time := compat.time_of(step.get("started_at")))]
    ends = [time for step in steps if (time := compat.time_of(step.get("completed_at")))]
    return min(starts, default=None), max(ends, default=None)
