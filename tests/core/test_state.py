"""What a run's records add up to."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from ledger_watcher.ledger import Entry
from ledger_watcher.records import (
    Artifact,
    AttemptFinished,
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
from ledger_watcher.state import RunState
from tests.core.chains import NOW, finished, started

A, B = "model.shop.a", "model.shop.b"
BAD = [outcome for outcome in Outcome if not outcome.ok]
GOOD = [outcome for outcome in Outcome if outcome.ok]


def fold(*steps: tuple[int, Record]) -> RunState:
    """The state after records, each with its epoch."""
    state = RunState()
    state.apply(Entry(seq, epoch, record) for seq, (epoch, record) in enumerate(steps))
    return state


def ended(outcome: Outcome, node: str = A, **more: object) -> NodeFinished:
    """A node's end."""
    return NodeFinished(ts=NOW, unique_id=node, outcome=outcome, status=outcome.value, **more)  # type: ignore[arg-type]


def began(node: str = A, thread: str | None = None) -> NodeStarted:
    """A node's start."""
    return NodeStarted(ts=NOW, unique_id=node, thread=thread)


def test_which_outcomes_are_ok() -> None:
    """Done and nothing held back downstream: this division decides what a next attempt builds."""
    assert {outcome.value for outcome in GOOD} == {"success", "warn", "noop", "reused"}
    assert {outcome.value for outcome in BAD} == {"failed", "skipped", "cancelled"}


def test_nothing_is_a_state() -> None:
    """Before the first record there is no attempt and no node."""
    state = RunState()
    assert (state.attempt, state.nodes, state.ended) == (None, {}, False)


def test_a_run_from_start_to_end() -> None:
    """Every kind of record finds its place."""
    plan = Plan(ts=NOW, unique_ids=(A, B), source="ls")
    dbt = DbtStarted(ts=NOW, dbt_version="1.11.16")
    log = Log(ts=NOW, unique_id=A, lines=("1 of 2 START",))
    hook = HookFinished(ts=NOW, unique_id="operation.shop.on-run-end-0", outcome=Outcome.SUCCESS, status="success")
    artifact = Artifact(ts=NOW, name="run_results.json", sha256="0" * 64, size=1, path="x")
    state = fold((1, started(1)), (1, dbt), (1, plan), (1, began()), (1, log), (1, ended(Outcome.WARN)), (1, hook), (1, artifact))
    attempt = state.attempt
    assert attempt is not None
    assert (attempt.epoch, attempt.started, attempt.dbt, attempt.plan) == (1, started(1), dbt, frozenset({A, B}))
    assert (attempt.hooks, attempt.artifacts, attempt.finished) == ({hook.unique_id: hook}, {"run_results.json": artifact}, None)
    assert not state.ended
    node = state.nodes[A]
    assert (node.status, node.epoch, node.started, node.logs) == ("warn", 1, began(), [log])
    state.apply([Entry(9, 1, finished())])
    assert (attempt.finished, state.ended) == (finished(), True)


def test_a_started_node_is_running() -> None:
    """Until a record says what became of it."""
    state = fold((1, started(1)), (1, began()))
    assert state.nodes[A].status == "running"
    assert B not in state.nodes


@pytest.mark.parametrize(("first", "second"), [*product(GOOD, BAD)])
def test_a_success_is_never_downgraded_within_an_attempt(first: Outcome, second: Outcome) -> None:
    """run_results.json can be wrong where the events are right."""
    state = fold((1, ended(first)), (1, ended(second, source="run_results")))
    assert state.nodes[A].finished == ended(first)


@pytest.mark.parametrize(("first", "second"), [*product(BAD, Outcome), *product(GOOD, GOOD)])
def test_otherwise_the_last_record_of_an_attempt_wins(first: Outcome, second: Outcome) -> None:
    """A failure may turn into anything, a success into another kind of success."""
    late = ended(second, source="run_results")
    assert fold((1, ended(first)), (1, late)).nodes[A].finished == late


@pytest.mark.parametrize(("old", "new"), [*product(Outcome, Outcome)])
def test_the_newest_attempt_wins_whatever_the_older_said(old: Outcome, new: Outcome) -> None:
    """Across attempts a success may well become a failure: it was built again."""
    state = fold((1, started(1)), (1, ended(old)), (2, started(2)), (2, ended(new)))
    assert state.nodes[A].finished == ended(new)
    assert state.nodes[A].epoch == 2


@pytest.mark.parametrize("outcome", Outcome)
def test_a_new_attempt_at_a_node_forgets_the_older_one(outcome: Outcome) -> None:
    """A node that was started again is running, with the log and the batches of this attempt only."""
    log, batch = Log(ts=NOW, unique_id=A, lines=("old",)), NodeProgress(ts=NOW, unique_id=A, index=1, total=2, status="success")
    state = fold((1, began()), (1, log), (1, batch), (1, ended(outcome)), (2, started(2)), (2, began()))
    node = state.nodes[A]
    assert (node.status, node.logs, node.batches, node.epoch) == ("running", [], [], 2)


