"""What a node's task does, decided from the ledger and the state of the producer's task. Pure: no Airflow, no clock, no I/O.

Fresh is what belongs to this try of the task. For a task instance born at B (the time in its uuid7 id) a record counts if the
producer task of its attempt started at or after B - 2 s, or if it is a success that finished at or after B. One rule for first tries,
retries, clears and a run that was deleted and created again; older records never count.

| newest fresh record | producer's task | verdict |
|---|---|---|
| success, warn, no-op, reused | any | SUCCEED |
| failed, cancelled | any | FAIL, with dbt's message (patient: WAIT until it is terminal) |
| skipped by choice (a stale source, or a node with no other sources) | any | SKIP |
| skipped | not terminal | WAIT |
| skipped | terminal | RECOVER |
| none | not terminal | WAIT |
| none, but a success before this try, and a recovery built what was left of the task's other nodes | any | SUCCEED |
| none, but a recovery was to build it | any terminal | FAIL, naming how that recovery ended |
| none, node not in the plan, or dbt ended well without a word of it | success | FAIL: what Airflow shows and what dbt built differ |
| none | success | RECOVER |
| none | failed, upstream_failed, skipped, removed | FAIL on the first try, RECOVER on a later one |
| none | skipped, and the task runs below skipped ones | SKIP on the first try (whoever skipped dbt skipped its nodes), RECOVER later |

While a recovery (an attempt that builds only some nodes, run by one of their tasks) is under way, the producer counts as RECOVERING,
which is not terminal: everything without an answer waits for its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from ledger_watcher.records import ONLY, NodeFinished, Outcome, plain
from ledger_watcher.state import Attempt, Node, RunState

SLACK = timedelta(seconds=2)
"""The producer's clock is its worker's; the birth of a task instance is the scheduler's."""

TERMINAL = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})
"""States of the producer's task after which no more is written. The others, ``None`` included, mean: wait."""


_NOT_STARTED = {
    "upstream_failed": "a task before the producer failed: mend that, and clear it with its downstream",
    "skipped": "a branch, a short circuit or a person skipped the producer: if these nodes are to be built, clear it together with their tasks",
    "removed": "the run has no such task any more: the DAG was changed, or somebody deleted it; clear the whole run",
}
"""Why dbt was not started at all, by the state of the producer's task, and what to do."""

_SEVERAL = 2

RECOVERING = "recovering"
"""What stands for the producer's state while a recovery is under way."""


class Kind(Enum):
    """What to do, the weightiest first: of several nodes the task does the first of these that applies to one of them."""

    WAIT = "wait"
    FAIL = "fail"
    RECOVER = "recover"
    SUCCEED = "succeed"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do and why, in a sentence for the task's log."""

    kind: Kind
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """One try of one node's task: what it mirrors, when it was born, its number and the task's id.

    ``patient``: the producer builds failed nodes again while it has tries left, so a failure counts when it has ended. ``lenient``: the task runs
    below skipped ones, too, so that who skips the whole task group does not skip it. ``above``: Airflow started it without waiting for the tasks before
    it; gives the ids of those directly before a task (see :mod:`ledger_watcher_airflow.gate`).
    """

    nodes: tuple[str, ...]
    born: datetime
    try_number: int
    task_id: str = ""
    patient: bool = False
    lenient: bool = False
    above: Callable[[str], Iterable[str]] | None = None


def decide(watcher: Watcher, state: RunState, producer: str | None) -> Verdict:
    """The verdict for all nodes of a task: it waits for every one of them, then the worst decides.

    A node that dbt skipped because of another one of the same task (a model behind its own unit test) has its answer: it is not
    waited for.
    """
    verdicts = {unique_id: decide_node(unique_id, watcher, state, producer) for unique_id in watcher.nodes}
    failed = {unique_id for unique_id, verdict in verdicts.items() if verdict.kind is Kind.FAIL}
    answered = _below(failed, watcher, state) if failed else frozenset()
    for kind in Kind:
        chosen = [verdict.reason for unique_id, verdict in verdicts.items() if verdict.kind is kind and unique_id not in answered]
        if chosen:
            return Verdict(kind, _joined(chosen))
    return Verdict(Kind.SUCCEED, "nothing to watch")


