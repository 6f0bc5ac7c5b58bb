"""Deleting runs: which may go, in which order, and what is left when it stops anywhere or an attempt comes in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from ledger_watcher.errors import CorruptLedger, LedgerWatcherError, Transient
from ledger_watcher.ledger import ChainReader, LedgerWriter, RunKey, WriterOptions, list_runs
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.ledger.retention import SILENT, Expiry, delete, look
from ledger_watcher.ledger.verify import verify
from ledger_watcher.records import utcnow
from tests.core.chains import NOW, RUN, Chain
from tests.core.ledgers import began, ended, ends, more, plan, starts
from tests.core.stores import MemoryStore

DAY = timedelta(days=1)
FAST = WriterOptions(commit_interval=0.0, checkpoint_segments=2)


def write(store: MemoryStore, run: RunKey = RUN, *, attempts: int = 2) -> None:
    """Ended attempts with artifacts, by the real writer."""
    for attempt in range(attempts):
        writer = LedgerWriter(store, run, options=FAST)
        writer.open(began(attempt))
        for name in "abc":
            writer.append(plan(name))
            writer.append(starts(name))
            writer.append(ends(name))
        writer.put_file("run_results.json", b'{"results": [%d]}' % attempt)
        writer.close(ended(attempt + 3))


def of(store: MemoryStore, run: RunKey = RUN) -> set[str]:
    return {key for key in store.objects if key.startswith(f"{run.prefix}/")}


def later(days: float = 100) -> datetime:
    return utcnow() + timedelta(days=days)


def due(store: MemoryStore, run: RunKey = RUN, **more: bool) -> Expiry:
    return look(store, run, later(), 90 * DAY, **more)


def test_a_run_is_deleted_with_everything_in_it_and_no_other_run_is_touched() -> None:
    store = MemoryStore()
    other = RunKey(RUN.dag_id, f"{RUN.run_id}1")
    write(store)
    write(store, other)
    untouched = of(store, other)
    expiry = due(store)
    gone: list[str] = []
    assert expiry.kept is None
    assert delete(store, expiry, gone.append)
    assert set(gone) == set(expiry.keys)
    assert set(store.objects) == untouched
    assert list(list_runs(store)) == [other]


def test_what_is_looked_at_costs_four_requests() -> None:
    store = MemoryStore()
    write(store)
    store.calls.clear()
    due(store)
    assert [operation for operation, _ in store.calls] == ["list", "list", "get", "list"]
    store.calls.clear()
    look(store, RUN, utcnow(), 90 * DAY)
    assert [operation for operation, _ in store.calls] == ["list", "list", "get"]


def chain(store: MemoryStore, *kinds: str) -> Chain:
    made = Chain(store)
    for kind in kinds:
        getattr(made, kind)()
    return made


@pytest.mark.parametrize("end", [True, False])
def test_the_age_is_that_of_the_newest_segment(*, end: bool) -> None:
    store = MemoryStore()
    chain(store, "fence", "data", *(["end"] if end else []))
    assert look(store, RUN, NOW + 2 * DAY, 2 * DAY).kept is None
    young = look(store, RUN, NOW + 2 * DAY - timedelta(microseconds=1), 2 * DAY)
    assert (young.kept, young.young) == ("young", True)
    ahead = look(store, RUN, NOW - DAY, timedelta(0))
    assert ahead.young, "of a clock that is ahead"


def test_a_run_without_an_end_is_kept_for_a_day_whatever_is_asked_for() -> None:
    store = MemoryStore()
    made = chain(store, "fence", "data")
    found = look(store, RUN, NOW + SILENT - timedelta(seconds=1), timedelta(0))
    assert found.kept is not None
    assert "may be live" in found.kept
    assert not found.young
    assert look(store, RUN, NOW + SILENT, timedelta(0)).kept is None
    made.end()
    assert look(store, RUN, NOW + timedelta(seconds=1), timedelta(0)).kept is None


def test_a_run_that_is_being_claimed_is_kept() -> None:
    """The checkpoint that comes before a fence is all that is to be seen of an attempt then."""
    store = MemoryStore()
    write(store, attempts=1)
    assert due(store).kept is None
    claim = ChainWriter(store, RUN)
    store.calls.clear()
    real, store.create = store.create, _refusing_segments(store)  # type: ignore[method-assign, assignment]
    with pytest.raises(Transient):
        claim.claim(began(50))
    found = due(store)
    assert found.kept is not None
    assert "claim" in found.kept
    assert due(store, claimed=True).kept is None
    store.create = real  # type: ignore[method-assign]
    claim.claim(began(50))
    more(claim, starts("a"))
    assert due(store).kept is None, "its writer is silent for a hundred days"


def _refusing_segments(store: MemoryStore) -> Callable[[str, bytes], None]:
    real = store.create

    def create(key: str, data: bytes) -> None:
        if "/seg/" in key:
            raise Transient("create", key)
        real(key, data)

    return create


def test_a_run_whose_age_cannot_be_read_is_an_error() -> None:
    store = MemoryStore()
    chain(store, "fence", "data")
    store.objects[RUN.segment(1)] = b"?"
    with pytest.raises(CorruptLedger):
        due(store)
    del store.objects[RUN.segment(0)], store.objects[RUN.segment(1)]
    assert due(store).kept == "it has no segment"


def test_what_is_kept_cannot_be_deleted() -> None:
    store = MemoryStore()
    chain(store, "fence")
    with pytest.raises(ValueError, match="is kept"):
        delete(store, look(store, RUN, NOW, DAY), str)
    assert store.count("delete") == 0


def stops(store: MemoryStore, after: int) -> None:
    """The storage goes away after so many deletions."""
    real, done = store.delete, iter(range(after))

    def failing(key: str) -> None:
        if next(done, None) is None:
            raise Transient("delete", key)
        real(key)

    store.delete = failing  # type: ignore[method-assign]


def test_interrupted_anywhere_it_is_sound_or_named_and_goes_on_the_next_time() -> None:
    """Until the checkpoints go, what is left is a chain whose beginning has expired; after that, a problem says that it is gone."""
    whole = MemoryStore()
    write(whole)
    total, segments = len(due(whole).keys), len(due(whole).segments)
    assert total > 10
    soundness = []
    for after in range(total):
        store = MemoryStore()
        store.objects = dict(whole.objects)
        real = store.delete
        stops(store, after)
        with pytest.raises(Transient):
            delete(store, due(store), str)
        store.delete = real  # type: ignore[method-assign]
        assert list(list_runs(store)) == [RUN], "it is found again"
        found = verify(store, RUN, at_once=1)
        soundness.append(not found.problems)
        assert found.last is not None or found.problems
        if not found.problems and after:
            assert found.expired == min(after, segments - 1)
        again = due(store)
        assert again.kept is None
        assert delete(store, again, str)
        assert store.objects == {}
    assert soundness[:segments] == [True] * segments
    assert not all(soundness)


def test_an_attempt_that_claims_the_run_before_any_request_keeps_what_it_needs() -> None:
    """After each number of requests of the deletion another attempt comes: its records can be read, and the run is not deleted under it."""
    whole = MemoryStore()
    write(whole)
    expiry = due(whole)
    requests = _requests(whole, expiry)
    assert requests > len(expiry.keys)
    for at in range(requests):
        store = MemoryStore()
        store.objects = dict(whole.objects)
        claimed = _claim_at(store, at)
        done = delete(store, expiry, str)
        last = claimed[0].last
        assert last is not None
        assert RUN.segment(last.seq) in store.objects
        reader = ChainReader(store, RUN)
        entries = [*reader.open(), *reader.read()]
        assert reader.last == last, at
        assert any(entry.epoch == last.epoch for entry in entries)
        if not done:
            assert of(store)
        if not verify(store, RUN, at_once=1).problems:
            continue
        # An artifact that an older record names may be gone; the chain itself is what it says.
        assert all("although a record names it" in problem.what for problem in verify(store, RUN, at_once=1).problems), at


def _requests(whole: MemoryStore, expiry: Expiry) -> int:
    store = MemoryStore()
    store.objects = dict(whole.objects)
    assert delete(store, expiry, str)
    return len(store.calls)


def _claim_at(store: MemoryStore, at: int) -> list[ChainWriter]:
    """Another attempt claims the run just before request ``at`` of the deletion."""
    claimed: list[ChainWriter] = []
    real_delete, real_list, left = store.delete, store.list, iter(range(at))

    def meanwhile() -> None:
        if next(left, None) is None and not claimed:
            store.delete, store.list = real_delete, real_list  # type: ignore[method-assign]
            chain = ChainWriter(store, RUN)
            claimed.append(chain)
            chain.claim(began(90))

    def deleting(key: str) -> None:
        meanwhile()
        real_delete(key)

    def listing(prefix: str) -> list[str]:
        meanwhile()
        return real_list(prefix)

    store.delete, store.list = deleting, listing  # type: ignore[method-assign]
    return claimed


def test_only_what_was_listed_is_deleted() -> None:
    store = MemoryStore()
    write(store)
    expiry = due(store)
    stranger, new = f"{RUN.prefix}/seg/notes.txt", f"{RUN.prefix}/files/new.json"
    store.objects[stranger] = store.objects[new] = b"mine"
    assert delete(store, expiry, str)
    assert set(store.objects) == {stranger, new}


def test_errors_are_passed_on() -> None:
    store = MemoryStore()
    write(store)
    expiry = due(store)
    stops(store, 3)
    with pytest.raises(LedgerWatcherError):
        delete(store, expiry, str)
