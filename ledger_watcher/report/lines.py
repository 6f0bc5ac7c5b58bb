"""Records as lines for people: when, which node, what happened."""

from __future__ import annotations

from collections.abc import Sequence

from ledger_watcher.ledger.segments import Entry
from ledger_watcher.records import (
    Artifact,
    AttemptFinished,
    AttemptStarted,
    DbtStarted,
    EndedBy,
    Heartbeat,
    HookFinished,
    Log,
    NodeFinished,
    NodeProgress,
    NodeStarted,
    Outcome,
    Plan,
    Record,
    Unknown,
)
from ledger_watcher.report.text import clock, duration, first_line, inert, inert_lines
from ledger_watcher.report.view import name_of, shown_name


def lines_of(entry: Entry) -> list[str]:
    """One record as lines, each inert; none for a heartbeat."""
    record = entry.record
    node = _node(record)
    front = f"{clock(record.ts)}  " + (f"{node}  " if node else "")
    return [inert(f"{front}{text}") for text in _texts(entry.epoch, record)]


def _node(record: Record) -> str:
    match record:
        case NodeStarted() | NodeFinished():
            return shown_name(record.unique_id, record.name)
        case NodeProgress() | Log() | HookFinished():
            return name_of(record.unique_id)
        case _:
            return ""


def _texts(epoch: int, record: Record) -> Sequence[str]:
    match record:
        case AttemptStarted():
            return _attempt_started(epoch, record)
        case AttemptFinished():
            return _attempt_finished(epoch, record)
        case NodeFinished():
            return (_node_finished(record),)
        case Log():
            lines = [f"| {line}" for entry in record.lines for line in inert_lines(entry)]
            return [*lines, f"| ({record.dropped} lines were not kept)"] if record.dropped else lines
        case Heartbeat():
            return ()
        case _:
            return (_short(record),)


def _short(record: Record) -> str:  # noqa: PLR0911 - one case per kind, nothing else
    match record:
        case Plan():
            number = len(record.unique_ids)
            return f"plan: {number} node{'' if number == 1 else 's'} (known from {record.source})"
        case DbtStarted():
            threads = None if record.threads is None else f"{record.threads} threads"
            target = record.target and f"target {record.target}"
            invocation = record.invocation_id and f"invocation {record.invocation_id}"
            return _joined(f"dbt {record.dbt_version or ''}".strip(), target, threads, invocation)
        case NodeStarted():
            what = " ".join(part for part in (record.materialized, record.relation) if part)
            return _joined("started", what)
        case NodeProgress():
            took = duration(record.execution_time)
            return f"batch {record.index} of {record.total}: {record.status}" + (f" in {took}" if took else "")
        case HookFinished():
            message = "" if record.outcome.ok else first_line(record.message)
            return f"hook {record.outcome.value}" + (f": {message}" if message else "")
        case Artifact():
            return f"{record.name} stored: {record.size} bytes, sha256 {record.sha256}"
        case Unknown():
            return f"a record of a kind that this version does not know: {record.original_kind}"
        case _:
            return record.kind


def _attempt_started(epoch: int, record: AttemptStarted) -> Sequence[str]:
    host = record.host and f"host {record.host}"
    pid = None if record.pid is None else f"pid {record.pid}"
    tried = None if record.try_number is None else f"try {record.try_number}"
    where = ", ".join(part for part in (host, pid, tried) if part)
    return (f"attempt {epoch} started: {' '.join(record.command)}" + (f" ({where})" if where else ""),)


def _attempt_finished(epoch: int, record: AttemptFinished) -> Sequence[str]:
    by = "" if record.ended_by is EndedBy.EXIT else record.ended_by.value
    code = "" if record.exit_code is None else f"exit {record.exit_code}"
    lines = [f"attempt {epoch} ended: {_joined(by, code, 'will retry' if record.will_retry else '')}"]
    for title, text in (("message", record.message), ("the ledger is incomplete", record.incomplete)):
        lines += [f"attempt {epoch}: {title}: {line.strip()}" for line in (text or "").splitlines() if line.strip()]
    return lines


def _node_finished(record: NodeFinished) -> str:
    took = duration(record.execution_time)
    word = record.by_choice or record.status
    raw = "" if word in (record.outcome.value, "pass") else f" ({word})"
    rows = None if record.rows_affected is None else f"{record.rows_affected} rows"
    failures = f"{record.failures} failures" if record.failures else None
    carried = "carried over from an earlier attempt" if record.source == "carried_over" else None
    because = f"because of {', '.join(name_of(cause) for cause in record.skip_cause)}" if record.skip_cause else None
    text = _joined(f"{record.outcome.value}{raw}" + (f" in {took}" if took else ""), rows, failures, because, carried)
    message = "" if record.outcome is Outcome.SUCCESS else first_line(record.message)
    return f"{text}: {message}" if message else text


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)
