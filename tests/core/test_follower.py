"""Keeping up with a run: snapshot, follow, wait, and what is not the end of a chain."""

from __future__ import annotations

import threading
from itertools import count

import pytest

from ledger_watcher import codec
from ledger_watcher.errors import CorruptLedger, Denied
from ledger_watcher.ledger import Kind, LedgerWriter, RunFollower, WriterOptions, follower
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.records import NodeFinished, Outcome
from tests.core.chains import NOW, RUN, Chain, finished, note, notes, started
from tests.core.stores import PATIENCE, Fault, FaultyStore, MemoryStore

EAGER = WriterOptions(commit_interval=0.0)


def ended(name: str, outcome: Outcome = Outcome.SUCCESS) -> NodeFinished:
    return NodeFinished(ts=NOW, unique_id=f"model.shop.{name}", outcome=outcome, status=outcome.value)


def attempt(store: MemoryStore, *segments: NodeFinished, end: bool = True) -> ChainWriter:
    """One attempt with a segment per record, and its checkpoint if it ended."""
    writer = ChainWriter(store, RUN)
    writer.claim(started())
    for record in segments:
        writer.stage(Kind.DATA, [codec.encode(record)])
        writer.push()
    if end:
        writer.stage(Kind.END, [codec.encode(finished())])
        writer.push()
        writer.checkpoint(end=True)
    return writer


# Snapshots -----------------------------------------------------------------------------------------------------------


def test_a_snapshot_of_a_finished_run_is_two_requests_however_long_it_was() -> None:
    store = MemoryStore()
    attempt(store, *(ended(f"m{number}") for number in range(200)))
    store.calls.clear()
    state = RunFollower(store, RUN).snapshot()
    assert [operation for operation, _ in store.calls] == ["list", "get"]
    assert (len(state.nodes), state.ended) == (200, True)


def test_a_snapshot_is_all_that_is_there_and_the_next_one_what_came() -> None:
    store = MemoryStore()
    writer = attempt(store, ended("a"), end=False)
    follower_ = RunFollower(store, RUN)
    assert set(follower_.snapshot().nodes) == {"model.shop.a"}
    writer.stage(Kind.DATA, [codec.encode(ended("b"))])
    writer.push()
    assert set(follower_.snapshot().nodes) == {"model.shop.a", "model.shop.b"}


def test_a_run_that_goes_on_after_its_end_is_not_taken_for_finished() -> None:
    """The second attempt has begun, with its checkpoint but without a fence yet: the reader polls on."""
    store = MemoryStore()
    attempt(store, ended("a", Outcome.FAILED))
    second = ChainWriter(store, RUN)
    second.claim(started())
    state = RunFollower(store, RUN).snapshot()
    assert (len(state.attempts), state.ended) == (2, False)


def test_of_a_run_that_is_not_there_nothing_is_known() -> None:
    follower_ = RunFollower(MemoryStore(), RUN)
    assert follower_.snapshot().attempts == {}
    assert not follower_.begun


def test_a_whole_reading_has_every_record_and_a_late_one_the_same_state() -> None:
    store = MemoryStore()
    attempt(store, ended("a", Outcome.FAILED))
    attempt(store, ended("a"))
    whole, late = RunFollower(store, RUN, whole=True), RunFollower(store, RUN)
    records = [entry.record for found in iter(whole.advance, None) for entry in found]
    assert records.count(ended("a", Outcome.FAILED)) == 1
    assert late.snapshot() == whole.state


# Following -----------------------------------------------------------------------------------------------------------


def test_follow_gives_each_record_once_and_waits_for_a_storage_that_is_away() -> None:
    store = FaultyStore()
    chain = Chain(store)
    chain.fence()
    chain.data("a")
    store.script("get", Fault.NONE, Fault.TRANSIENT, Fault.TRANSIENT)
    rounds = count()

    def stop() -> bool:
        if (turn := next(rounds)) == 3:
            chain.data("b")
        return turn >= 5

    seen = [text for found in RunFollower(store, RUN).follow(interval=0, stop=stop) for text in notes(found)]
    assert seen == ["a", "b"]


def test_follow_does_not_hide_what_waiting_does_not_mend() -> None:
    store = FaultyStore()
    Chain(store).fence()
    store.script("get", Fault.DENIED)
    with pytest.raises(Denied):
        list(RunFollower(store, RUN).follow(interval=0, stop=lambda: True))


def test_wait_returns_the_result_as_soon_as_it_is_there() -> None:
    store = MemoryStore()
    writer = LedgerWriter(store, RUN, options=EAGER)
    writer.open(started())
    found: list[NodeFinished] = []
    waiting = threading.Thread(target=lambda: found.append(RunFollower(store, RUN).wait("model.shop.a", timeout=PATIENCE, interval=0.01)))
    waiting.start()
    writer.append(note("something else"))
    writer.append(ended("a", Outcome.WARN))
    waiting.join(PATIENCE)
    assert found == [ended("a", Outcome.WARN)]
    writer.close(finished())


def test_wait_gives_up_in_time_and_knows_what_it_knew() -> None:
    store = MemoryStore()
    attempt(store, ended("a"), end=False)
    follower_ = RunFollower(store, RUN)
    with pytest.raises(TimeoutError, match=r"model\.shop\.b"):
        follower_.wait("model.shop.b", timeout=0, interval=0)
    store.calls.clear()
    assert follower_.wait("model.shop.a") == ended("a")
    assert store.calls == []


# Gaps ----------------------------------------------------------------------------------------------------------------


def test_a_gap_in_a_run_under_way_is_found_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """One listing now and then, not one per poll; an attempt that ended is not asked about."""
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    gone = chain.data("a")
    chain.data("b")
    del store.objects[gone]
    follower_ = RunFollower(store, RUN)
    follower_.advance()
    store.calls.clear()
    assert follower_.advance() is None
    assert store.count("list") == 0
    monkeypatch.setattr(follower, "GAP_CHECK", 0.0)
    with pytest.raises(CorruptLedger, match="gone although later segments are there") as caught:
        follower_.advance()
    assert gone in caught.value.path


def test_the_end_of_a_chain_is_no_gap() -> None:
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    follower_ = RunFollower(store, RUN, whole=True)
    follower_.snapshot()
    follower_.check_gap()
    chain.end()
    follower_.snapshot()
    store.calls.clear()
    follower_.check_gap()
    assert store.calls == [], "an end says so itself"


def test_a_beginning_that_expired_is_said() -> None:
    store = MemoryStore()
    chain = Chain(store)
    first, second = chain.fence(), chain.data("a")
    chain.data("b")
    for key in (first, second):
        del store.objects[key]
    follower_ = RunFollower(store, RUN, whole=True)
    assert notes([entry for found in iter(follower_.advance, None) for entry in found]) == ["b"]
    assert follower_.expired == 2