def test_what_a_new_attempt_does_not_touch_stays_known() -> None:
    """A resumed run builds only what failed; the rest keeps its record and its epoch."""
    state = fold(
        (1, started(1)), (1, ended(Outcome.SUCCESS, A)), (1, ended(Outcome.FAILED, B)), (2, started(2)), (2, ended(Outcome.SUCCESS, B))
    )
    assert {name: (node.status, node.epoch) for name, node in state.nodes.items()} == {A: ("success", 1), B: ("success", 2)}


@pytest.mark.parametrize("record", [ended(Outcome.SUCCESS), began(), Log(ts=NOW, unique_id=A, lines=("old",))], ids=lambda r: r.kind)
def test_a_record_of_an_older_attempt_changes_nothing_of_a_newer_one(record: Record) -> None:
    """However the entries were gathered, an old epoch says nothing about a node that a newer one touched."""
    state = fold((2, ended(Outcome.FAILED)), (1, record))
    node = state.nodes[A]
    assert (node.epoch, node.finished, node.started, node.logs) == (2, ended(Outcome.FAILED), None, [])


def test_late_records_of_an_attempt_do_not_reopen_a_node() -> None:
    """Lines and starts that arrive after the end (dbt's threads, run_results.json) leave the outcome alone."""
    log = Log(ts=NOW, unique_id=A, lines=("late",))
    state = fold((1, ended(Outcome.FAILED)), (1, began()), (1, log))
    node = state.nodes[A]
    assert (node.status, node.started, node.logs) == ("failed", began(), [log])


def test_a_microbatch_model_keeps_its_first_start_and_all_batches() -> None:
    """dbt reports a start per batch; the node began with the first."""
    batches = [NodeProgress(ts=NOW, unique_id=A, index=n, total=3, status="success") for n in (1, 2, 3)]
    state = fold((1, began(thread="first")), (1, batches[0]), (1, began(thread="second")), (1, batches[1]), (1, batches[2]))
    node = state.nodes[A]
    assert (node.started, node.batches, node.status) == (began(thread="first"), batches, "running")
    state.apply([Entry(9, 1, ended(Outcome.SUCCESS))])
    assert (node.status, node.batches) == ("success", batches)


def test_attempts_are_kept_apart() -> None:
    """Each epoch has its own start, plan, end and artifacts; the newest is the run's."""
    lost = AttemptFinished(ts=NOW, exit_code=None, ended_by=EndedBy.LOST)
    plan = Plan(ts=NOW, unique_ids=(A,), source="ls")
    state = fold((1, started(1)), (1, plan), (1, lost), (2, started(2, host="worker-2")))
    assert list(state.attempts) == [1, 2]
    assert (state.attempts[1].plan, state.attempts[1].finished) == (frozenset({A}), lost)
    assert state.attempt is state.attempts[2]
    assert (state.attempt.plan, state.attempt.finished) == (None, None)


def test_an_ended_run_that_begins_again_is_not_ended() -> None:
    """Cleared, or retried: until the new attempt ends."""
    state = fold((1, started(1)), (1, finished()))
    assert state.ended
    state.apply([Entry(2, 2, started(2))])
    assert not state.ended
    state.apply([Entry(3, 2, finished())])
    assert state.ended


def test_an_empty_plan_is_not_no_plan() -> None:
    """Nothing selected is a fact about the attempt."""
    assert fold((1, Plan(ts=NOW, unique_ids=(), source="ls"))).attempts[1].plan == frozenset()


@pytest.mark.parametrize("kind", ["heartbeat", "unknown"])
def test_signs_of_life_count_and_change_nothing_else(kind: str) -> None:
    """Heartbeats, and records that only a newer version understands."""
    later = NOW + timedelta(seconds=5)
    sign = Heartbeat(ts=later) if kind == "heartbeat" else Unknown(ts=later, original_kind="rested")
    state = fold((1, started(1)), (1, sign))
    assert state.attempts[1].last_seen == later
    assert (state.nodes, state.ended) == ({}, False)


def test_folding_in_parts_is_folding_at_once() -> None:
    """A reader that polls ends where one that reads everything does."""
    steps = [
        (1, started(1)),
        (1, began()),
        (1, ended(Outcome.FAILED)),
        (2, started(2)),
        (2, began()),
        (2, ended(Outcome.SUCCESS)),
        (2, finished()),
    ]
    parts = RunState()
    for seq, (epoch, record) in enumerate(steps):
        parts.apply([Entry(seq, epoch, record)])
    assert parts == fold(*steps)
