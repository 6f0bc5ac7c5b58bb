"""The trigger: one event, always; dbt's lines in the task's log; what Airflow gives it and keeps of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent, TriggerEvent

from ledger_watcher.errors import Denied
from ledger_watcher.ledger import RunKey
from ledger_watcher.records import ONLY, DbtStarted, Outcome
from ledger_watcher_airflow import tail as tail_module
from ledger_watcher_airflow import trigger as trigger_module
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.tail import TailKey
from ledger_watcher_airflow.trigger import NodeTrigger, born_at, describe, producer_state
from ledger_watcher_airflow.words import RECOVER
from tests.operators.runs import BORN, RUN, Attempt, CountingStore, at, began, done, over, planned, said, state_of, task_id_born

A, B = "model.shop.a", "model.shop.b"
PRODUCER = "dbt.dbt_producer_watcher"


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path)


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What Airflow says of the producer's task: ``state``, or ``error``."""
    said_of_it = SimpleNamespace(state="running", error=None, keys=[])

    async def state(key: TailKey) -> str | None:
        said_of_it.keys.append(key)
        if said_of_it.error is not None:
            raise said_of_it.error
        return said_of_it.state

    monkeypatch.setattr(trigger_module, "producer_state", state)
    monkeypatch.setattr(tail_module, "PRODUCER_INTERVAL", 0.01)
    monkeypatch.setattr(tail_module, "LONGEST_BACKOFF", 0.01)
    return said_of_it


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, str]]]:
    """What the trigger writes to the task's log: levels and texts."""
    kept: list[tuple[int, str]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append((record.levelno, record.getMessage()))

    logger = logging.getLogger("tests.trigger")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = Kept()
    logger.addHandler(handler)
    monkeypatch.setattr(NodeTrigger, "log", property(lambda _: logger))
    yield kept
    logger.removeHandler(handler)


def trigger_of(tmp_path: Path, *nodes: str, tried: int = 1, born: float = 0, **more: Any) -> NodeTrigger:
    trigger = NodeTrigger(ledger=str(tmp_path), nodes=nodes or (A,), producer=PRODUCER, poll=0.002, **more)
    trigger.task_instance = SimpleNamespace(  # type: ignore[assignment]
        dag_id=RUN.dag_id,
        run_id=RUN.run_id,
        task_id=f"{trigger.nodes[0].split('.')[-1]}_run",
        map_index=-1,
        try_number=tried,
        id=task_id_born(at(born)),
    )
    return trigger


async def events_of(trigger: NodeTrigger) -> list[TriggerEvent]:
    return [event async for event in trigger.run()]


def run(*triggers: NodeTrigger) -> list[TriggerEvent]:
    """The one event of each."""

    async def all_of_them() -> list[list[TriggerEvent]]:
        return await asyncio.gather(*(asyncio.wait_for(events_of(trigger), 20) for trigger in triggers))

    found = asyncio.run(all_of_them())
    assert all(len(events) == 1 for events in found)
    return [events[0] for events in found]


def texts(lines: list[tuple[int, str]]) -> str:
    return "\n".join(text for _, text in lines)


# Events --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "event"),
    [(one, TaskSuccessEvent if one.ok else TaskFailedEvent) for one in Outcome if one is not Outcome.SKIPPED],
)
def test_it_ends_the_task_as_dbt_ended_the_node(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace, outcome: Outcome, event: type[TriggerEvent]
) -> None:
    Attempt(store, began(0)).write(done(A, outcome))
    (found,) = run(trigger_of(tmp_path))
    assert type(found) is event


@pytest.mark.parametrize("state", ["success", "failed"])
def test_what_dbt_skipped_is_built_by_a_worker_in_the_end(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace, lines: list[tuple[int, str]], state: str
) -> None:
    attempt = Attempt(store, began(0))
    attempt.write(done(A, Outcome.SKIPPED, skip_cause=("model.shop.above",)))
    attempt.end()
    producer.state = state
    (found,) = run(trigger_of(tmp_path))
    assert type(found) is TriggerEvent, "a plain event: Airflow calls `resume` on a worker"
    assert "model.shop.above" in found.payload[RECOVER]
    assert "A worker runs dbt again" in texts(lines)