def decide_node(unique_id: str, watcher: Watcher, state: RunState, producer: str | None) -> Verdict:
    """The verdict for one node."""
    record = fresh_record(state, unique_id, watcher.born)
    if record is None:
        kept = _kept(unique_id, watcher, state)
        return (
            Verdict(Kind.SUCCEED, f"{unique_id}: {kept.status}")
            if kept is not None
            else _without_record(unique_id, watcher, state, producer)
        )
    if record.outcome.ok:
        return Verdict(Kind.SUCCEED, f"{unique_id}: {record.status}")
    if record.outcome is Outcome.SKIPPED:
        return _skipped(record, producer)
    if watcher.patient and producer not in TERMINAL:
        return Verdict(Kind.WAIT, f"{unique_id}: {record.status}; the producer is {producer or 'not started'} and may build it again")
    return Verdict(Kind.FAIL, f"{unique_id}: {record.status}: {plain(record.message or 'dbt gave no message')}")


def _skipped(record: NodeFinished, producer: str | None) -> Verdict:
    unique_id = record.unique_id
    cause = f" because of {', '.join(record.skip_cause)}" if record.skip_cause else ""
    if record.by_choice is not None:
        return Verdict(
            Kind.SKIP, f"{unique_id} is skipped by choice ({record.by_choice}){cause}{f': {record.message}' if record.message else ''}"
        )
    if producer in TERMINAL:
        return Verdict(Kind.RECOVER, f"dbt skipped {unique_id}{cause}")
    return Verdict(Kind.WAIT, f"dbt skipped {unique_id}{cause}; the producer is {producer or 'not started'}")


def _below(failed: set[str], watcher: Watcher, state: RunState) -> frozenset[str]:
    """The nodes of the task that dbt skipped because of ``failed`` ones, or of such as it skipped because of them."""
    records = {unique_id: fresh_record(state, unique_id, watcher.born) for unique_id in watcher.nodes}
    causes = {name: set(one.skip_cause) for name, one in records.items() if one is not None and one.outcome is Outcome.SKIPPED}
    found: set[str] = set()
    while new := {name for name, cause in causes.items() if name not in found and cause & (failed | found)}:
        found |= new
    return frozenset(found)


def fresh_record(state: RunState, unique_id: str, born: datetime) -> NodeFinished | None:
    """The record of a node that counts for a task instance born at ``born``, if there is one."""
    node = state.nodes.get(unique_id)
    if node is None or node.finished is None:
        return None
    return node.finished if _is_fresh(node, state, born) else None


def open_recovery(state: RunState) -> Attempt | None:
    """The newest attempt, if it is a recovery that has no end yet."""
    attempt = state.attempt
    return attempt if attempt is not None and attempt.finished is None and is_recovery(attempt) else None


def done_since_clear(state: RunState, clear_number: int | None) -> frozenset[str]:
    """The nodes that are done, or skipped by choice, in attempts of this clear: a task that has not ended is only late to show it."""
    return frozenset(
        unique_id
        for unique_id, node in state.nodes.items()
        if node.finished is not None
        and (node.finished.outcome.ok or node.finished.by_choice is not None)
        and (started := state.attempts[node.epoch].started) is not None
        and started.clear_number == clear_number
    )


def is_recovery(attempt: Attempt) -> bool:
    """Whether an attempt builds only the nodes of its plan."""
    return attempt.started is not None and attempt.started.scope == ONLY


def _fresh_attempt(state: RunState, born: datetime, *, recovery: bool, of: frozenset[str] | None = None) -> Attempt | None:
    """The newest attempt of that sort, if it belongs to this try of the task. ``of``: with one of these nodes in its plan."""
    for epoch in sorted(state.attempts, reverse=True):
        attempt = state.attempts[epoch]
        if is_recovery(attempt) is recovery and (of is None or (attempt.plan is not None and not of.isdisjoint(attempt.plan))):
            return attempt if _started_after(attempt, born) else None
    return None


