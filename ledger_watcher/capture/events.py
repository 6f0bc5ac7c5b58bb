"""dbt's events to records: one parser for callbacks and for JSON on standard output.

Only events on the list below are ever looked at. MainReportArgs, SQLQuery and MainStackTrace hold variables, SQL and secrets: they are not
on it. Event codes: Q001 and FF01 RunningOperation*Error, Q024 NodeStart, Q025 NodeFinished, Q034 SkippingDetails, Q046 LogBatchResult, Z033
MarkSkippedChildren, Z002 MainEncounteredError; those of hooks are in :mod:`~ledger_watcher.capture.hooks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ledger_watcher.capture import compat
from ledger_watcher.capture.causes import Parents, SkipCauses
from ledger_watcher.capture.event import Event, NodeLog, said, text_of
from ledger_watcher.capture.hooks import HookParser
from ledger_watcher.capture.redact import masked
from ledger_watcher.records import (
    DbtStarted,
    HookFinished,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    Outcome,
    Record,
    bounded_message,
    utcnow,
)

_MOST_PROBLEMS = 20

_LINES = frozenset(
    """
    Generic GenericExceptionOnRun JinjaLogInfo JinjaLogWarning LogBatchResult LogFreshnessResult LogFunctionResult LogModelResult
    LogNodeNoOpResult LogNodeResult LogSeedResult LogSkipBecauseError LogSnapshotResult LogStartBatch LogStartLine LogTestResult
    SkippingDetails
    """.split()  # noqa: SIM905 - a line each would fill a page
)
"""Events whose message belongs into the log of its node."""

WANTED = _LINES | {
    "ConcurrencyLine",
    "DatabaseErrorRunningHook",
    "LogHookEndLine",
    "LogHookStartLine",
    "MainEncounteredError",
    "MainReportVersion",
    "MarkSkippedChildren",
    "NodeFinished",
    "NodeStart",
    "RunResultError",
    "RunningOperationCaughtError",
    "RunningOperationUncaughtError",
}
"""The names of all events that the parser looks at."""

_WANTED_LINE = re.compile(f'"name": ?"(?:{"|".join(sorted(WANTED))})"'.encode())


def wanted_line(raw: bytes) -> bool:
    """Whether a JSON line of dbt's standard output may be an event for the parser: a search in its bytes, no parsing."""
    return _WANTED_LINE.search(raw) is not None


@dataclass(slots=True)
class _Node:
    """What has to be remembered of a node until it finishes."""

    first_start: str | None = None
    batched: bool = False
    finished: bool = False
    error: str | None = None
    log: NodeLog = field(default_factory=NodeLog)


