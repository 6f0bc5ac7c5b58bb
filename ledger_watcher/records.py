"""What a ledger says: one frozen dataclass per kind of record.

Times are aware UTC datetimes (RFC 3339 in the file), durations are seconds. A field that is
``None`` or empty is not written, unless it has no default here.
A record is about one attempt: the epoch of the segment that holds it. Records are idempotent by (unique_id, epoch): the
newest one wins, but a success is never downgraded (see :mod:`ledger_watcher.state`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any, ClassVar

STALE, CALLER = "stale", "caller"
"""Words for ``by_choice`` of a skipped node: its sources are out of date; a function of the user's said so."""
FRESH, ONLY = "fresh", "only"
"""Words for ``scope`` of an attempt: it takes nothing over from those before it; it builds the nodes of its plan and nothing else."""
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
MESSAGE_LIMIT = 8 * 1024
"""Longest ``message`` in bytes; what is longer is cut and says so."""


def utcnow() -> datetime:
    """The current time as an aware UTC datetime."""
    return datetime.now(timezone.utc)


class Outcome(str, Enum):
    """What became of a node, the same words for every dbt version; the raw dbt status stands beside it."""

    SUCCESS = "success"
    WARN = "warn"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOOP = "noop"
    REUSED = "reused"
    CANCELLED = "cancelled"

    @property
    def ok(self) -> bool:
        """The node's work is done: nothing to repeat and nothing to hold back downstream."""
        return self in _OK


_OK = frozenset({Outcome.SUCCESS, Outcome.WARN, Outcome.NOOP, Outcome.REUSED})


class EndedBy(str, Enum):
    """Why an attempt ended."""

    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of every record: ``ts`` is when it was made, by the producer's clock."""

    kind: ClassVar[str] = ""
    ts: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Record):
    """First record of every epoch: who runs what, where.

    ``producer_started_at`` is the start of the Airflow task that runs the producer (its own clock), and the start of the
    process elsewhere: the freshness rule of the consumers is built on it. ``try_number`` and ``clear_number`` come from
    Airflow and are absent elsewhere. ``scope`` is ``fresh`` (takes nothing over from the attempts before) or ``only`` (builds the nodes of
    its plan and nothing else); without it, the attempt goes on from those before. ``task_id`` is the Airflow task that runs it.
    """

    kind: ClassVar[str] = "attempt_started"
    attempt: int
    command: tuple[str, ...]
    invocation: str
    producer_started_at: datetime
    host: str | None = None
    pid: int | None = None
    try_number: int | None = None
    clear_number: int | None = None
    version: str | None = None
    scope: str | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Record):
    """The nodes that this attempt is meant to build, known before or while it runs. ``source`` says who knew."""

    kind: ClassVar[str] = "plan"
    unique_ids: tuple[str, ...]
    source: str
    manifest_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DbtStarted(Record):
    """dbt reported its version, its invocation id, and later its number of threads."""

    kind: ClassVar[str] = "dbt_started"
    dbt_version: str | None = None
    invocation_id: str | None = None
    threads: int | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted(Record):
    """dbt began a node (event NodeStart, Q024)."""

    kind: ClassVar[str] = "node_started"
    unique_id: str
    resource_type: str | None = None
    name: str | None = None
    materialized: str | None = None
    relation: str | None = None
    started_at: datetime | None = None
    thread: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress(Record):
    """One batch of a microbatch model ended (event LogBatchResult, Q046)."""

    kind: ClassVar[str] = "node_progress"
    unique_id: str
    index: int
    total: int
    status: str
    execution_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFinished(Record):
    """dbt finished a node (event NodeFinished, Q025), or run_results.json knew of it and the events did not.

    ``outcome`` is the common word, ``status`` dbt's own. ``execution_time`` is dbt's, in seconds. ``failures`` is the number of
    failing rows of a test. ``skip_cause`` holds the unique_ids whose failure made dbt skip this node. ``by_choice`` is in a skip that no
    failure caused, and that is therefore final: ``stale`` (a source whose data is older than its ``error_after``, or a node with no other
    sources than such, which are then its ``skip_cause``) or ``caller`` (a function of the user's chose it). ``source`` is ``event``,
    ``run_results``, ``watcher`` (the producer did not give the node to dbt) or ``carried_over`` (a success of an earlier attempt, recorded
    again).
    """

    kind: ClassVar[str] = "node_finished"
    unique_id: str
    outcome: Outcome
    status: str
    resource_type: str | None = None
    name: str | None = None
    materialized: str | None = None
    relation: str | None = None
    message: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    execution_time: float | None = None
    failures: int | None = None
    rows_affected: int | None = None
    query_id: str | None = None
    adapter_response: dict[str, Any] | None = None
    thread: str | None = None
    skip_cause: tuple[str, ...] = ()
    by_choice: str | None = None
    source: str = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFinished(Record):
    """An on-run-start or on-run-end hook ended (event LogHookEndLine, Q033, or run_results.json)."""

    kind: ClassVar[str] = "hook_finished"
    unique_id: str
    outcome: Outcome
    status: str
    message: str | None = None
    execution_time: float | None = None
    source: str = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Record):
    """dbt's readable lines about one node, without colours, each with its time in front; bounded (see ``dropped``)."""

    kind: ClassVar[str] = "log"
    unique_id: str
    lines: tuple[str, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(Record):
    """A file of dbt (run_results.json, manifest.json, sources.json) stored beside the chain under its hash."""

    kind: ClassVar[str] = "artifact"
    name: str
    sha256: str
    size: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Record):
    """The producer is alive although nothing happened."""

    kind: ClassVar[str] = "heartbeat"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFinished(Record):
    """Last record of an epoch, in its ``end`` segment. ``message`` holds the error that ended it, if any."""

    kind: ClassVar[str] = "attempt_finished"
    exit_code: int | None
    ended_by: EndedBy
    will_retry: bool = False
    message: str | None = None
    incomplete: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Record):
    """A record of a kind that this version does not know: kept, never an error."""

    kind: ClassVar[str] = "unknown"
    original_kind: str
    data: dict[str, Any] = field(default_factory=dict)


KINDS: tuple[type[Record], ...] = (
    AttemptStarted,
    Plan,
    DbtStarted,
    NodeStarted,
    NodeProgress,
    NodeFinished,
    HookFinished,
    Log,
    Artifact,
    Heartbeat,
    AttemptFinished,
)


def plain(text: str) -> str:
    """``text`` without ANSI sequences."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def bounded_message(text: str | None) -> str | None:
    """``text`` within :data:`MESSAGE_LIMIT` bytes; an empty text is ``None``. Cutting keeps both ends and says how much is gone."""
    if not text:
        return None
    raw = text.encode("utf-8", "replace")
    if len(raw) <= MESSAGE_LIMIT:
        return text
    half = (MESSAGE_LIMIT - 64) // 2
    head = raw[:half].decode("utf-8", "ignore")
    tail = raw[-half:].decode("utf-8", "ignore")
    return f"{head}\n[... {len(raw) - 2 * half} bytes cut ...]\n{tail}"
