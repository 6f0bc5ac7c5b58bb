"""A reader sees a prefix of the chain, asks once per poll, and refuses what does not belong."""

from __future__ import annotations

import json

import pytest

from ledger_watcher.errors import CorruptLedger, Denied, Transient, UnsupportedLedger
from ledger_watcher.ledger import ChainReader, Kind, RunKey
from ledger_watcher.records import AttemptStarted
from tests.core.chains import RUN, Chain, finished, note, notes, started
from tests.core.stores import Fault, FaultyStore, MemoryStore


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
def chain(store: FaultyStore) -> Chain:
    return Chain(store)


@pytest.fixture
def reader(store: FaultyStore) -> ChainReader:
    return ChainReader(store, RUN)


def test_nothing_there_is_none(reader: ChainReader) -> None:
    """A run that has not begun is no error, and the reader stays where it was."""
    assert reader.poll() is None
    assert reader.read() == []
    assert (reader.next_seq, reader.ended, reader.last) == (0, False, None)


def test_a_poll_returns_one_segment_and_then_none(chain: Chain, reader: ChainReader) -> None:
    """Records come in order, with their place; at the end of the chain there is nothing, until there is more."""
    chain.fence()
    chain.data("a", "b")
    [first] = reader.poll() or []
    assert (first.seq, first.epoch, first.record) == (0, 1, started(1))
    second = reader.poll() or []
    assert [(entry.seq, entry.epoch) for entry in second] == [(1, 1), (1, 1)]
    assert notes(second) == ["a", "b"]
    assert reader.poll() is None
    chain.data("c")
    assert notes(reader.poll() or []) == ["c"]


def test_an_empty_segment_is_not_the_end_of_the_chain(chain: Chain, reader: ChainReader) -> None:
    """No records and no segment are two answers."""
    chain.fence()
    chain.data()
    chain.data("a")
    reader.poll()
    assert reader.poll() == []
    assert notes(reader.read()) == ["a"]