def test_one_task_of_many_goes_to_a_worker_and_the_others_mirror_it(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace
) -> None:
    """50 nodes wait for a recovery: one event asks for it, the other 49 end by its records."""
    names = [f"model.shop.m{i}" for i in range(50)]
    attempt = Attempt(store, began(0))
    attempt.write(*(done(name, Outcome.SKIPPED, skip_cause=("model.shop.above",)) for name in names))
    attempt.end()
    producer.state = "success"

    async def scene() -> list[TriggerEvent]:
        waiting = [asyncio.create_task(events_of(trigger_of(tmp_path, name))) for name in names]
        done_first, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        await asyncio.sleep(0.1)
        assert len(done_first) == 1
        assert not any(task.done() for task in rest)
        (event,) = next(iter(done_first)).result()
        assert type(event) is TriggerEvent
        recovery = Attempt(store, began(20, scope=ONLY, task_id="t"))
        producer.state = "running"  # of the task that runs the recovery, which is asked for too
        recovery.write(planned(*names), *(done(name, seconds=25) for name in names))
        recovery.end()
        return [event for task in rest for event in await asyncio.wait_for(task, 20)]

    assert [type(event) for event in asyncio.run(scene())] == [TaskSuccessEvent] * 49


def test_a_node_that_dbt_was_not_to_build_fails_with_the_reason(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace, lines: list[tuple[int, str]]
) -> None:
    attempt = Attempt(store, began(0))
    attempt.write(planned(B), done(B))
    attempt.end()
    producer.state = "success"
    (found,) = run(trigger_of(tmp_path))
    assert type(found) is TaskFailedEvent
    assert "Deploy the same version" in texts(lines)


def test_a_second_try_does_not_take_the_record_of_the_first(tmp_path: Path, store: CountingStore, producer: SimpleNamespace) -> None:
    """Whoever asks by uuid7 is of the new try; the record of the producer's only attempt is not for it."""
    Attempt(store, began(0)).write(done(A, Outcome.FAILED, 5))
    producer.state = "failed"
    first, second = run(trigger_of(tmp_path), trigger_of(tmp_path, tried=2, born=60))
    assert (type(first), type(second)) == (TaskFailedEvent, TriggerEvent)
    Attempt(store, began(61)).write(done(A, seconds=70))
    (third,) = run(trigger_of(tmp_path, tried=2, born=60))
    assert type(third) is TaskSuccessEvent


def test_many_triggers_share_one_reader(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LedgerRef, "store", lambda _: store)
    names = [f"model.shop.m{i}" for i in range(100)]
    attempt = Attempt(store, began(0))
    attempt.write(*(done(name) for name in names))
    store.calls.clear()
    found = run(*(trigger_of(tmp_path, name) for name in names))
    assert {type(event) for event in found} == {TaskSuccessEvent}
    assert store.calls["get"] < 10


def test_the_ledger_is_that_of_the_run_the_group_and_the_deployment(tmp_path: Path, producer: SimpleNamespace) -> None:
    store = CountingStore(tmp_path)
    own = RunKey(dag_id=RUN.dag_id, run_id=RUN.run_id, group="outer.dbt", deployment="blue")
    Attempt(store, began(0), own).write(done(A))
    Attempt(store, began(0)).write(done(A, Outcome.FAILED))
    (found,) = run(trigger_of(tmp_path, group="outer.dbt", deployment="blue"))
    assert type(found) is TaskSuccessEvent
    assert producer.keys[0].run == own
    assert producer.keys[0].producer == PRODUCER


# It never raises -----------------------------------------------------------------------------------------------------


def test_a_storage_that_denies_fails_the_task_with_both_causes(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace, lines: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LedgerRef, "store", lambda _: store)
    store.fail_with(Denied)
    producer.state = "failed"
    (found,) = run(trigger_of(tmp_path))
    assert type(found) is TaskFailedEvent
    assert "producer is failed" in texts(lines)
    assert "permissions" in texts(lines)


