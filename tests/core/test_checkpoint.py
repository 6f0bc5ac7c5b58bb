"""A checkpoint says what its chain says up to there, in the same bytes whoever writes it, and a late reader needs nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_watcher import codec
from ledger_watcher.errors import CorruptLedger, Denied, LedgerError, Transient, UnsupportedLedger
from ledger_watcher.ledger import ChainReader, Entry, Header, Kind
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.ledger.checkpoint import Compaction, pack_checkpoint, unpack_checkpoint
from ledger_watcher.ledger.layout import checkpoints_in
from ledger_watcher.ledger.segments import GENESIS
from ledger_watcher.ledger.verify import verify
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
from ledger_watcher.state import RunState
from tests.core.chains import NOW, RUN, Chain, finished, note, started
from tests.core.stores import Fault, FaultyStore, MemoryStore

NODES = st.sampled_from(["model.shop.a", "model.shop.b", ""])
TIMES = st.integers(0, 9).map(lambda seconds: NOW + timedelta(seconds=seconds))
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(AttemptStarted, ts=TIMES, attempt=st.just(1), command=st.just(()), invocation=st.text(max_size=2), producer_started_at=TIMES),
    st.builds(AttemptFinished, ts=TIMES, exit_code=st.none(), ended_by=st.sampled_from(EndedBy)),
    st.builds(Plan, ts=TIMES, unique_ids=st.lists(NODES, max_size=2).map(tuple), source=st.just("x")),
    st.builds(DbtStarted, ts=TIMES, threads=st.none() | st.integers(1, 3)),
    st.builds(NodeStarted, ts=TIMES, unique_id=NODES),
    st.builds(NodeProgress, ts=TIMES, unique_id=NODES, index=st.integers(1, 3), total=st.just(3), status=st.just("x")),
    st.builds(NodeFinished, ts=TIMES, unique_id=NODES, outcome=st.sampled_from(Outcome), status=st.text(max_size=2)),
    st.builds(HookFinished, ts=TIMES, unique_id=NODES, outcome=st.sampled_from(Outcome), status=st.just("x")),
    st.builds(Log, ts=TIMES, unique_id=NODES, lines=st.just(("x",))),
    st.builds(Artifact, ts=TIMES, name=NODES, sha256=st.just(""), size=st.integers(0, 3), path=st.just("")),
    st.builds(Heartbeat, ts=TIMES),
    st.builds(Unknown, ts=TIMES, original_kind=st.just("later"), data=st.dictionaries(st.sampled_from("xy"), st.integers(0, 3))),
)
HISTORIES = st.lists(st.tuples(RECORDS, st.booleans(), st.integers(0, 9).map(lambda n: n == 0)), max_size=40)
"""Records; whether a segment begins with each, and whether an epoch does."""


def entries_of(history: list[tuple[Record, bool, bool]]) -> list[Entry]:
    """A chain's entries."""
    found: list[Entry] = []
    seq, epoch = 0, 1
    for record, segment, attempt in history:
        seq, epoch = seq + (segment or attempt), epoch + attempt
        found.append(Entry(seq, epoch, record, codec.encode(record)))
    return found


def head_of(entries: list[Entry]) -> Header:
    """The header of the segment of the last entry."""
    seq, epoch = (entries[-1].seq, entries[-1].epoch) if entries else (0, 1)
    return Header(run=RUN.prefix, seq=seq, epoch=epoch, writer="w", kind=Kind.DATA, prev=GENESIS, n=0, ts=NOW, sha256="ab" * 32)


def compacted(*parts: list[Entry]) -> Compaction:
    """All parts, one after another."""
    compaction = Compaction()
    for part in parts:
        compaction.add(part)
    return compaction


def state(entries: list[Entry]) -> RunState:
    """What they say."""
    found = RunState()
    found.apply(entries)
    return found


@given(history=HISTORIES)
def test_a_checkpoint_folds_to_what_its_chain_folds_to(history: list[tuple[Record, bool, bool]]) -> None:
    """At every prefix, and whatever comes after it."""
    entries = entries_of(history)
    compaction = Compaction()
    for cut in range(len(entries) + 1):
        kept = list(compaction.entries())
        assert state(kept) == state(entries[:cut])
        assert state([*kept, *entries[cut:]]) == state(entries)
        assert {(e.seq, e.epoch, e.line) for e in kept} <= {(e.seq, e.epoch, e.line) for e in entries[:cut]}
        assert compaction.nbytes == sum(len(entry.line) for entry in kept)
        compaction.add(entries[cut : cut + 1])