def test_each_poll_is_one_request_hit_or_miss(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """The price of a reader: one GET per interval, and one per segment that is there; never a listing."""
    assert reader.poll() is None
    assert store.calls == [("get", RUN.segment(0))]
    chain.fence()
    reader.poll()
    assert store.calls[1:] == [("get", RUN.segment(0))]
    assert reader.poll() is None
    assert store.calls[2:] == [("get", RUN.segment(1))]
    chain.data("a")
    chain.data("b")
    store.calls.clear()
    reader.read()
    assert store.calls == [("get", RUN.segment(n)) for n in (1, 2, 3)]


def test_reading_may_stop_after_some_segments(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """A limit bounds one call; the next goes on from there, and a limit that is reached costs no request more."""
    chain.fence()
    for text in "abcd":
        chain.data(text)
    assert notes(reader.read(limit=3)) == ["a", "b"]
    assert len(store.calls) == 3
    assert reader.read(limit=0) == []
    assert notes(reader.read()) == ["c", "d"]


def test_a_segment_behind_a_gap_is_not_seen(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """What is read is a prefix: nothing is skipped to reach what lies behind it."""
    chain.fence()
    gap = chain.data("a")
    chain.data("b")
    hidden = store.objects.pop(gap)
    assert notes(reader.read()) == []
    store.objects[gap] = hidden
    assert notes(reader.read()) == ["a", "b"]


@pytest.mark.parametrize(("fault", "error"), [(Fault.TRANSIENT, Transient), (Fault.DENIED, Denied)])
def test_a_failed_poll_changes_nothing(chain: Chain, reader: ChainReader, store: FaultyStore, fault: Fault, error: type[Exception]) -> None:
    """The storage's error passes through, and the same call may be made again."""
    chain.fence()
    chain.data("a")
    reader.poll()
    store.script("get", fault)
    with pytest.raises(error):
        reader.poll()
    assert reader.next_seq == 1
    assert notes(reader.poll() or []) == ["a"]


def test_takeovers_are_followed(chain: Chain, reader: ChainReader) -> None:
    """Epochs follow each other in one chain, ended or not; each begins with its fence."""
    chain.fence()
    chain.data("a1")
    chain.fence()  # the first writer vanished
    chain.data("b1")
    chain.end()
    assert [(e.seq, e.epoch) for e in reader.read()] == [(0, 1), (1, 1), (2, 2), (3, 2), (4, 2)]
    assert reader.ended
    chain.fence()  # somebody cleared the run
    assert [e.record.attempt for e in reader.read() if isinstance(e.record, AttemptStarted)] == [3]
    assert not reader.ended
    chain.fence()
    chain.end()
    reader.read()
    assert reader.ended


def refused(reader: ChainReader, store: MemoryStore, key: str, problem: str) -> None:
    """Reading on raises CorruptLedger, which names the object and the problem, and again when it is repeated."""
    for _ in range(2):
        with pytest.raises(CorruptLedger, match=problem) as caught:
            reader.read()
        assert caught.value.path == f"{store.root}/{key}"
        assert caught.value.path in str(caught.value)


@pytest.mark.parametrize("victim", [0, 1, 2, 3])
def test_an_altered_segment_is_refused(chain: Chain, store: FaultyStore, victim: int) -> None:
    """A byte that changed in storage is found in whichever segment it is."""
    chain.fence()
    chain.data("a")
    chain.data("b")
    chain.end()
    key = RUN.segment(victim)
    store.objects[key] = store.objects[key].replace(b"2026", b"2027")
    reader = ChainReader(store, RUN)
    refused(reader, store, key, "truncated or altered")
    assert reader.next_seq == victim, "what stands before it was read"


def test_a_segment_replaced_by_another_with_a_right_hash_is_refused(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """Rewriting history takes rewriting all that follows: the next segment does not follow from the forged one."""
    chain.fence()
    chain.data("a")
    honest = chain.next
    chain.data("b")
    forger = Chain(store)
    forger.fence()
    forger.data("forged")
    assert forger.next.prev != honest.prev
    refused(reader, store, RUN.segment(2), "does not follow from segment 1")


def test_a_segment_of_another_run_is_refused(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """Copied or synchronised to the wrong folder."""
    chain.fence()
    other = Chain(store, RunKey("other", "r"))
    other.fence()
    store.objects[RUN.segment(1)] = store.objects[other.data("a")]
    refused(reader, store, RUN.segment(1), "it belongs to the run 'v1/deployment=default/dag=other/run=r/")


def test_a_segment_at_another_place_is_refused(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """Its number is part of it."""
    chain.fence()
    chain.add(Kind.DATA, note("a"), seq=5, at=1)
    refused(reader, store, RUN.segment(1), "its sequence number is 5, its place is 1")


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.END])
@pytest.mark.parametrize("epoch", [0, 2, 7])
def test_a_segment_of_a_wrong_epoch_is_refused(chain: Chain, reader: ChainReader, store: FaultyStore, kind: Kind, epoch: int) -> None:
    """Only a fence begins an epoch."""
    chain.fence()
    refused(reader, store, chain.add(kind, note("a"), epoch=epoch), f"a {kind.value} segment of epoch {epoch} cannot stand here")


@pytest.mark.parametrize("epoch", [0, 1, 3, -1])
def test_a_fence_of_a_wrong_epoch_is_refused(chain: Chain, reader: ChainReader, store: FaultyStore, epoch: int) -> None:
    """Epochs have no gaps and never go back."""
    chain.fence()
    chain.data("a")
    refused(reader, store, chain.add(Kind.FENCE, started(epoch), epoch=epoch), f"a fence segment of epoch {epoch} cannot stand here")


def test_an_old_epoch_after_a_fence_is_refused(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """What a zombie managed to write after a takeover is not read."""
    chain.fence()
    chain.fence()
    refused(reader, store, chain.add(Kind.DATA, note("zombie"), epoch=1, writer="w1"), "a data segment of epoch 1 cannot stand here")


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.END])
def test_a_chain_begins_with_a_fence(chain: Chain, reader: ChainReader, store: FaultyStore, kind: Kind) -> None:
    """Records without a claim before them have no writer."""
    refused(reader, store, chain.add(kind, note("a")), f"a {kind.value} segment of epoch 1 cannot stand here")


def test_a_first_fence_is_of_the_first_epoch(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """And of no other."""
    refused(reader, store, chain.add(Kind.FENCE, started(2), epoch=2), "a fence segment of epoch 2 cannot stand here")


def test_a_first_segment_with_a_past_is_refused(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """The chain begins at slot 0 with a hash of zeros."""
    refused(reader, store, chain.add(Kind.FENCE, started(1), prev="ab" * 32), "does not follow")


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.END])
def test_nothing_but_a_fence_follows_an_end(chain: Chain, reader: ChainReader, store: FaultyStore, kind: Kind) -> None:
    """The end segment is the commit point of its epoch."""
    chain.fence()
    chain.end()
    refused(reader, store, chain.add(kind, finished()), f"a {kind.value} segment of epoch 1 cannot stand here")


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.END])
def test_a_segment_of_a_writer_that_never_claimed_is_refused(chain: Chain, reader: ChainReader, store: FaultyStore, kind: Kind) -> None:
    """An epoch belongs to the writer of its fence."""
    chain.fence()
    refused(reader, store, chain.add(kind, note("a"), writer="somebody"), "its writer 'somebody' never claimed this epoch")


def test_a_newer_format_is_named(chain: Chain, reader: ChainReader, store: FaultyStore) -> None:
    """A reader that is too old says so, and where it stopped."""
    chain.fence()
    store.objects[RUN.segment(1)] = json.dumps({"kind": "segment", "v": 2}).encode() + b"\n"
    with pytest.raises(UnsupportedLedger, match="Upgrade") as caught:
        reader.read()
    assert caught.value.path == f"{store.root}/{RUN.segment(1)}"
    assert reader.next_seq == 1