def test_a_missing_connection_fails_the_task_by_name(tmp_path: Path, producer: SimpleNamespace, lines: list[tuple[int, str]]) -> None:
    producer.state = "success"
    trigger = trigger_of(tmp_path, conn_id="no_such_connection")
    trigger.ledger = "s3://bucket/prefix"
    (found,) = run(trigger)
    assert type(found) is TaskFailedEvent
    assert "no_such_connection" in texts(lines)


def test_a_corrupt_ledger_fails_the_task_and_names_the_object(
    tmp_path: Path, producer: SimpleNamespace, lines: list[tuple[int, str]]
) -> None:
    path = tmp_path / RUN.segment(0)
    path.parent.mkdir(parents=True)
    path.write_text("garbage\n")
    (found,) = run(trigger_of(tmp_path))
    assert type(found) is TaskFailedEvent
    assert str(path) in texts(lines)


def test_an_airflow_that_does_not_answer_is_waited_for(tmp_path: Path, store: CountingStore, producer: SimpleNamespace) -> None:
    """What dbt did is shown meanwhile; the rest waits."""
    producer.error = RuntimeError("no API server")
    Attempt(store, began(0)).write(done(A))

    async def scene() -> list[TriggerEvent]:
        missing = asyncio.create_task(events_of(trigger_of(tmp_path, B)))
        found = await asyncio.wait_for(events_of(trigger_of(tmp_path)), 20)
        await asyncio.sleep(0.05)
        assert not missing.done()
        missing.cancel()
        return found

    assert [type(event) for event in asyncio.run(scene())] == [TaskSuccessEvent]