class EventParser:
    """Turns events into records. :meth:`feed` never raises: what it cannot read is named in :attr:`problems`. Not thread-safe.

    :param parents: see :data:`~ledger_watcher.capture.causes.Parents`.
    :param mask: applied to every message that is kept, to take secrets out.
    """

    def __init__(self, *, parents: Parents | None = None, mask: Callable[[str], str] | None = None) -> None:
        self.problems: list[str] = []
        self.invocation_id: str | None = None
        self._mask = mask or str
        self._causes = SkipCauses(parents)
        self._hooks = HookParser(outcome=self._outcome, mask=self._mask)
        self._nodes: dict[str, _Node] = {}
        self._unexplained: list[NodeFinished] = []
        self._dbt: DbtStarted | None = None
        self._errors: list[str] = []
        self._handlers: dict[str, Callable[[Event], list[Record]]] = {
            "MainReportVersion": self._version,
            "ConcurrencyLine": self._concurrency,
            "NodeStart": self._node_start,
            "NodeFinished": self._node_finished,
            "LogBatchResult": self._batch,
            "LogHookStartLine": self._hook_start,
            "LogHookEndLine": lambda event: self._hook(self._hooks.ended(event)),
            "DatabaseErrorRunningHook": lambda event: self._hook(self._hooks.broke(event)),
            "RunResultError": lambda event: self._hook(self._hooks.explained(event)),
            "MarkSkippedChildren": self._mark,
            "SkippingDetails": self._skipping,
            "MainEncounteredError": self._main_error,
            "RunningOperationCaughtError": self._main_error,
            "RunningOperationUncaughtError": self._main_error,
            "Generic": self._generic,
        }

    @property
    def error(self) -> str | None:
        """What ended the run as a whole (parsing, connection, Fusion's errors that belong to no node), if anything did."""
        return bounded_message("\n".join(self._errors))

    def feed(self, event: Mapping[str, Any]) -> list[Record]:
        """The records of one event: a mapping with ``info`` and ``data``, as on standard output."""
        name = "without a name"
        try:
            parsed = Event.of(event)
            name = parsed.name
            if name in _LINES:
                self._line(parsed)
            handler = self._handlers.get(name)
            return handler(parsed) if handler else []
        except Exception as error:  # noqa: BLE001 - one odd event must not cost the others
            self._problem(f"an event {name} could not be read: {type(error).__name__}: {error}")
            return []

    def close(self) -> list[Record]:
        """What is still held when dbt has ended: the lines of nodes that never finished, and skips explained only now.

        Fusion writes its manifest at the end: a skip that had no cause while dbt ran is recorded once more if it has one now.
        """
        now = utcnow()
        logs = [log for unique_id, node in self._nodes.items() for log in node.log.take(unique_id, now)]
        late = [replace(record, skip_cause=cause) for record in self._unexplained if (cause := self._cause(record.unique_id))]
        self._unexplained.clear()
        return [*logs, *late]

    # One method per event -------------------------------------------------------------------------------------------

    def _version(self, event: Event) -> list[Record]:
        self.invocation_id = text_of(event.info, "invocation_id")
        version = (text_of(event.data, "version") or "").lstrip("=") or None
        self._dbt = DbtStarted(ts=event.ts, dbt_version=version, invocation_id=self.invocation_id)
        return [self._dbt]

    def _concurrency(self, event: Event) -> list[Record]:
        known = self._dbt or DbtStarted(ts=event.ts, invocation_id=text_of(event.info, "invocation_id"))
        threads = compat.number(event.data.get("num_threads"))
        self._dbt = replace(known, ts=event.ts, threads=int(threads) if threads else None, target=text_of(event.data, "target_name"))
        return [self._dbt]

    def _node_start(self, event: Event) -> list[Record]:
        node = self._node(event)
        if node.first_start is not None or node.finished:
            return []  # a batch of a microbatch model starts under the model's own id
        node.first_start = text_of(event.node, "node_started_at") or ""
        return [
            NodeStarted(
                ts=event.ts,
                unique_id=event.unique_id,
                resource_type=text_of(event.node, "resource_type"),
                name=text_of(event.node, "node_name"),
                materialized=text_of(event.node, "materialized"),
                relation=event.relation,
                started_at=compat.time_of(node.first_start),
                thread=text_of(event.info, "thread"),
            )
        ]

    def _batch(self, event: Event) -> list[Record]:
        self._node(event).batched = True
        status = text_of(event.node, "node_status") or ""
        return [
            NodeProgress(
                ts=event.ts,
                unique_id=event.unique_id,
                index=int(event.data["batch_index"]),
                total=int(event.data["total_batches"]),
                status=status if compat.outcome_of(status) else str(event.data.get("status")),
                execution_time=compat.number(event.data.get("execution_time")),
            )
        ]

    def _node_finished(self, event: Event) -> list[Record]:
        node = self._node(event)
        started = text_of(event.node, "node_started_at") or ""
        if node.finished or (node.batched and node.first_start is not None and started != node.first_start):
            return []  # only the model itself has the time of its first start; its batches have their own
        result = event.data["run_result"]
        status = said(text_of(result, "status"), "has no status")
        outcome = self._outcome(status, event.unique_id)
        message = text_of(result, "message") or (node.error if outcome is Outcome.FAILED else None)
        response = masked(compat.adapter_response_of(result.get("adapter_response")), self._mask)
        base = self._bare(event, outcome, status)
        record = replace(
            base,
            message=bounded_message(self._mask(message)) if message else None,
            started_at=compat.time_of(started),
            finished_at=compat.time_of(event.node.get("node_finished_at")),
            execution_time=compat.number(result.get("execution_time", 0)),  # a protobuf default may be left out
            failures=compat.failures_of(base.resource_type, status, result.get("num_failures")),
            rows_affected=compat.rows_affected(response),
            query_id=compat.query_id(response),
            adapter_response=response,
            thread=text_of(result, "thread") or text_of(event.info, "thread"),
        )
        return self._finish(node, record)

    def _skipping(self, event: Event) -> list[Record]:
        """SkippingDetails usually stands between start and end of a skipped node. After a failed on-run-start hook it is all there is."""
        node = self._node(event)
        if node.first_start is not None or node.finished or text_of(event.node, "node_started_at"):
            return []
        return self._finish(node, self._bare(event, Outcome.SKIPPED, "skipped"), started=False)

    def _hook_start(self, event: Event) -> list[Record]:
        self._hooks.started(event)
        return []

    def _hook(self, record: HookFinished | None) -> list[Record]:
        if record is None:
            return []
        if record.outcome is Outcome.FAILED:
            self._causes.hook_failed(record.unique_id)
        return [record]

    def _mark(self, event: Event) -> list[Record]:
        unique_id = text_of(event.data, "unique_id")
        if unique_id and event.data.get("status") != "skipped":
            self._causes.marked(unique_id)
        return []

    def _main_error(self, event: Event) -> list[Record]:
        self._add_error(text_of(event.data, "exc"))  # empty after a KeyboardInterrupt
        return []

    def _generic(self, event: Event) -> list[Record]:
        """Fusion says its errors in events without a name of their own; that of a node comes just before its NodeFinished."""
        if event.level == "error":
            text = compat.fusion_error(text_of(event.info, "msg") or "")
            if text_of(event.node, "unique_id"):
                self._node(event).error = text
            else:
                self._add_error(text)
        return []

    # Helpers --------------------------------------------------------------------------------------------------------

    def _bare(self, event: Event, outcome: Outcome, status: str) -> NodeFinished:
        return NodeFinished(
            ts=event.ts,
            unique_id=event.unique_id,
            outcome=outcome,
            status=status,
            resource_type=text_of(event.node, "resource_type"),
            name=text_of(event.node, "node_name"),
            materialized=text_of(event.node, "materialized"),
            relation=event.relation,
        )

    def _finish(self, node: _Node, record: NodeFinished, *, started: bool = True) -> list[Record]:
        node.finished = True
        if record.outcome is Outcome.FAILED:
            self._causes.failed(record.unique_id)
        if record.outcome is Outcome.SKIPPED:
            record = replace(record, skip_cause=self._cause(record.unique_id, started=started))
            if not record.skip_cause:
                self._unexplained.append(record)
        return [*node.log.take(record.unique_id, record.ts), record]

    def _cause(self, unique_id: str, *, started: bool = True) -> tuple[str, ...]:
        try:
            return self._causes.of(unique_id, started=started)
        except Exception as error:  # noqa: BLE001 - a missing cause must not cost the record
            self._problem(f"the causes of skips could not be found: {type(error).__name__}: {error}")
            return ()

    def _outcome(self, status: str, unique_id: str) -> Outcome:
        """A status of a later dbt counts as failed: work must never be taken for done, and a failure is seen and can be repeated."""
        outcome = compat.outcome_of(status)
        if outcome is None:
            self._problem(f"{unique_id} has the unknown status {status!r} and counts as failed; a newer ledger-watcher may know it")
        return outcome or Outcome.FAILED

    def _line(self, event: Event) -> None:
        if text_of(event.node, "unique_id") and not (node := self._node(event)).finished:
            node.log.add(event, self._mask(text_of(event.info, "msg") or ""))

    def _node(self, event: Event) -> _Node:
        return self._nodes.setdefault(event.unique_id, _Node())

    def _add_error(self, text: str | None) -> None:
        if text and len(self._errors) < _MOST_PROBLEMS:
            self._errors.append(self._mask(text))

    def _problem(self, text: str) -> None:
        if len(self.problems) < _MOST_PROBLEMS and text not in self.problems:
            self.problems.append(text)
