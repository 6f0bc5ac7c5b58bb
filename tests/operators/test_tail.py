"""One reading task per run: what it costs, whom it wakes, and what becomes of the waiting when something fails."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ledger_watcher.errors import Denied, Transient
from ledger_watcher.ledger import LedgerWriter, WriterOptions
from ledger_watcher.records import Outcome
from ledger_watcher_airflow import tail as tail_module
from ledger_watcher_airflow.decision import Kind, Verdict, Watcher
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.tail import Tail, TailKey, tail_for
from tests.operators.runs import BORN, RUN, Attempt, CountingStore, at, began, done, over, planned

POLL = 0.002
PRODUCER = "dbt_producer_watcher"
A, B = "model.shop.a", "model.shop.b"


class Script:
    """The producer's state as Airflow would tell it: ``now``, or what it raises."""

    def __init__(self, now: str | None = "running") -> None:
        self.now = now
        self.error: Exception | None = None
        self.looks = 0

    async def __call__(self, key: TailKey) -> str | None:
        self.looks += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self.now


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingStore:
    store = CountingStore(tmp_path / "ledger")
    monkeypatch.setattr(LedgerRef, "store", lambda _: store)
    monkeypatch.setattr(tail_module, "LONGEST_BACKOFF", 0.01)
    monkeypatch.setattr(tail_module, "PRODUCER_INTERVAL", 0.01)
    return store