@pytest.mark.parametrize("broken", ["tail_for", "born_at", "run_key", "describe"])
def test_a_bug_of_ours_fails_the_task_instead_of_starting_a_worker_for_it(
    tmp_path: Path,
    store: CountingStore,
    producer: SimpleNamespace,
    lines: list[tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError(broken)

    Attempt(store, began(0)).write(done(A))
    monkeypatch.setattr(trigger_module, broken, fail)
    (found,) = run(trigger_of(tmp_path))
    assert type(found) is TaskFailedEvent
    assert "please report it" in texts(lines)


def test_cancelling_it_is_no_failure(tmp_path: Path, producer: SimpleNamespace) -> None:
    """A triggerer that shuts down hands its triggers over: nothing may be said about the task."""
    found: list[TriggerEvent] = []

    async def scene() -> None:
        async def listen() -> None:
            async for event in trigger_of(tmp_path).run():
                found.append(event)  # noqa: PERF401 - what came before the cancellation counts

        task = asyncio.create_task(listen())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert not found


# The task's log ------------------------------------------------------------------------------------------------------


def test_dbt_s_lines_are_replayed_and_the_node_is_summed_up(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace, lines: list[tuple[int, str]]
) -> None:
    attempt = Attempt(store, began(0))
    attempt.write(
        DbtStarted(ts=at(0), dbt_version="1.11.0", invocation_id="inv-7"),
        said(A, "12:00:01 1 of 9 START sql table model main.a", "12:00:02 1 of 9 OK created"),
        said(A, "one more", dropped=12),
        said(B, "another node's line"),
        done(A, execution_time=1.234, rows_affected=42, relation="db.main.a", query_id="q-1"),
    )
    run(trigger_of(tmp_path))
    written = [text for _, text in lines]
    first = written.index("12:00:01 1 of 9 START sql table model main.a")
    assert written[first : first + 4] == [
        "12:00:01 1 of 9 START sql table model main.a",
        "12:00:02 1 of 9 OK created",
        "one more",
        "[12 more lines of dbt were not kept]",
    ]
    for part in ("1.23 s", "42 rows", "db.main.a", "q-1", "inv-7"):
        assert part in written[first + 4]
    assert "another node's line" not in texts(lines)
    assert written[first + 4].endswith(f", ledger {tmp_path}/{RUN.prefix}")


def test_a_percent_sign_in_dbt_s_lines_is_no_format(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace, lines: list[tuple[int, str]]
) -> None:
    Attempt(store, began(0)).write(said(A, "like '%s' 100%"), done(A, Outcome.FAILED, message="where x like '%d'"))
    run(trigger_of(tmp_path))
    assert "like '%s' 100%" in texts(lines)
    assert "where x like '%d'" in texts(lines)


def test_a_warning_is_a_warning(tmp_path: Path, store: CountingStore, producer: SimpleNamespace, lines: list[tuple[int, str]]) -> None:
    Attempt(store, began(0)).write(done(A, Outcome.WARN, failures=3, message="Got 3 results"))
    run(trigger_of(tmp_path))
    (found,) = [text for level, text in lines if level == logging.WARNING]
    assert "3 failures" in found
    assert "Got 3 results" in found


def test_every_node_of_a_task_is_shown(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace, lines: list[tuple[int, str]]
) -> None:
    Attempt(store, began(0)).write(said(A, "of a"), done(A), said(B, "of b"), done(B, Outcome.FAILED, message="boom"))
    (found,) = run(trigger_of(tmp_path, A, B))
    assert type(found) is TaskFailedEvent
    assert {"of a", "of b"} <= {text for _, text in lines}
    assert any(level == logging.ERROR and "boom" in text for level, text in lines)


def test_a_node_is_described_without_what_is_not_known() -> None:
    state = state_of([began(0), done(A, Outcome.SKIPPED, skip_cause=("model.shop.x", "model.shop.y"))])
    record = state.nodes[A].finished
    assert record is not None
    assert describe(record, state) == f"{A}: skipped, because of model.shop.x, model.shop.y"


# What Airflow gives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.999, 86400.0])
def test_a_try_was_born_at_the_time_in_its_id(seconds: float) -> None:
    born = BORN + timedelta(seconds=seconds)
    assert born_at(task_id_born(born)) == born
    assert born_at(str(task_id_born(born))) == born


def test_the_id_that_airflow_makes_holds_the_time() -> None:
    from datetime import datetime, timezone

    uuid6 = pytest.importorskip("uuid6")
    before = datetime.now(timezone.utc)
    assert timedelta(milliseconds=-1) <= born_at(uuid6.uuid7()) - before < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({RUN.run_id: {PRODUCER: "running"}}, "running"),
        ({RUN.run_id: {PRODUCER: None}}, None),
        ({RUN.run_id: {}}, "removed"),
        ({}, "removed"),
    ],
)
def test_the_producer_s_state_is_what_airflow_answers(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, dict[str, str | None]], state: str | None
) -> None:
    asked: list[dict[str, Any]] = []

    def states(**question: Any) -> dict[str, dict[str, str | None]]:
        asked.append(question)
        return answer

    monkeypatch.setattr(trigger_module.RuntimeTaskInstance, "get_task_states", staticmethod(states))
    key = TailKey(LedgerRef(uri="/ledger"), RUN, PRODUCER)
    assert asyncio.run(producer_state(key)) == state
    assert asked == [{"dag_id": RUN.dag_id, "task_ids": [PRODUCER], "run_ids": [RUN.run_id], "map_index": None}]


def test_the_answer_is_no_member_but_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow may answer with its enum: what is compared is the word."""
    from airflow.sdk import TaskInstanceState

    answer = {RUN.run_id: {PRODUCER: TaskInstanceState.UPSTREAM_FAILED}}
    monkeypatch.setattr(trigger_module.RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: answer))
    assert asyncio.run(producer_state(TailKey(LedgerRef(uri="/ledger"), RUN, PRODUCER))) == "upstream_failed"


def test_the_end_of_the_ledger_alone_is_not_the_end_of_the_producer(
    tmp_path: Path, store: CountingStore, producer: SimpleNamespace
) -> None:
    """dbt has ended without the node, Airflow says up_for_retry: the next attempt may build it."""
    attempt = Attempt(store, began(0))
    attempt.end(over("killed", code=2))
    producer.state = "up_for_retry"

    async def scene() -> list[TriggerEvent]:
        task = asyncio.create_task(events_of(trigger_of(tmp_path)))
        await asyncio.sleep(0.05)
        assert not task.done()
        Attempt(store, began(30)).write(done(A, seconds=31))
        return await asyncio.wait_for(task, 20)

    assert [type(event) for event in asyncio.run(scene())] == [TaskSuccessEvent]