def _kept(unique_id: str, watcher: Watcher, state: RunState) -> NodeFinished | None:
    """What counts although it is older than this try: the success of a node, if a recovery built what else was left of the task's nodes.

    A recovery leaves out what is done since the last clear (see :meth:`~ledger_watcher_airflow.recovery.Recovery.run_dbt`).
    """
    node = state.nodes.get(unique_id)
    if node is None or node.finished is None or not node.finished.outcome.ok or len(watcher.nodes) < _SEVERAL:
        return None
    recovery = _fresh_attempt(state, watcher.born, recovery=True, of=frozenset(watcher.nodes))
    if recovery is None or recovery.epoch <= node.epoch or recovery.started is None or unique_id in (recovery.plan or ()):
        return None
    built_in = state.attempts[node.epoch].started
    return node.finished if built_in is not None and built_in.clear_number == recovery.started.clear_number else None


def _is_fresh(node: Node, state: RunState, born: datetime) -> bool:
    record = node.finished
    if record is None:
        return False
    if _started_after(state.attempts[node.epoch], born):
        return True
    return record.outcome.ok and (record.finished_at or record.ts) >= born


def _started_after(attempt: Attempt, born: datetime) -> bool:
    return attempt.started is not None and attempt.started.producer_started_at >= born - SLACK


def _without_record(unique_id: str, watcher: Watcher, state: RunState, producer: str | None) -> Verdict:
    if producer not in TERMINAL:
        return Verdict(Kind.WAIT, f"no record of {unique_id} yet; the producer is {producer or 'not started'}")
    recovery = _fresh_attempt(state, watcher.born, recovery=True, of=frozenset({unique_id}))
    if recovery is not None:
        how = recovery.finished.message if recovery.finished is not None else "it was killed, or lost the ledger"
        return Verdict(Kind.FAIL, f"the recovery in attempt {recovery.epoch} ended without a result for {unique_id}: {how or 'no message'}")
    attempt = _fresh_attempt(state, watcher.born, recovery=False)
    if producer == "success":
        if attempt is not None and (_left_out(unique_id, attempt) or _unknown_to_dbt(unique_id, attempt, state)):
            return Verdict(
                Kind.FAIL,
                f"{unique_id} was rendered in Airflow but is not among the nodes that dbt was to build: the manifest of the DAG file and the "
                "project that dbt ran differ. Deploy the same version to both, then clear the run.",
            )
        return Verdict(Kind.RECOVER, f"the producer succeeded without a record of {unique_id} for this try{_earlier(state, unique_id)}")
    cause = f": {attempt.finished.message}" if attempt is not None and attempt.finished is not None and attempt.finished.message else ""
    if attempt is None and producer in _NOT_STARTED:
        cause = f"; dbt was not started, because {_NOT_STARTED[producer]}"
    reason = f"the producer ended as {producer} before dbt finished {unique_id}{cause}{_earlier(state, unique_id)}"
    first = Kind.SKIP if producer == "skipped" and watcher.lenient else Kind.FAIL
    return Verdict(first if watcher.try_number <= 1 else Kind.RECOVER, reason)


def _left_out(unique_id: str, attempt: Attempt) -> bool:
    return attempt.plan is not None and unique_id not in attempt.plan


def _unknown_to_dbt(unique_id: str, attempt: Attempt, state: RunState) -> bool:
    """Whether dbt ran to a good end, nothing of that is lost, and it never spoke of the node: to run it again would be no use."""
    node, end = state.nodes.get(unique_id), attempt.finished
    silent = node is None or node.epoch < attempt.epoch
    return silent and attempt.dbt is not None and end is not None and end.exit_code == 0 and not end.incomplete


def _earlier(state: RunState, unique_id: str) -> str:
    """What an attempt before this try said of the node: mostly the failure that this try is a retry of."""
    node = state.nodes.get(unique_id)
    if node is None or node.finished is None:
        return ""
    return f" (attempt {node.epoch}, before this try: {node.finished.status}: {node.finished.message or 'no message'})"


def _joined(reasons: Sequence[str]) -> str:
    shown = "; ".join(reasons[:5])
    return shown if len(reasons) <= 5 else f"{shown}; and {len(reasons) - 5} more"  # noqa: PLR2004 - what a log line bears