@given(history=HISTORIES, cut=st.integers(0, 40), again=st.integers(0, 40))
def test_the_same_chain_makes_the_same_bytes(history: list[tuple[Record, bool, bool]], cut: int, again: int) -> None:
    """From all segments, from a checkpoint and what follows it, or from a checkpoint of a checkpoint: also through the file."""
    entries = entries_of(history)
    cut, again = sorted((min(cut, len(entries)), min(again, len(entries))))
    whole = pack_checkpoint(head_of(entries), compacted(entries))
    _, first, _ = unpack_checkpoint("c", pack_checkpoint(head_of(entries[:cut]), compacted(entries[:cut]))[0])
    assert pack_checkpoint(head_of(entries), compacted(first, entries[cut:])) == whole
    _, second, _ = unpack_checkpoint("c", pack_checkpoint(head_of(entries[:again]), compacted(first, entries[cut:again]))[0])
    assert pack_checkpoint(head_of(entries), compacted(second, entries[again:])) == whole
    head, read, digest = unpack_checkpoint("c", whole[0])
    assert (head, digest) == (head_of(entries), whole[1])
    assert pack_checkpoint(head, compacted(read)) == whole


def test_fields_of_a_later_version_are_kept() -> None:
    """A checkpoint takes lines over as they stand."""
    line = b'{"kind":"node_started","ts":"2026-07-31T10:00:00Z","unique_id":"a","weather":"fine"}'
    entry = Entry(0, 1, codec.decode(line), line)
    data, _ = pack_checkpoint(head_of([entry]), compacted([entry]))
    assert b"," + b'"record":' + line + b"}\n" in data
    assert unpack_checkpoint("c", data)[1] == [entry]


def test_the_size_of_a_checkpoint_is_bounded_by_what_counts() -> None:
    """A thousand attempts that each say the same of the same nodes, with heartbeats: a little more than one of them, and one line per attempt."""
    compaction = Compaction()
    sizes = []
    for epoch in range(1, 1001):
        records = [NodeFinished(ts=NOW, unique_id=f"model.{n}", outcome=Outcome.FAILED, status="x" * 100) for n in range(20)]
        compaction.add([Entry(epoch, epoch, record) for record in [*records, *([Heartbeat(ts=NOW)] * 20)]])
        sizes.append(compaction.nbytes)
    heartbeat = len(codec.encode(Heartbeat(ts=NOW)))
    assert sizes[-1] == sizes[0] + 999 * heartbeat
    assert len(list(compaction.lines())) == 20 + 1000


# In a chain --------------------------------------------------------------------------------------------------------------


def long_chain(store: MemoryStore, every: int) -> list[Entry]:
    """Three attempts by the real writer, the second without its end, with a checkpoint after so many segments; every entry of it."""
    for attempt in range(3):
        writer = ChainWriter(store, RUN)
        writer.claim(started())
        for number in range(7):
            node = f"model.shop.{'abc'[number % 3]}"
            writer.stage(Kind.DATA, [codec.encode(NodeStarted(ts=NOW, unique_id=node)), codec.encode(note(str(number)))])
            writer.push()
            if number % every == every - 1:
                writer.checkpoint()
        if attempt != 1:
            writer.stage(Kind.END, [codec.encode(finished())])
            writer.push()
            writer.checkpoint(end=True)
    return ChainReader(store, RUN).read()


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_late_start_is_as_good_as_reading_from_the_beginning(every: int) -> None:
    """At every moment of the chain: the same state, from the newest checkpoint there was then, and on with what came after."""
    store = MemoryStore()
    entries = long_chain(store, every)
    last = entries[-1].seq
    for now in range(last + 1):
        then = MemoryStore()
        then.objects = {
            key: data
            for key, data in store.objects.items()
            if ("/seg/" in key and key <= RUN.segment(now)) or ("/ckpt/" in key and int(key.rpartition("/")[2][:10]) <= now)
        }
        reader = ChainReader(then, RUN)
        read = reader.open()
        read += reader.read()
        assert reader.next_seq == now + 1
        assert state(read) == state([entry for entry in entries if entry.seq <= now])
        then.objects = store.objects
        read += reader.read()
        assert state(read) == state(entries)


