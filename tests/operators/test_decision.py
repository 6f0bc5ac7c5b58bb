"""The decision table row by row, what is fresh, and what never may happen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_watcher.records import ONLY, DbtStarted, NodeStarted, Outcome, Record
from ledger_watcher.state import RunState
from ledger_watcher_airflow.decision import RECOVERING, SLACK, TERMINAL, Kind, Verdict, Watcher, decide, fresh_record, open_recovery
from tests.operators.runs import BORN, at, began, done, over, planned, state_of

NODE = "model.shop.a"
OTHER = "model.shop.b"
OK = [Outcome.SUCCESS, Outcome.WARN, Outcome.NOOP, Outcome.REUSED]
RUNNING = [None, "queued", "running", "up_for_retry", "scheduled", "restarting", "deferred", "not known yet"]
ENDED = sorted(TERMINAL)
FAILED = ["failed", "upstream_failed", "removed"]


def verdict(state: RunState, producer: str | None, *nodes: str, tried: int = 1) -> Verdict:
    return decide(Watcher(nodes=nodes or (NODE,), born=BORN, try_number=tried), state, producer)


def record_of(outcome: Outcome, **more: object) -> RunState:
    return state_of([began(1), done(NODE, outcome, **more)])


# The table -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("producer", [*RUNNING, *ENDED])
@pytest.mark.parametrize("outcome", OK)
def test_done_succeeds_whatever_the_producer_is(outcome: Outcome, producer: str | None) -> None:
    assert verdict(record_of(outcome), producer).kind is Kind.SUCCEED


@pytest.mark.parametrize("producer", [*RUNNING, *ENDED])
@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CANCELLED])
def test_failed_fails_with_dbt_s_message(outcome: Outcome, producer: str | None) -> None:
    found = verdict(record_of(outcome, message="division by zero"), producer)
    assert found.kind is Kind.FAIL
    assert NODE in found.reason
    assert "division by zero" in found.reason


def test_failed_without_a_message_says_so() -> None:
    assert "no message" in verdict(record_of(Outcome.FAILED), "running").reason


@pytest.mark.parametrize("producer", RUNNING)
def test_skipped_waits_while_the_producer_may_go_on(producer: str | None) -> None:
    found = verdict(record_of(Outcome.SKIPPED, skip_cause=("model.shop.z",)), producer)
    assert found.kind is Kind.WAIT
    assert "model.shop.z" in found.reason


@pytest.mark.parametrize("producer", ENDED)
def test_skipped_recovers_when_the_producer_has_ended(producer: str) -> None:
    found = verdict(record_of(Outcome.SKIPPED, skip_cause=("model.shop.z",)), producer)
    assert found.kind is Kind.RECOVER
    assert "model.shop.z" in found.reason


@pytest.mark.parametrize("producer", RUNNING)
@pytest.mark.parametrize("tried", [1, 2])
def test_nothing_waits_while_the_producer_may_go_on(producer: str | None, tried: int) -> None:
    for state in (state_of(), state_of([began(1)]), state_of([began(1), planned(OTHER)]), state_of([began(1), over()])):
        assert verdict(state, producer, tried=tried).kind is Kind.WAIT


@pytest.mark.parametrize("tried", [1, 2])
def test_nothing_recovers_when_the_producer_succeeded(tried: int) -> None:
    """Green for work that was not done is the one thing that must not be."""
    for state in (state_of(), state_of([began(1), over()]), state_of([began(1), planned(NODE), over()])):
        assert verdict(state, "success", tried=tried).kind is Kind.RECOVER


def test_a_node_that_dbt_was_never_to_build_fails_and_says_what_to_deploy() -> None:
    found = verdict(state_of([began(1), planned(OTHER), over()]), "success")
    assert found.kind is Kind.FAIL
    assert NODE in found.reason
    assert "Deploy" in found.reason


def test_a_node_that_a_content_dbt_never_spoke_of_is_not_in_its_project() -> None:
    """Unless something of that attempt is lost, or it is no attempt of this try, or dbt did not end well: then it is built."""
    spoke = DbtStarted(ts=at(2), dbt_version="1.11.0")
    found = verdict(state_of([began(1), planned(NODE, OTHER), spoke, done(OTHER), over()]), "success")
    assert found.kind is Kind.FAIL
    assert "Deploy" in found.reason
    lossy = replace(over(), incomplete="events were lost")
    for start, end in ((1, lossy), (1, over(code=1)), (-100, over())):
        assert verdict(state_of([began(start), planned(NODE, OTHER), spoke, done(OTHER), end]), "success").kind is Kind.RECOVER


def test_the_plan_of_an_old_attempt_says_nothing() -> None:
    assert verdict(state_of([began(-100), planned(OTHER), over()]), "success").kind is Kind.RECOVER


def test_what_is_skipped_with_its_producer_is_skipped() -> None:
    """A branch that skips a whole group skips the producer; tasks below sources do not skip by themselves. Of others it is no end that is green."""
    below_sources = Watcher(nodes=(NODE,), born=BORN, try_number=1, lenient=True)
    assert decide(below_sources, state_of(), "skipped").kind is Kind.SKIP
    assert decide(replace(below_sources, try_number=2), state_of(), "skipped").kind is Kind.RECOVER
    assert verdict(state_of(), "skipped").kind is Kind.FAIL


@pytest.mark.parametrize("producer", [*RUNNING, *ENDED])
def test_a_skip_by_choice_is_final(producer: str | None) -> None:
    """Whatever the producer does; but a task of several nodes, some of which ran, tells of those."""
    chosen = done(NODE, Outcome.SKIPPED, by_choice="stale", skip_cause=("source.shop.raw.old",))
    found = verdict(state_of([began(1), chosen]), producer)
    assert found.kind is Kind.SKIP
    assert "source.shop.raw.old" in found.reason
    for outcome, kind in ((Outcome.SUCCESS, Kind.SUCCEED), (Outcome.FAILED, Kind.FAIL)):
        assert verdict(state_of([began(1), chosen, done(OTHER, outcome)]), producer, NODE, OTHER).kind is kind


@pytest.mark.parametrize("producer", FAILED)
def test_nothing_fails_on_the_first_try_when_the_producer_failed(producer: str) -> None:
    found = verdict(state_of([began(1), over("Database Error: no such host", code=2)]), producer)
    assert found.kind is Kind.FAIL
    assert producer in found.reason
    assert "no such host" in found.reason


@pytest.mark.parametrize("producer", FAILED)
def test_nothing_recovers_on_a_later_try_when_the_producer_failed(producer: str) -> None:
    assert verdict(state_of([began(1), over(code=2)]), producer, tried=2).kind is Kind.RECOVER


def test_the_message_of_an_old_attempt_is_not_named_as_the_cause() -> None:
    assert "old trouble" not in verdict(state_of([began(-100), over("old trouble", code=2)]), "failed").reason


# What is fresh -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("started", "counts"), [(0, True), (-2, True), (-2.001, False), (-3600, False), (10, True)])
@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.SKIPPED])
def test_a_failure_counts_if_its_producer_started_with_the_task_or_later(started: float, counts: bool, outcome: Outcome) -> None:
    state = state_of([began(started), done(NODE, outcome)])
    assert (fresh_record(state, NODE, BORN) is not None) is counts


@pytest.mark.parametrize(("finished", "counts"), [(-1, False), (-0.001, False), (0, True), (5, True)])
@pytest.mark.parametrize("outcome", OK)
def test_a_success_of_an_older_producer_counts_if_it_finished_later(finished: float, counts: bool, outcome: Outcome) -> None:
    state = state_of([began(-3600), done(NODE, outcome, finished)])
    assert (fresh_record(state, NODE, BORN) is not None) is counts


def test_a_success_of_a_new_producer_counts_whenever_it_finished() -> None:
    """Carried over from the attempt before: recorded again, with the time at which it really finished."""
    state = state_of([began(-3600), done(NODE, seconds=-3000)], [began(1), done(NODE, seconds=-3000, source="carried_over")])
    assert verdict(state, "running").kind is Kind.SUCCEED


def test_without_a_time_of_its_end_a_success_counts_by_the_time_of_its_record() -> None:
    record = done(NODE)
    for seconds, counts in ((-1, False), (1, True)):
        bare = type(record)(ts=at(seconds), unique_id=NODE, outcome=Outcome.SUCCESS, status="success")
        assert (fresh_record(state_of([began(-3600), bare]), NODE, BORN) is not None) is counts


def test_the_newest_attempt_that_touched_the_node_decides() -> None:
    assert verdict(state_of([began(1), done(NODE, Outcome.FAILED)], [began(2), done(NODE)]), "running").kind is Kind.SUCCEED
    assert verdict(state_of([began(1), done(NODE)], [began(2), done(NODE, Outcome.FAILED)]), "running").kind is Kind.FAIL


def test_a_node_that_runs_again_has_no_record_yet() -> None:
    again = NodeStarted(ts=at(3), unique_id=NODE)
    assert verdict(state_of([began(1), done(NODE, Outcome.FAILED)], [began(2), again]), "running").kind is Kind.WAIT


def test_a_retried_producer_leaves_the_failures_of_its_first_attempt_to_the_first_try() -> None:
    """The failed task was retried too (born 60 s later), while the producer was still up_for_retry; then it runs again."""
    first = [began(0), done(NODE, Outcome.FAILED, 30)]
    second_try = Watcher(nodes=(NODE,), born=at(60), try_number=2)
    assert decide(second_try, state_of(first), "up_for_retry").kind is Kind.WAIT
    assert decide(second_try, state_of(first, [began(90)]), "running").kind is Kind.WAIT
    assert decide(second_try, state_of(first, [began(90), done(NODE, seconds=95)]), "running").kind is Kind.SUCCEED


def test_clearing_one_task_finds_nothing_fresh_in_a_finished_run() -> None:
    """The run is over: what it recorded is what was cleared."""
    for outcome in Outcome:
        state = state_of([began(-600), done(NODE, outcome, -500), over()])
        assert verdict(state, "success", tried=2).kind is Kind.RECOVER


def test_clearing_the_whole_run_waits_for_the_new_attempt() -> None:
    old = [began(-600), done(NODE, Outcome.FAILED, -500), over(code=1)]
    assert verdict(state_of(old), None, tried=2).kind is Kind.WAIT
    assert verdict(state_of(old, [began(3)]), "running", tried=2).kind is Kind.WAIT
    assert verdict(state_of(old, [began(3), done(NODE)]), "running", tried=2).kind is Kind.SUCCEED


def test_a_run_deleted_and_created_again_ignores_what_lies_in_its_folder() -> None:
    """Same dag_id and run_id, so the same ledger; tries count from 1 again."""
    for outcome in Outcome:
        old = [began(-600), done(NODE, outcome, -500), over()]
        assert verdict(state_of(old), "running").kind is Kind.WAIT
        assert verdict(state_of(old), "failed").kind is Kind.FAIL
        assert verdict(state_of(old, [began(1), done(NODE)]), "running").kind is Kind.SUCCEED


def test_the_slack_is_for_clocks_only() -> None:
    assert timedelta(0) < SLACK <= timedelta(seconds=5)


# Several nodes -------------------------------------------------------------------------------------------------------


def test_a_task_of_several_nodes_waits_for_all() -> None:
    state = state_of([began(1), done(NODE, Outcome.FAILED)])
    found = verdict(state, "running", NODE, OTHER)
    assert found.kind is Kind.WAIT
    assert OTHER in found.reason


@pytest.mark.parametrize(
    ("outcomes", "kind"),
    [
        ((Outcome.SUCCESS, Outcome.WARN), Kind.SUCCEED),
        ((Outcome.SUCCESS, Outcome.FAILED), Kind.FAIL),
        ((Outcome.FAILED, Outcome.SKIPPED), Kind.FAIL),
        ((Outcome.SUCCESS, Outcome.SKIPPED), Kind.RECOVER),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_of_several_nodes_the_worst_decides(outcomes: tuple[Outcome, Outcome], kind: Kind, swap: bool) -> None:
    first, second = reversed(outcomes) if swap else outcomes
    assert verdict(state_of([began(1), done(NODE, first), done(OTHER, second)]), "success", NODE, OTHER).kind is kind


def test_a_retry_names_what_it_is_a_retry_of() -> None:
    """The record of the attempt before does not count, but it is what a person wants to read."""
    state = state_of([began(-60), done(NODE, Outcome.FAILED, message="division by zero")])
    for producer in ("success", "failed"):
        found = verdict(state, producer, tried=2)
        assert found.kind is Kind.RECOVER
        assert "attempt 1, before this try: error: division by zero" in found.reason


def test_a_model_behind_its_own_failed_unit_test_is_not_waited_for() -> None:
    """dbt skipped the one because of the other: the task fails as soon as that is known, and says which."""
    state = state_of([began(1), done(OTHER, Outcome.FAILED, message="1 differs"), done(NODE, Outcome.SKIPPED, skip_cause=(OTHER,))])
    found = verdict(state, "running", OTHER, NODE)
    assert found.kind is Kind.FAIL
    assert OTHER in found.reason
    assert verdict(state, "running", NODE).kind is Kind.WAIT


def test_what_a_unit_test_found_is_shown_without_the_colours_of_a_terminal() -> None:
    diff = "\x1b[32mactual\x1b[0m differs from \x1b[31mexpected\x1b[0m:\n| id |\n| \x1b[0;1m1\x1b[0m → 2 |"
    found = verdict(state_of([began(1), done(OTHER, Outcome.FAILED, message=diff)]), "running", OTHER)
    assert found.reason.endswith("error: actual differs from expected:\n| id |\n| 1 → 2 |")


def test_the_reasons_of_many_nodes_fit_into_a_log_line() -> None:
    nodes = [f"model.shop.m{i}" for i in range(200)]
    found = verdict(state_of([began(1), *(done(uid, Outcome.FAILED) for uid in nodes)]), "success", *nodes)
    assert "195 more" in found.reason
    assert len(found.reason) < 1000


# What never may happen -----------------------------------------------------------------------------------------------


times = st.sampled_from([-100.0, -2.5, -2.0, -1.0, 0.0, 1.0, 50.0])
nodes = st.sampled_from([NODE, OTHER, "model.shop.c"])


@st.composite
def runs(draw: st.DrawFn) -> list[list[Record]]:
    attempts: list[list[Record]] = []
    for start in draw(st.lists(times, max_size=3)):
        records: list[Record] = [began(start)]
        if draw(st.booleans()):
            records.append(planned(*draw(st.lists(nodes, unique=True))))
        records += [
            done(uid, outcome, seconds) if outcome else NodeStarted(ts=at(seconds), unique_id=uid)
            for uid, outcome, seconds in draw(st.lists(st.tuples(nodes, st.none() | st.sampled_from(Outcome), times), max_size=6))
        ]
        if draw(st.booleans()):
            records.append(over())
        attempts.append(records)
    return attempts


def newest(attempts: list[list[Record]], uid: str) -> tuple[float, Outcome, float] | None:
    """Read once more from the records: start of the newest attempt that touched the node, its outcome there, and when."""
    for records in reversed(attempts):
        mine = [record for record in records if getattr(record, "unique_id", None) == uid]
        if mine:
            ends = [record for record in mine if hasattr(record, "outcome")]
            good = [record for record in ends if record.outcome in OK]
            if not ends:
                return None
            last = (good or ends)[-1]
            start = (records[0].ts - BORN).total_seconds()
            return start, last.outcome, (last.finished_at - BORN).total_seconds()
    return None


@settings(max_examples=250, deadline=None)
@given(runs(), st.sampled_from([*RUNNING, *ENDED]), st.lists(nodes, min_size=1, unique=True), st.integers(1, 3))
def test_every_verdict_follows_from_the_records(attempts: list[list[Record]], producer: str | None, watched: list[str], tried: int) -> None:
    state = state_of(*attempts)
    found = verdict(state, producer, *watched, tried=tried)
    fresh: dict[str, Outcome] = {}
    for uid in watched:
        last = newest(attempts, uid)
        if last is not None and (last[0] >= -2 or (last[1] in OK and last[2] >= 0)):
            fresh[uid] = last[1]
    assert (found.kind is Kind.SUCCEED) is (set(fresh) == set(watched) and all(outcome in OK for outcome in fresh.values()))
    if producer in TERMINAL:
        assert found.kind is not Kind.WAIT
    else:
        assert found.kind not in (Kind.RECOVER, Kind.SKIP)
        if found.kind is Kind.FAIL:
            assert set(fresh) == set(watched)
            assert not set(fresh.values()).isdisjoint({Outcome.FAILED, Outcome.CANCELLED})
    assert found.reason


# Recoveries ----------------------------------------------------------------------------------------------------------


def recovery(seconds: float, *nodes: str) -> list[Record]:
    """An attempt that builds these nodes only."""
    return [began(seconds, scope=ONLY, task_id="b_run"), planned(*nodes)]


def test_everything_without_an_answer_waits_for_a_recovery() -> None:
    state = state_of([began(1), over()], recovery(10, OTHER))
    assert open_recovery(state) is state.attempts[2]
    for tried in (1, 2):
        assert verdict(state, RECOVERING, tried=tried).kind is Kind.WAIT
    skipped = state_of([began(1), done(NODE, Outcome.SKIPPED), over()], recovery(10, OTHER))
    assert verdict(skipped, RECOVERING).kind is Kind.WAIT


@pytest.mark.parametrize("producer", ENDED)
def test_what_a_recovery_built_is_mirrored(producer: str) -> None:
    """A record of the recovery is fresh for tasks born before it began."""
    for outcome, kind in ((Outcome.SUCCESS, Kind.SUCCEED), (Outcome.FAILED, Kind.FAIL)):
        state = state_of([began(-60), done(NODE, Outcome.FAILED, -50), over()], [*recovery(10, NODE), done(NODE, outcome, 12), over()])
        assert verdict(state, producer, tried=2).kind is kind
        assert open_recovery(state) is None


@pytest.mark.parametrize("producer", ENDED)
@pytest.mark.parametrize("end", [[over("Database Error", 2)], []])
def test_a_recovery_that_left_a_node_without_a_result_fails_its_task(producer: str, end: list[Record]) -> None:
    """Not recovered again in the same try: that would go on for ever. The next try does it."""
    state = state_of([began(-60), done(NODE, Outcome.FAILED, -50), over()], [*recovery(10, NODE, OTHER), *end])
    found = verdict(state, producer, tried=2)
    assert found.kind is Kind.FAIL
    assert ("Database Error" if end else "killed") in found.reason
    later = decide(Watcher(nodes=(NODE,), born=at(60), try_number=3), state, producer)
    assert later.kind is Kind.RECOVER


@pytest.mark.parametrize("producer", ["success", "failed"])
def test_a_recovery_of_others_is_followed_by_one_of_its_own(producer: str) -> None:
    state = state_of([began(-60), over()], [*recovery(10, OTHER), done(OTHER, seconds=12), over()])
    assert verdict(state, producer, tried=2).kind is Kind.RECOVER


def test_the_plan_of_a_recovery_is_not_that_of_the_run() -> None:
    """A node that was planned and got no record is recovered although the newest attempt did not plan it."""
    state = state_of([began(1), planned(NODE, OTHER), over()], [*recovery(10, OTHER), over()])
    assert verdict(state, "success").kind is Kind.RECOVER
    strange = state_of([began(1), planned(OTHER), over()], [*recovery(10, OTHER), over()])
    assert "differ" in verdict(strange, "success").reason


@pytest.mark.parametrize("producer", RUNNING)
def test_a_patient_task_waits_while_the_producer_may_build_its_node_again(producer: str | None) -> None:
    failed = record_of(Outcome.FAILED, message="deadlock")
    patient = Watcher(nodes=(NODE,), born=BORN, try_number=1, patient=True)
    assert decide(patient, failed, producer).kind is Kind.WAIT
    assert decide(patient, record_of(Outcome.SUCCESS), producer).kind is Kind.SUCCEED


@pytest.mark.parametrize("producer", ENDED)
def test_a_patient_task_takes_the_last_try_s_word(producer: str) -> None:
    patient = Watcher(nodes=(NODE,), born=BORN, try_number=1, patient=True)
    found = decide(patient, record_of(Outcome.FAILED, message="deadlock"), producer)
    assert found.kind is Kind.FAIL
    assert "deadlock" in found.reason