@pytest.fixture
def key(tmp_path: Path) -> TailKey:
    return TailKey(LedgerRef(uri=str(tmp_path / "ledger")), RUN, PRODUCER)


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scene in a loop of its own, for 20 s at most."""
    asyncio.run(asyncio.wait_for(scene(), 20))


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is the code under test, which sets no event
        await asyncio.sleep(0.001)


async def polled(tail: Tail, times: int = 3) -> None:
    """Let the tail look that often."""
    goal = tail.polls + times
    await until(lambda: tail.polls >= goal)


def watch(tail: Tail, *nodes: str, born: datetime = BORN, tried: int = 1, notices: list[str] | None = None) -> asyncio.Task[Verdict]:
    async def told(text: str) -> None:
        if notices is not None:
            notices.append(text)

    return asyncio.create_task(tail.wait(Watcher(nodes=nodes or (A,), born=born, try_number=tried), told))


# What is mirrored ----------------------------------------------------------------------------------------------------


def test_each_outcome_reaches_its_watcher(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        producer = Script()
        tail = tail_for(key, poll=POLL, producer_state=producer)
        names = {outcome: f"model.shop.{outcome.value}" for outcome in Outcome}
        tasks = {outcome: watch(tail, name) for outcome, name in names.items()}
        attempt = Attempt(store, began(0))
        attempt.write(*(done(name, outcome, message="why") for outcome, name in names.items()))
        ok = [outcome for outcome in Outcome if outcome.ok]
        assert {(await tasks[outcome]).kind for outcome in ok} == {Kind.SUCCEED}
        failed = await tasks[Outcome.FAILED]
        assert (failed.kind, "why" in failed.reason) == (Kind.FAIL, True)
        await polled(tail)
        assert not tasks[Outcome.SKIPPED].done()
        attempt.end()
        producer.now = "success"
        assert (await tasks[Outcome.SKIPPED]).kind is Kind.RECOVER

    play(scene)


def test_a_real_writer_is_followed_to_its_end(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        producer = Script()
        tail = tail_for(key, poll=POLL, producer_state=producer)
        names = [f"model.shop.m{i}" for i in range(20)]
        tasks = [watch(tail, name) for name in names]
        forgotten = watch(tail, "model.shop.forgotten")
        writer = LedgerWriter(store, RUN, options=WriterOptions(commit_interval=0.01))
        writer.open(began(0))
        for name in names:
            writer.append(done(name))
        assert {(await task).kind for task in tasks} == {Kind.SUCCEED}
        await asyncio.to_thread(writer.close, over())
        await until(lambda: tail.state.ended)
        producer.now = "success"
        assert (await forgotten).kind is Kind.RECOVER

    play(scene)


def test_a_late_watcher_gets_its_answer_from_a_long_run_that_is_over(store: CountingStore, key: TailKey) -> None:
    """A triggerer that starts anew finds a terminal producer and many segments: it must read all before it judges."""
    attempt = Attempt(store, began(0))
    for i in range(100):
        attempt.write(done(f"model.shop.m{i}"))
    attempt.write(done(A))
    attempt.end()

    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script("success"))
        assert (await watch(tail)).kind is Kind.SUCCEED
        assert (await watch(tail, "model.shop.never")).kind is Kind.RECOVER

    play(scene)


def test_a_task_of_several_nodes_waits_for_the_last(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script())
        task = watch(tail, A, B)
        attempt = Attempt(store, began(0))
        attempt.write(done(A))
        await polled(tail)
        assert not task.done()
        attempt.write(done(B))
        assert (await task).kind is Kind.SUCCEED

    play(scene)


def test_only_those_whose_node_changed_are_woken(store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "PRODUCER_INTERVAL", 3600)

    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script())
        tasks = {name: watch(tail, name) for name in (A, B)}
        await polled(tail)
        woken: list[int] = []
        wake = tail._wake
        monkeypatch.setattr(tail, "_wake", lambda events: (woken.append(len(events)), wake(events)))
        Attempt(store, began(0)).write(done(A))
        await tasks[A]
        assert max(woken) == 1
        assert not tasks[B].done()

    play(scene)


# What it costs -------------------------------------------------------------------------------------------------------


def test_two_hundred_watchers_cost_one_request_per_poll(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        producer = Script()
        tails = {tail_for(key, poll=POLL, producer_state=producer) for _ in range(200)}
        assert len(tails) == 1
        (tail,) = tails
        names = [f"model.shop.m{i}" for i in range(200)]
        tasks = [watch(tail, name) for name in names]
        attempt = Attempt(store, began(0))
        await polled(tail, 20)
        store.calls.clear()
        polls = tail.polls
        await polled(tail, 50)
        assert store.calls["get"] - (tail.polls - polls) in (-1, 0, 1)  # one may be under way
        assert producer.looks <= tail.polls
        assert set(store.calls) == {"get"}
        attempt.write(*(done(name) for name in names))
        assert {(await task).kind for task in tasks} == {Kind.SUCCEED}

    play(scene)


def test_the_producer_is_looked_at_seldom_while_dbt_runs(store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "PRODUCER_INTERVAL", 3600)

    async def scene() -> None:
        producer = Script()
        tail = tail_for(key, poll=POLL, producer_state=producer)
        task = watch(tail)
        attempt = Attempt(store, began(0))
        await polled(tail, 20)
        assert producer.looks == 1
        attempt.end()  # dbt has ended: now each poll asks, so that nobody waits for the next look
        await polled(tail, 3)
        producer.now = "success"
        assert (await task).kind is Kind.RECOVER

    play(scene)


def test_runs_have_tails_of_their_own(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        other = TailKey(key.ledger, key.run, "another.producer")
        assert tail_for(key, poll=POLL, producer_state=Script()) is not tail_for(other, poll=POLL, producer_state=Script())

    play(scene)


# The producer's state ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", ["failed", "upstream_failed", "skipped", "removed"])
def test_a_producer_that_ended_without_the_node_fails_its_watchers(store: CountingStore, key: TailKey, ended: str) -> None:
    async def scene() -> None:
        producer = Script()
        tail = tail_for(key, poll=POLL, producer_state=producer)
        task = watch(tail)
        await polled(tail)
        producer.now = ended
        verdict = await task
        assert (verdict.kind, ended in verdict.reason) == (Kind.FAIL, True)

    play(scene)


def test_a_stale_state_of_the_producer_does_not_fail_who_comes_later(store: CountingStore, key: TailKey) -> None:
    """Task and producer are cleared together: the tail still knows the producer as failed, and its new attempt is to come."""

    async def scene() -> None:
        producer = Script("failed")
        tail = tail_for(key, poll=POLL, producer_state=producer)
        assert (await watch(tail)).kind is Kind.FAIL
        producer.now = None
        later = watch(tail, born=at(100), tried=2)
        await polled(tail, 5)
        assert not later.done()
        producer.now = "running"
        Attempt(store, began(101)).write(done(A, seconds=110))
        assert (await later).kind is Kind.SUCCEED

    play(scene)


def test_a_look_that_began_before_a_watcher_came_is_not_for_it(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        asked, answer = asyncio.Event(), asyncio.Event()
        states = iter(["failed"])

        async def slow(_: TailKey) -> str | None:
            state = next(states, "running")
            asked.set()
            await answer.wait()
            return state

        tail = tail_for(key, poll=POLL, producer_state=slow)
        first = watch(tail)
        await asked.wait()
        late = watch(tail, born=at(0))
        await asyncio.sleep(0)
        answer.set()
        assert (await first).kind is Kind.FAIL
        await polled(tail, 3)
        assert not late.done()
        Attempt(store, began(0)).write(done(A))
        assert (await late).kind is Kind.SUCCEED

    play(scene)


def test_records_written_before_the_producer_ended_are_seen_before_its_end(store: CountingStore, key: TailKey) -> None:
    """The state is read first, then the chain to its end: a terminal state means that the records are complete."""

    async def scene() -> None:
        attempt = Attempt(store, began(0))

        async def ends_now(_: TailKey) -> str | None:
            attempt.write(planned(A))
            attempt.write(done(A))
            attempt.end()
            return "success"

        tail = tail_for(key, poll=POLL, producer_state=ends_now)
        assert (await watch(tail)).kind is Kind.SUCCEED

    play(scene)


def test_an_airflow_that_does_not_answer_ends_nobody_and_hides_no_record(
    store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "PRODUCER_INTERVAL", 0)  # asks with every poll

    async def scene() -> None:
        producer = Script("success")
        producer.error = RuntimeError("the API server is away")
        tail = tail_for(key, poll=POLL, producer_state=producer)
        missing, built = watch(tail, B), watch(tail, A)
        await polled(tail, 5)
        assert not missing.done()
        Attempt(store, began(0)).write(done(A))
        assert (await built).kind is Kind.SUCCEED
        assert not missing.done()
        producer.error = None
        assert (await missing).kind is Kind.RECOVER

    play(scene)


def test_a_stale_state_does_not_count_because_the_next_look_failed(
    store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First Airflow does not answer, then the storage: what is known of the producer is still that of the try before."""

    async def scene() -> None:
        producer = Script("failed")
        tail = tail_for(key, poll=POLL, producer_state=producer)
        await watch(tail)
        producer.error = RuntimeError("the API server is away")
        monkeypatch.setattr(tail_module, "PRODUCER_INTERVAL", 3600)
        looks = producer.looks
        later = watch(tail, born=at(100), tried=2)
        await until(lambda: producer.looks > looks)
        store.fail_with(Denied)
        await until(lambda: tail.problem is not None)
        await polled(tail, 3)
        assert not later.done()
        later.cancel()

    play(scene)