def test_a_late_start_of_an_ended_run_is_two_requests_and_needs_no_poll() -> None:
    store = MemoryStore()
    long_chain(store, 3)
    store.calls.clear()
    reader = ChainReader(store, RUN)
    reader.open()
    newest = reader.next_seq - 1
    assert store.calls == [("list", f"{RUN.prefix}/ckpt"), ("get", RUN.checkpoint(newest, end=True))]
    assert (reader.complete, reader.ended) == (True, True)
    assert reader.poll() is None
    assert reader.complete


def test_an_end_is_not_the_last_word_once_somebody_claims() -> None:
    """From the moment at which the claim has its checkpoint, before its fence is there."""
    store = FaultyStore()
    long_chain(store, 3)
    store.script("create", Fault.NONE, Fault.LOST_REQUEST)
    claimer = ChainWriter(store, RUN)
    with pytest.raises(Transient):
        claimer.claim(started())
    reader = ChainReader(store, RUN)
    reader.open()
    assert (reader.ended, reader.complete) == (True, False)
    claimer.claim(started())
    assert [entry.record.kind for entry in reader.read()] == ["attempt_started"]
    assert not reader.complete


def test_an_end_that_was_read_is_complete_no_more_when_something_follows() -> None:
    store = MemoryStore()
    long_chain(store, 3)
    reader = ChainReader(store, RUN)
    reader.open()
    assert reader.complete
    ChainWriter(store, RUN).claim(started())
    assert reader.poll()
    assert (reader.complete, reader.ended) == (False, False)


def test_of_two_checkpoints_of_one_segment_that_of_the_end_comes_first() -> None:
    names = ["0000000007.jsonl", "0000000007.end.jsonl", "0000000003.jsonl", "7.jsonl", "0000000009.jsonl.tmp", "00000000010.jsonl"]
    assert checkpoints_in(names) == [(3, False), (7, True), (7, False)]


def test_two_claimers_write_one_checkpoint() -> None:
    """Both found the same chain: the second one meets the bytes that it would have written."""
    store = MemoryStore()
    long_chain(store, 3)
    one, other = ChainWriter(store, RUN), ChainWriter(store, RUN)
    for writer in (one, other):
        writer._read_on()
        writer.last = writer._reader.last
    assert one.last is not None
    one.checkpoint()
    before = dict(store.objects)
    other.checkpoint()
    assert store.objects == before
    assert one._checkpoint == other._checkpoint


def test_a_checkpoint_by_another_version_is_taken_and_named() -> None:
    """It may leave out less; the fence names its hash."""
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    chain.add(Kind.DATA, Heartbeat(ts=NOW), note("a"))
    reader = ChainReader(store, RUN)
    entries = reader.read()
    assert reader.last is not None

    class Generous(Compaction):
        def _keep(self, at: int, epoch: int, record: Record) -> bool:
            return super()._keep(at, epoch, record) or True

    generous = Generous()
    generous.add(entries)
    store.objects[RUN.checkpoint(1)], digest = pack_checkpoint(reader.last, generous)
    writer = ChainWriter(store, RUN)
    _, history = writer.claim(started())
    assert writer.last is not None
    assert (writer.last.ckpt_seq, writer.last.ckpt_sha256) == (1, digest)
    assert state(history) == state(entries)
    assert verify(store, RUN).problems == []


@pytest.mark.parametrize("fault", [Fault.LOST_ACK, Fault.LOST_REQUEST, Fault.LATE, Fault.TRANSIENT, Fault.DENIED])
def test_a_claim_waits_for_its_checkpoint(fault: Fault) -> None:
    """No fence before it is there; the claim is repeated and goes on."""
    store = FaultyStore()
    long_chain(store, 100)
    fences = len(store.list(f"{RUN.prefix}/seg"))
    writer = ChainWriter(store, RUN)
    store.script("create", fault)
    if fault is Fault.LOST_ACK:
        writer.claim(started())
    else:
        with pytest.raises(Denied if fault is Fault.DENIED else Transient):
            writer.claim(started())
        assert len(store.list(f"{RUN.prefix}/seg")) == fences
        store.land()
        writer.claim(started())
    assert writer.last is not None
    assert writer.last.ckpt_seq == writer.last.seq - 1
    assert verify(store, RUN).problems == []