# Storage trouble -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "success", "failed"])
def test_a_storage_out_of_reach_means_waiting(store: CountingStore, key: TailKey, state: str) -> None:
    async def scene() -> None:
        attempt = Attempt(store, began(0))
        attempt.write(done(A))
        store.fail_with(Transient)
        tail = tail_for(key, poll=POLL, producer_state=Script(state))
        tasks = [watch(tail) for _ in range(20)]
        await polled(tail, 10)
        assert not any(task.done() for task in tasks)
        store.fail_with(None)
        assert {(await task).kind for task in tasks} == {Kind.SUCCEED}

    play(scene)


def test_after_an_outage_those_without_a_record_are_judged(store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing new in the chain and no look at the producer: the recovery itself has to wake them."""

    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script("failed"))
        store.fail_with(Transient)
        task = watch(tail)
        await until(lambda: tail.problem is not None)
        monkeypatch.setattr(tail_module, "PRODUCER_INTERVAL", 3600)
        await polled(tail, 3)
        assert not task.done()
        store.fail_with(None)
        assert (await task).kind is Kind.FAIL

    play(scene)


def test_what_was_read_before_a_failure_is_not_lost(store: CountingStore, key: TailKey) -> None:
    attempt = Attempt(store, began(0))
    attempt.write(done(A))
    attempt.write(done(B))
    once = iter([None, None, Transient("get", "segment 2", "reset")])
    store.fail = lambda _: next(once, None)

    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script())
        assert {(await task).kind for task in (watch(tail, A), watch(tail, B))} == {Kind.SUCCEED}

    play(scene)


def test_no_permission_to_read_fails_once_the_producer_has_ended(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        producer = Script()
        store.fail_with(Denied)
        tail = tail_for(key, poll=POLL, producer_state=producer)
        task = watch(tail)
        await polled(tail, 5)
        assert not task.done()
        producer.now = "success"
        verdict = await task
        assert verdict.kind is Kind.FAIL
        assert "success" in verdict.reason
        assert "permissions" in verdict.reason

    play(scene)


def test_a_record_that_was_read_counts_although_the_storage_is_away_now(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script())
        Attempt(store, began(0)).write(done(A))
        other = watch(tail, B)
        await until(lambda: A in tail.state.nodes)
        store.fail_with(Denied)
        await until(lambda: tail.problem is not None)
        assert (await watch(tail, A)).kind is Kind.SUCCEED
        assert not other.done()

    play(scene)


@pytest.mark.parametrize("damage", [b"", b"not a segment\n", b'{"sha256":"'])
def test_a_corrupt_ledger_fails_and_names_the_object(store: CountingStore, key: TailKey, tmp_path: Path, damage: bytes) -> None:
    async def scene() -> None:
        attempt = Attempt(store, began(0))
        attempt.write(done(B))
        path = tmp_path / "ledger" / RUN.segment(1)
        path.unlink()
        path.write_bytes(damage)
        tail = tail_for(key, poll=POLL, producer_state=Script())
        verdict = await watch(tail)
        assert verdict.kind is Kind.FAIL
        assert str(path) in verdict.reason

    play(scene)


def test_a_success_that_was_read_stays_one_whatever_comes_after_it(store: CountingStore, key: TailKey, tmp_path: Path) -> None:
    """One damaged object must not turn finished successes red; what is behind it fails and names it."""

    async def scene() -> None:
        Attempt(store, began(0)).write(done(A))
        path = tmp_path / "ledger" / RUN.segment(2)
        path.write_bytes(b"")
        tail = tail_for(key, poll=POLL, producer_state=Script("success"))
        other = await watch(tail, B)
        assert (other.kind, str(path) in other.reason) == (Kind.FAIL, True)
        assert (await watch(tail, A)).kind is Kind.SUCCEED

    play(scene)


@pytest.mark.parametrize("failure", [Transient("get", "x", "no route"), RuntimeError("a bug of a library")])
def test_a_storage_that_stays_away_after_the_producer_has_ended_is_not_waited_for_for_ever(
    store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(tail_module, "OUTAGE_BOUND", 0.2)

    async def scene() -> None:
        producer = Script("running")
        store.fail = lambda _: failure
        tail = tail_for(key, poll=POLL, producer_state=producer)
        task = watch(tail)
        await asyncio.sleep(0.3)  # longer than the bound: while the producer may go on it does not count
        await polled(tail, 2)
        assert not task.done()
        producer.now = "failed"
        verdict = await task
        assert verdict.kind is Kind.FAIL
        assert "cannot be read" in verdict.reason

    play(scene)


def test_a_surprise_in_the_storage_ends_nobody(store: CountingStore, key: TailKey) -> None:
    """An exception that is none of this project's: reading goes on."""

    async def scene() -> None:
        store.fail = lambda _: RuntimeError("a bug of a library")
        tail = tail_for(key, poll=POLL, producer_state=Script("failed"))
        task = watch(tail)
        await polled(tail, 5)
        assert not task.done()
        store.fail_with(None)
        assert (await task).kind is Kind.FAIL

    play(scene)


# Waiting -------------------------------------------------------------------------------------------------------------


def test_long_waiting_is_told_again_and_again(store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Being woken by every look at the producer must not put it off for ever."""
    monkeypatch.setattr(tail_module, "NOTICE_AFTER", 0.05)

    async def scene() -> None:
        notices: list[str] = []
        tail = tail_for(key, poll=POLL, producer_state=Script())
        task = watch(tail, notices=notices)
        await until(lambda: len(notices) >= 3)
        assert A in notices[0]
        assert "running" in notices[-1]
        store.fail_with(Transient)
        await until(lambda: "cannot be read" in notices[-1])
        task.cancel()

    play(scene)


@pytest.mark.parametrize("state", [None, "scheduled", "queued"])
def test_a_producer_that_does_not_start_is_named_with_what_to_look_at(
    store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    """In a pool with include_deferred, the tasks that wait may fill it: nobody but them can tell."""
    monkeypatch.setattr(tail_module, "NOTICE_AFTER", 0.05)

    async def scene() -> None:
        notices: list[str] = []
        producer = Script(state)
        task = watch(tail_for(key, poll=POLL, producer_state=producer), notices=notices)
        await until(lambda: notices and "setup_operator_args={'pool': ...}" in notices[-1])
        producer.now = "running"
        await until(lambda: "include_deferred" not in notices[-1])
        task.cancel()

    play(scene)


def test_cancelled_watchers_leave_nothing_and_disturb_nobody(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script())
        tasks = [watch(tail) for _ in range(50)]
        await polled(tail)
        for task in tasks[:-1]:
            task.cancel()
        results = await asyncio.gather(*tasks[:-1], return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert len(tail._events) == 1
        Attempt(store, began(0)).write(done(A))
        assert (await tasks[-1]).kind is Kind.SUCCEED
        assert not tail._events

    play(scene)


@pytest.mark.parametrize("ticks", range(5))
def test_a_watcher_that_is_woken_and_cancelled_at_once_is_cancelled(store: CountingStore, key: TailKey, ticks: int) -> None:
    """asyncio.wait_for before Python 3.12 may forget the cancellation then, and the trigger would go on for ever."""

    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script())
        task = watch(tail)
        await polled(tail)
        tail._wake(tail._events)
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 2)
        assert not tail._events

    play(scene)


def test_a_watcher_cancelled_before_it_began_is_no_trouble(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script())
        task = watch(tail)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not tail._events

    play(scene)


# Its own life --------------------------------------------------------------------------------------------------------


def test_it_keeps_what_it_has_read_for_the_next_watcher(store: CountingStore, key: TailKey) -> None:
    async def scene() -> None:
        attempt = Attempt(store, began(0))
        attempt.write(done(A), done(B))
        tail = tail_for(key, poll=POLL, producer_state=Script())
        await watch(tail, A)
        store.calls.clear()
        assert tail_for(key, poll=POLL, producer_state=Script()) is tail
        assert (await watch(tail, B)).kind is Kind.SUCCEED
        assert store.calls["get"] <= 1

    play(scene)


def test_it_ends_after_its_linger_and_is_started_anew(store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "LINGER", 0.02)

    async def scene() -> None:
        Attempt(store, began(0)).write(done(A))
        first = tail_for(key, poll=POLL, producer_state=Script())
        await watch(first)
        assert first.task is not None
        await first.task
        calls = store.calls["get"]
        await asyncio.sleep(0.05)
        assert store.calls["get"] == calls
        second = tail_for(key, poll=POLL, producer_state=Script())
        assert second is not first
        assert (await watch(second)).kind is Kind.SUCCEED

    play(scene)


def test_one_that_has_just_ended_is_not_handed_out(store: CountingStore, key: TailKey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the end of its task and the callback that forgets it, a watcher would get it and wait for ever."""
    monkeypatch.setattr(tail_module, "LINGER", 0.0)

    async def scene() -> None:
        Attempt(store, began(0)).write(done(A))
        first = tail_for(key, poll=POLL, producer_state=Script())
        (place,) = [place for place, tail in tail_module._tails.items() if tail is first]
        assert first.task is not None
        await first.task
        tail_module._tails[place] = first  # as it is before the callback
        second = tail_for(key, poll=POLL, producer_state=Script())
        assert second is not first
        tail_module._ended(place, first)  # the callback, late
        assert tail_for(key, poll=POLL, producer_state=Script()) is second
        assert (await watch(second)).kind is Kind.SUCCEED

    play(scene)


def test_each_event_loop_has_its_own(store: CountingStore, key: TailKey) -> None:
    """Loops of one process may even have the same address, one after another."""
    Attempt(store, began(0)).write(done(A))
    seen: list[Tail] = []

    async def scene() -> None:
        tail = tail_for(key, poll=POLL, producer_state=Script())
        assert (await watch(tail)).kind is Kind.SUCCEED
        seen.append(tail)

    for _ in range(3):
        play(scene)
    assert len({id(tail) for tail in seen}) == 3


def test_its_log_does_not_belong_to_whoever_came_first(store: CountingStore, key: TailKey) -> None:
    """Airflow's triggers write their logs by context variables."""
    owner: contextvars.ContextVar[str] = contextvars.ContextVar("owner", default="nobody")
    seen: list[str] = []

    async def scene() -> None:
        async def state(_: TailKey) -> str | None:
            seen.append(owner.get())
            return "running"

        owner.set("the first trigger")
        tail = tail_for(key, poll=POLL, producer_state=state)
        task = watch(tail)
        await polled(tail)
        task.cancel()

    play(scene)
    assert set(seen) == {"nobody"}