def test_a_checkpoint_of_another_chain_stops_the_claim() -> None:
    """Somebody put it there: nothing is built on it."""
    store = MemoryStore()
    other = MemoryStore()
    Chain(store).fence()
    chain = Chain(other)
    chain.add(Kind.FENCE, started(1, host="elsewhere"))
    writer = ChainWriter(store, RUN)
    writer._read_on()
    writer.last = writer._reader.last
    ChainWriter(other, RUN).claim(started())
    store.objects[RUN.checkpoint(0)] = other.objects[RUN.checkpoint(0)]
    with pytest.raises(CorruptLedger, match=r"it covers segment 0 with the hash .*, which is not in the chain"):
        writer.checkpoint()


def test_there_is_no_checkpoint_of_nothing() -> None:
    with pytest.raises(LedgerError, match="nothing to make a checkpoint of"):
        ChainWriter(MemoryStore(), RUN).checkpoint()


# Beginnings that have expired ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5, 8])
def test_a_chain_whose_beginning_has_expired_goes_on(count: int) -> None:
    """Late readers and claims stand on a checkpoint, with the whole history."""
    store = MemoryStore()
    entries = long_chain(store, 3)
    for seq in range(count):
        del store.objects[RUN.segment(seq)]
    writer = ChainWriter(store, RUN)
    _, history = writer.claim(started())
    assert writer.epoch == 4
    assert state(history) == state(entries)
    assert RUN.segment(0) not in store.objects
    found = verify(store, RUN)
    assert (found.problems, found.expired) == ([], count)


def test_a_beginning_that_expired_without_a_checkpoint_is_said() -> None:
    """The reader begins at what is left; a claim goes on behind the newest segment, never at slot 0."""
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    for number in range(5):
        chain.data(str(number))
    for seq in range(3):
        del store.objects[RUN.segment(seq)]
    reader = ChainReader(store, RUN)
    read = reader.open() + reader.read()
    assert (reader.expired, [entry.seq for entry in read]) == (3, [3, 4, 5])
    assert ChainReader(store, RUN).read() == [], "whoever asks for segment 0 alone sees nothing"
    writer = ChainWriter(store, RUN)
    writer.claim(started())
    assert writer.last is not None
    assert (writer.last.seq, writer.epoch) == (6, 2)
    assert RUN.segment(0) not in store.objects


def test_opening_again_after_trouble_forgets_what_was_thought_expired() -> None:
    """The first try saw no checkpoint and no segment 0; before the second one there is a checkpoint that stands for it."""
    store = FaultyStore()
    long_chain(store, 3)
    del store.objects[RUN.segment(0)]
    ckpts = {key: store.objects.pop(key) for key in list(store.objects) if "/ckpt/" in key}
    store.script("get", Fault.NONE, Fault.TRANSIENT)
    reader = ChainReader(store, RUN)
    with pytest.raises(Transient):
        reader.open()
    store.objects |= ckpts
    reader.open()
    assert (reader.expired, reader.complete) == (0, True)


# Damage ------------------------------------------------------------------------------------------------------------------


def small() -> bytes:
    """A checkpoint of a fence and an end."""
    chain = Chain(MemoryStore())
    chain.fence()
    chain.end()
    reader = ChainReader(chain.store, RUN)
    entries = reader.read()
    assert reader.last is not None
    return pack_checkpoint(reader.last, compacted(entries))[0]


def test_every_flip_and_every_truncation_is_noticed() -> None:
    """Of each byte, to each of the other 255 values in the first 200, one bit elsewhere."""
    data = small()
    for at in range(len(data)):
        for flip in range(1, 256) if at < 200 else (1, 32):
            with pytest.raises((CorruptLedger, UnsupportedLedger)):
                unpack_checkpoint("c", data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
        with pytest.raises(CorruptLedger):
            unpack_checkpoint("c", data[:at])


def test_a_checkpoint_that_is_gone_after_it_was_listed_is_damage() -> None:
    """Readers do not go back to an older one: they would tell an older story as if it were the newest."""

    class Vanishing(MemoryStore):
        def get(self, key: str) -> bytes:
            if "/ckpt/" in key:
                self.objects.pop(key, None)
            return super().get(key)

    store = Vanishing()
    Chain(store).fence()
    ChainWriter(store, RUN).claim(started())
    with pytest.raises(CorruptLedger, match="it was listed and is gone"):
        ChainReader(store, RUN).open()
