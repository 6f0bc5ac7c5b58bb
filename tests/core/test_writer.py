"""The writer's thread: nothing is lost silently, nothing blocks dbt.

No test waits for time to pass: a store says when a request came in and is told when to let it go, and intervals are either an hour
(so that only what is tested can end the waiting) or nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ledger_watcher import codec
from ledger_watcher.errors import Ambiguous, ConfigError, CorruptLedger, Denied, Fenced, Transient, WriterStopped
from ledger_watcher.ledger import ChainReader, Kind, LedgerWriter, RunKey, WriterOptions
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.ledger.segments import unpack
from ledger_watcher.ledger.verify import verify
from ledger_watcher.records import Artifact, AttemptFinished, AttemptStarted, Heartbeat, HookFinished, Outcome, Record, utcnow
from ledger_watcher.storage import LocalStore, Store
from tests.core.chains import NOW, RUN, Chain, finished, note, notes, raw_chain, started
from tests.core.stores import PATIENCE, Fault, FaultyStore, MemoryStore, OutageStore, OverwritingStore

HOUR = 3600.0
PATIENT = WriterOptions(commit_interval=HOUR, heartbeat=HOUR, retry_first=0.001, retry_longest=0.001)
"""Commits only when a bound of bytes is reached, or at the end."""
EAGER = WriterOptions(commit_interval=0.0, heartbeat=HOUR, retry_first=0.001, retry_longest=0.001)
"""Commits whatever is there at once."""


@pytest.fixture
def store() -> OutageStore:
    return OutageStore()


@pytest.fixture
def opened(store: OutageStore) -> Iterator[list[LedgerWriter]]:
    """Writers that a test may leave open; their threads are ended with it."""
    writers: list[LedgerWriter] = []
    yield writers
    store.away = None
    store.go()
    for writer in writers:
        if writer._thread.is_alive():
            writer.close(finished())


def records(store: Store) -> list[Record]:
    """Every record of the chain, in order."""
    return [entry.record for entry in ChainReader(store, RUN).read()]


def written(store: Store) -> list[str]:
    """Every note of the chain, in order."""
    return notes(ChainReader(store, RUN).read())


def kinds(store: MemoryStore) -> list[object]:
    """The types of the segments."""
    return [header["type"] for header, _ in raw_chain(store)]


def texts(count: int) -> list[str]:
    """Distinct notes."""
    return [f"note {number}" for number in range(count)]


def append_all(writer: LedgerWriter, *what: str) -> None:
    """Hand over notes."""
    for text in what:
        writer.append(note(text))


# Opening -----------------------------------------------------------------------------------------------------------------


def test_a_run_from_open_to_close(store: OutageStore) -> None:
    """The fence with the attempt, the records, the end: in that order and complete."""
    writer = LedgerWriter(store, RUN, options=PATIENT)
    assert writer.open(started(host="here")) == []
    assert (writer.epoch, writer.run, writer.error) == (1, RUN, None)
    append_all(writer, "a", "b")
    writer.close(finished())
    assert records(store) == [started(1, host="here"), note("a"), note("b"), finished()]
    assert kinds(store) == ["fence", "data", "end"]


def test_a_second_attempt_knows_the_first(store: OutageStore) -> None:
    """What open() returns is what the chain held: the records to resume from."""
    first = LedgerWriter(store, RUN, options=PATIENT)
    first.open(started())
    append_all(first, "a")
    first.close(finished())
    second = LedgerWriter(store, RUN, options=PATIENT)
    history = second.open(started())
    second.close(finished())
    assert [entry.record for entry in history] == [started(1), note("a"), finished()]
    assert second.epoch == 2


def test_denied_at_open_is_said_at_once() -> None:
    """One request and its answer: wrong permissions are for a person, not for another try (the bound here is an hour)."""
    store = FaultyStore()
    store.script("list", Fault.DENIED)
    with pytest.raises(Denied):
        LedgerWriter(store, RUN, options=WriterOptions(open_timeout=HOUR, retry_first=HOUR)).open(started())
    assert store.calls == [("list", f"{RUN.prefix}/ckpt")]


def test_a_writer_that_may_only_read_is_told_at_open() -> None:
    """The claim is a write: lacking permission for it shows before dbt starts."""
    store = FaultyStore()
    store.script("create", Fault.DENIED)
    with pytest.raises(Denied):
        LedgerWriter(store, RUN, options=WriterOptions(open_timeout=HOUR, retry_first=HOUR)).open(started())
    assert store.count("create") == 1


def test_a_storage_that_cannot_keep_a_ledger_is_refused_at_open() -> None:
    """Before anything else is written to it."""
    with pytest.raises(ConfigError, match="conditional writes"):
        LedgerWriter(OverwritingStore(), RUN, options=PATIENT).open(started())


def test_a_corrupt_ledger_is_refused_at_open(store: OutageStore) -> None:
    """Nothing is built on it, and the object is named."""
    store.objects[RUN.segment(0)] = b"hello"
    with pytest.raises(CorruptLedger, match=re.escape(RUN.segment(0))):
        LedgerWriter(store, RUN, options=PATIENT).open(started())


def test_open_tries_again_while_the_storage_is_away() -> None:
    """A moment's trouble at the start costs a moment, whatever it is that fails; the attempt is still the first."""
    store = FaultyStore()
    store.script("list", Fault.TRANSIENT, Fault.NONE, Fault.TRANSIENT)
    store.script("get", Fault.TRANSIENT, Fault.TRANSIENT, Fault.NONE, Fault.TRANSIENT)
    store.script("create", Fault.TRANSIENT, Fault.LOST_REQUEST, Fault.LOST_ACK)
    writer = LedgerWriter(store, RUN, options=PATIENT)
    writer.open(started())
    assert (writer.epoch, store.script_left) == (1, 0)
    writer.close(finished())
    assert kinds(store) == ["fence", "end"]


def test_open_gives_up_after_its_bound() -> None:
    """The storage's own error says what was tried; nothing runs on."""
    store = FaultyStore(chance=lambda _operation: Fault.TRANSIENT)
    options = WriterOptions(open_timeout=0.01, retry_first=0.001, retry_longest=0.001)
    with pytest.raises(Transient, match="list "):
        LedgerWriter(store, RUN, options=options).open(started())
    assert store.count("list") > 1


# Committing --------------------------------------------------------------------------------------------------------------


def test_many_records_are_few_segments(store: OutageStore, opened: list[LedgerWriter]) -> None:
    """Group commit: what comes while a commit is under way goes into the next one, all together."""
    writer = LedgerWriter(store, RUN, options=EAGER)
    opened.append(writer)
    writer.open(started())
    store.hold()
    append_all(writer, "first")
    store.wait_for(lambda: ("begin", RUN.segment(1)) in store.calls)
    append_all(writer, *texts(1000))
    store.go()
    writer.close(finished())
    assert [header["n"] for header, _ in raw_chain(store)] == [1, 1, 1000, 1]
    assert written(store) == ["first", *texts(1000)]


def test_a_record_after_a_pause_is_committed_at_once(store: OutageStore, opened: list[LedgerWriter]) -> None:
    """The leading edge: the interval (an hour here) bounds how often, not how late; the first record does not wait for it."""
    writer = LedgerWriter(store, RUN, options=PATIENT)
    opened.append(writer)
    writer.open(started())
    writer._last_commit -= 2 * HOUR  # the last commit was long ago
    append_all(writer, "a")
    store.wait_for(lambda: RUN.segment(1) in store.objects)
    assert written(store) == ["a"]


def test_records_within_the_interval_wait_for_its_bytes_or_its_end(store: OutageStore, opened: list[LedgerWriter]) -> None:
    """Right after a commit, records gather until there are enough of them; the rest comes with the end."""
    what = texts(200)
    size = sum(len(codec.encode(note(text))) + 1 for text in what)
    writer = LedgerWriter(store, RUN, options=WriterOptions(commit_interval=HOUR, heartbeat=HOUR, commit_bytes=size))
    naps = Naps(writer, anywhere=True)
    opened.append(writer)
    writer.open(started())
    assert naps.begun.acquire(timeout=PATIENCE)
    append_all(writer, what[0])
    assert naps.begun.acquire(timeout=PATIENCE), "it looks at the first record, and sleeps again"
    append_all(writer, *what[1:])
    store.wait_for(lambda: RUN.segment(1) in store.objects)
    append_all(writer, "late")
    writer.close(finished())
    assert [header["n"] for header, _ in raw_chain(store)] == [1, 200, 1, 1], "no commit before the bound was reached, one when it was"
    assert written(store) == [*what, "late"]


def test_segments_stay_within_their_bound(store: OutageStore) -> None:
    """However much waits, a segment is one request of bounded size; a record larger than that still gets one of its own."""
    options = WriterOptions(commit_interval=HOUR, heartbeat=HOUR, segment_bytes=2000)
    writer = LedgerWriter(store, RUN, options=options)
    writer.open(started())
    append_all(writer, *texts(100), "x" * 5000, *texts(100))
    writer.close(finished())
    assert written(store) == [*texts(100), "x" * 5000, *texts(100)]
    sizes = [(header["n"], len(store.objects[RUN.segment(seq)])) for seq, (header, _) in enumerate(raw_chain(store))]
    assert [size for n, size in sizes if n != 1 and size > 2000 + 600] == []
    assert len(sizes) > 10


def test_an_idle_writer_shows_that_it_lives(store: OutageStore, opened: list[LedgerWriter]) -> None:
    """Heartbeats, each a segment, and records still go through between them."""
    writer = LedgerWriter(store, RUN, options=WriterOptions(commit_interval=0.0, heartbeat=0.01))
    opened.append(writer)
    writer.open(started())
    store.wait_for(lambda: len(store.objects) >= 4)
    append_all(writer, "a")
    writer.close(finished())
    said = records(store)
    assert sum(isinstance(record, Heartbeat) for record in said) >= 3
    assert written(store) == ["a"]
    assert said[-1] == finished()


def test_a_busy_writer_needs_no_heartbeat(store: OutageStore) -> None:
    """Records are signs of life themselves."""
    writer = LedgerWriter(store, RUN, options=EAGER)
    writer.open(started())
    append_all(writer, *texts(100))
    writer.close(finished())
    assert [record for record in records(store) if isinstance(record, Heartbeat)] == []


def test_the_hash_of_the_end_is_that_of_the_last_segment(store: OutageStore) -> None:
    """What close() returns names the whole chain: it can be kept elsewhere and compared."""
    writer = LedgerWriter(store, RUN, options=PATIENT)
    writer.open(started())
    append_all(writer, "a")
    digest = writer.close(finished())
    header, [record] = unpack("last", store.objects[RUN.segment(2)])
    assert (header.kind, header.sha256, record) == (Kind.END, digest, finished())


def test_a_closed_writer_takes_nothing_more(store: OutageStore) -> None:
    """The end segment is the last of its epoch; closing again says the same."""
    writer = LedgerWriter(store, RUN, options=EAGER)
    writer.open(started())
    digest = writer.close(finished())
    append_all(writer, "late")
    assert writer.close(finished()) == digest
    assert kinds(store) == ["fence", "end"]


def test_a_record_that_comes_while_the_writer_ends_is_not_lost(store: OutageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread found the queue empty; before it writes the end, a record comes: it stands before the end."""
    writer = LedgerWriter(store, RUN, options=PATIENT)
    next_lines, late = writer._next_lines, ["late"]

    def hooked() -> list[bytes]:
        lines = next_lines()
        if not lines and late:
            append_all(writer, late.pop())
        return lines

    monkeypatch.setattr(writer, "_next_lines", hooked)
    writer.open(started())
    writer.close(finished())
    assert written(store) == ["late"]
    assert kinds(store) == ["fence", "data", "end"]


@pytest.mark.parametrize("where", ["memory", "local"])
def test_twenty_thousand_records_from_many_threads_all_arrive(where: str, tmp_path: Path) -> None:
    """dbt's threads append at the same time: each thread's records arrive complete and in its order, in few segments."""
    store = MemoryStore() if where == "memory" else LocalStore(str(tmp_path))
    writer = LedgerWriter(store, RUN, options=WriterOptions(commit_interval=0.01))
    writer.open(started())
    threads = [threading.Thread(target=append_all, args=(writer, *(f"{name} {number:05d}" for number in range(5000)))) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close(finished())
    arrived = written(store)
    assert len(arrived) == 20_000
    for name in "abcd":
        assert [text for text in arrived if text.startswith(name)] == [f"{name} {number:05d}" for number in range(5000)]
    assert len(store.list(f"{RUN.prefix}/seg")) < 2000


def test_what_json_cannot_hold_does_not_stop_the_writer(store: OutageStore) -> None:
    """append() never raises: a message that is not Unicode is written escaped."""
    writer = LedgerWriter(store, RUN, options=PATIENT)
    writer.open(started())
    append_all(writer, "caf\udce9", "fine")
    writer.close(finished())
    assert written(store) == ["caf\\udce9", "fine"]


# The storage is away -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Transient, Denied, Ambiguous, ConfigError])
def test_an_outage_in_mid_run_loses_nothing(
    store: OutageStore, opened: list[LedgerWriter], error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """Records wait while the storage is away (expired credentials, a bucket that is gone) and all arrive in order when it is back."""
    writer = LedgerWriter(store, RUN, options=EAGER)
    opened.append(writer)
    writer.open(started())
    append_all(writer, "before")
    store.wait_for(lambda: RUN.segment(1) in store.objects)
    store.away = error
    append_all(writer, *texts(500))
    store.wait_for(lambda: store.count("refused") >= 3)
    append_all(writer, "after")
    assert writer.error is None
    store.away = None
    store.wait_for(lambda: RUN.segment(2) in store.objects)
    writer.close(finished())
    assert written(store) == ["before", *texts(500), "after"]
    said = [message for message in caplog.messages if "ledger" in message.lower()]
    assert [message.split(",")[0].split(":")[0] for message in said] == [
        "The ledger cannot be written at the moment",
        "The ledger is written again",
    ], "one warning when it goes, one when it is back, however many tries lie between"


def test_append_does_not_wait_for_a_request_that_hangs(store: OutageStore, opened: list[LedgerWriter]) -> None:
    """While a create hangs, thousands of records are taken: this thread would never reach the line that lets the create go."""
    writer = LedgerWriter(store, RUN, options=EAGER)
    opened.append(writer)
    writer.open(started())
    store.hold()
    append_all(writer, "first")
    store.wait_for(lambda: ("begin", RUN.segment(1)) in store.calls)
    append_all(writer, *texts(5000))
    assert len(store.objects) == 1
    store.go()
    writer.close(finished())
    assert written(store) == ["first", *texts(5000)]


class Naps(threading.Condition):
    """The writer's condition; says when its thread goes to sleep, each time: anywhere, or in a pause between two tries only."""

    def __init__(self, writer: LedgerWriter, *, anywhere: bool = False) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)
        self._anywhere = anywhere
        self._pausing = False
        self._pause = writer._pause
        writer._wake, writer._pause = self, self._paused  # type: ignore[method-assign]

    def _paused(self, delay: float) -> None:
        self._pausing = True
        self._pause(delay)
        self._pausing = False

    def wait(self, timeout: float | None = None) -> bool:
        if self._pausing or self._anywhere:
            self.begun.release()
        return super().wait(timeout)


def test_records_that_come_during_an_outage_do_not_hasten_the_next_try(store: OutageStore, opened: list[LedgerWriter]) -> None:
    """The pause between two tries (an hour here) is what spares a storage in trouble: a full commit of new records does not end it."""
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, commit_bytes=1, retry_first=HOUR, retry_longest=HOUR)
    writer = LedgerWriter(store, RUN, options=options)
    naps = Naps(writer)
    opened.append(writer)
    writer.open(started())
    store.away = Transient
    append_all(writer, "first")
    assert naps.begun.acquire(timeout=PATIENCE)
    append_all(writer, "second")  # reaches the bound of a commit and so wakes the thread
    assert naps.begun.acquire(timeout=PATIENCE), "it woke up and never slept again"
    assert store.count("refused") == 1


def test_closing_ends_a_pause(store: OutageStore) -> None:
    """A writer that waits for its next try (in an hour) tries at once when it is to close."""
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, retry_first=HOUR, retry_longest=HOUR, drain_timeout=HOUR)
    writer = LedgerWriter(store, RUN, options=options)
    naps = Naps(writer)
    writer.open(started())
    store.away = Transient
    append_all(writer, "a")
    assert naps.begun.acquire(timeout=PATIENCE)
    store.away = None
    writer.close(finished())
    assert written(store) == ["a"]


def test_a_drain_within_its_bound_succeeds(store: OutageStore) -> None:
    """The storage comes back while close() waits: nothing is missing, and close() says so by returning."""
    writer = LedgerWriter(store, RUN, options=EAGER)
    writer.open(started())
    store.away = Transient
    append_all(writer, *texts(10))
    closing = threading.Thread(target=writer.close, args=(finished(),))
    closing.start()
    store.wait_for(lambda: store.count("refused") >= 3)
    store.away = None
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert written(store) == texts(10)
    assert kinds(store)[-1] == "end"


@pytest.mark.parametrize("error", [Transient, Denied, Ambiguous, ConfigError])
def test_a_drain_gives_up_at_its_bound_and_says_how_many_records_are_lost(store: OutageStore, error: type[Exception]) -> None:
    """The storage stays away: 41 records and the end of the attempt are not in the ledger, and the message says so, and why."""
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, retry_first=0.001, retry_longest=HOUR, drain_timeout=0.02)
    writer = LedgerWriter(store, RUN, options=options)
    writer.open(started())
    append_all(writer, "kept")
    store.wait_for(lambda: RUN.segment(1) in store.objects)
    store.away = error
    append_all(writer, "first")
    store.wait_for(lambda: store.count("refused") >= 1)
    append_all(writer, *texts(40))
    with pytest.raises(WriterStopped, match=r"^42 records of shop / .* are not in the ledger test://base.* in time \(.*away") as caught:
        writer.close(finished())
    assert writer.error is caught.value
    assert written(store) == ["kept"]
    first, *lines = saved(caught.value)
    assert (first["kind"], first["root"], first["run"], first["epoch"]) == ("unwritten", store.root, RUN.prefix, 1)
    assert lines == [json.loads(codec.encode(record)) for record in (*map(note, ["first", *texts(40)]), finished())]


def saved(error: WriterStopped) -> list[dict[str, object]]:
    """The lines of the file that the message names, which only its owner may read; the file is gone then."""
    [path] = map(Path, re.findall(r"They are in the local file (\S+\.jsonl)\.", str(error)))
    assert path.stat().st_mode & 0o777 == 0o600
    found = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    path.unlink()
    return found


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files go that a writer saves."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_finish_within_bounds_what_is_under_way(store: OutageStore) -> None:
    """A writer that closes with an hour to drain is told to hurry from another thread; a later bound does not give it more time."""
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, retry_first=HOUR, retry_longest=HOUR, drain_timeout=HOUR)
    writer = LedgerWriter(store, RUN, options=options)
    naps = Naps(writer)
    writer.open(started())
    store.away = Transient
    append_all(writer, "a")
    assert naps.begun.acquire(timeout=PATIENCE)
    closing = Closing(writer)
    writer.finish_within(0.0)
    writer.finish_within(HOUR)
    with pytest.raises(WriterStopped, match=r"^2 records of"):
        closing.result()


def test_a_file_that_is_being_stored_is_bounded_by_the_end_too(store: OutageStore) -> None:
    """An upload that would be tried for an hour gives up when its writer has to be done."""
    options = WriterOptions(commit_interval=HOUR, heartbeat=HOUR, retry_first=0.001, retry_longest=0.001, drain_timeout=HOUR)
    writer = LedgerWriter(store, RUN, options=options)
    writer.open(started())
    store.away = Transient
    writer.finish_within(0.0)
    with pytest.raises(Transient):
        writer.put_file("sources.json", b"[]")
    store.away = None
    writer.close(finished())
    assert kinds(store) == ["fence", "end"]


def test_what_cannot_be_saved_either_is_said(store: OutageStore, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No local folder to write to: the message does not name a file that is not there."""
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "gone"))
    writer = LedgerWriter(store, RUN, options=WriterOptions(heartbeat=HOUR, drain_timeout=0.0))
    writer.open(started())
    store.away = Transient
    with pytest.raises(WriterStopped, match=r"could not be saved to .*/gone/.* either: \[Errno 2\]"):
        writer.close(finished())


def test_log_records_beyond_the_bounds_are_dropped_and_the_end_says_so(store: OutageStore, opened: list[LedgerWriter]) -> None:
    """While the storage is away, memory and file fill up: dbt's lines are given up, everything else is kept, in order."""
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, memory_bytes=2000, disk_bytes=2000, retry_first=0.001, retry_longest=0.001)
    writer = LedgerWriter(store, RUN, options=options)
    opened.append(writer)
    writer.open(started())
    store.away = Transient
    append_all(writer, "first")
    store.wait_for(lambda: store.count("refused") >= 1)
    append_all(writer, *texts(1000))
    hooks = [HookFinished(ts=NOW, unique_id=f"operation.{number}", outcome=Outcome.SUCCESS, status="OK") for number in range(50)]
    for hook in hooks:
        writer.append(hook)
    dropped = writer._backlog.dropped
    assert 0 < dropped < 1000
    store.away = None
    writer.close(replace(finished(), incomplete="one more thing"))
    *said, end = records(store)
    assert written(store) == ["first", *texts(1000 - dropped)], "those that came first were kept"
    assert [record for record in said if isinstance(record, HookFinished)] == hooks
    assert end == replace(finished(), incomplete=f"one more thing; {dropped} log records were dropped while the storage was away")


def test_a_checkpoint_comes_after_so_many_segments_and_the_next_segment_names_it(store: OutageStore) -> None:
    """And one behind the end, which is the last."""
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, commit_bytes=1, segment_bytes=1, checkpoint_segments=4)
    writer = LedgerWriter(store, RUN, options=options)
    writer.open(started())
    for number in range(10):
        writer.append(HookFinished(ts=NOW, unique_id=f"operation.{number}", outcome=Outcome.SUCCESS, status="OK"))
    writer.close(finished())
    assert store.list(f"{RUN.prefix}/ckpt") == ["0000000004.jsonl", "0000000010.jsonl", "0000000011.end.jsonl"]
    assert [header.get("ckpt_seq") for header, _ in raw_chain(store)] == [None] * 5 + [4] + [None] * 5 + [10]
    assert verify(store, RUN).problems == []


def test_checkpoints_that_add_little_are_rarer(store: OutageStore) -> None:
    """One record that is large, then many small ones: up to eight times as many segments."""
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, commit_bytes=1, segment_bytes=1, checkpoint_segments=4)
    writer = LedgerWriter(store, RUN, options=options)
    writer.open(started())
    append_all(writer, "x" * 100_000, *texts(40))
    writer.close(finished())
    assert store.list(f"{RUN.prefix}/ckpt") == ["0000000004.jsonl", "0000000036.jsonl", "0000000042.end.jsonl"]


@pytest.mark.parametrize("error", [Transient, Denied, Ambiguous, CorruptLedger])
def test_a_checkpoint_that_cannot_be_written_costs_a_warning(
    store: OutageStore, error: type[Exception], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain does without: all records are there, and readers begin at its first segment."""
    create = store.create
    refused: list[str] = []

    def refuse(key: str, data: bytes) -> None:
        if "/ckpt/" in key:
            refused.append(key)
            raise error("create", key)
        create(key, data)

    monkeypatch.setattr(store, "create", refuse)
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, commit_bytes=1, segment_bytes=1, checkpoint_segments=4)
    writer = LedgerWriter(store, RUN, options=options)
    writer.open(started())
    append_all(writer, *texts(20))
    writer.close(finished())
    assert written(store) == texts(20)
    assert sum("A checkpoint of the ledger was not written" in message for message in caplog.messages) == len(refused) > 2
    assert notes(ChainReader(store, RUN).open()) == []
    assert all("ckpt_seq" not in header for header, _ in raw_chain(store))


# A takeover --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "pid", "waits"),
    [("elsewhere", os.getpid(), True), (None, os.getpid(), True), (None, 2**22 + 1, False)],
    ids=["another host", "here, alive", "here, dead"],
)
def test_a_takeover_waits_for_an_attempt_that_may_be_alive(store: OutageStore, host: str | None, pid: int, *, waits: bool) -> None:
    """Another host's may be; of this host's processes one knows."""
    other = ChainWriter(store, RUN)
    other.claim(replace(started(host=host or socket.gethostname()), pid=pid))
    writer = LedgerWriter(store, RUN, options=WriterOptions(heartbeat=HOUR, takeover_grace=HOUR))
    writer.open(started())
    assert 0.0 <= writer.takeover_wait <= HOUR
    assert (writer.takeover_wait > 0) == waits
    writer.close(finished())
    after_an_end = LedgerWriter(store, RUN, options=WriterOptions(heartbeat=HOUR, takeover_grace=HOUR))
    after_an_end.open(started())
    assert after_an_end.takeover_wait == 0
    after_an_end.close(finished())


def test_a_takeover_of_an_attempt_that_is_long_silent_does_not_wait(store: OutageStore) -> None:
    """Its newest segment is older than the grace."""
    chain = Chain(store)
    chain.fence()
    writer = LedgerWriter(store, RUN, options=WriterOptions(heartbeat=HOUR))
    writer.open(started())
    silent = (utcnow() - NOW).total_seconds()
    assert (writer.takeover_wait == 0) == (silent > WriterOptions().takeover_grace)
    writer.close(finished())


def test_the_end_alone_may_be_what_is_lost(store: OutageStore) -> None:
    """Everything but the end is there: the message counts one."""
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, retry_first=0.001, retry_longest=0.001, drain_timeout=0.01)
    writer = LedgerWriter(store, RUN, options=options)
    writer.open(started())
    append_all(writer, "a")
    store.wait_for(lambda: RUN.segment(1) in store.objects)
    store.away = Transient
    with pytest.raises(WriterStopped, match=r"^1 records of"):
        writer.close(finished())
    assert (kinds(store), written(store)) == (["fence", "data"], ["a"])


def test_a_drain_of_a_storage_that_is_too_slow_is_bounded_too(store: OutageStore) -> None:
    """Each request succeeds, but there is no time left for all of them: it stops, and counts what is missing."""
    options = WriterOptions(commit_interval=0.0, heartbeat=HOUR, segment_bytes=1, drain_timeout=0.0)
    writer = LedgerWriter(store, RUN, options=options)
    writer.open(started())
    store.hold()
    append_all(writer, "first", *texts(9))
    store.wait_for(lambda: ("begin", RUN.segment(1)) in store.calls)
    closing = Closing(writer)
    store.go()
    with pytest.raises(WriterStopped, match=r"^10 records of .* in time \(it is too slow\)"):
        closing.result()
    assert written(store) == ["first"]


def test_a_slow_last_commit_still_gets_its_end(store: OutageStore) -> None:
    """When all records are there, the end is tried once although the time is up."""
    writer = LedgerWriter(store, RUN, options=WriterOptions(commit_interval=0.0, heartbeat=HOUR, drain_timeout=0.0))
    writer.open(started())
    store.hold()
    append_all(writer, "first")
    store.wait_for(lambda: ("begin", RUN.segment(1)) in store.calls)
    closing = Closing(writer)
    store.go()
    closing.result()
    assert kinds(store) == ["fence", "data", "end"]


class Closing:
    """close() in another thread, begun for certain when this is there."""

    def __init__(self, writer: LedgerWriter) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._close, args=(writer,))
        self._thread.start()
        while True:
            with writer._wake:
                if writer._give_up_at is not None:
                    return

    def _close(self, writer: LedgerWriter) -> None:
        try:
            writer.close(finished())
        except Exception as error:  # noqa: BLE001 - raised again in result()
            self._error = error

    def result(self) -> None:
        """Wait for it; what it raised is raised here."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error


def test_a_bug_in_the_thread_is_reported_and_not_swallowed(store: OutageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody thought of ends the writer; close() tells, with the error, and asks for a report."""
    writer = LedgerWriter(store, RUN, options=EAGER)
    writer.open(started())
    monkeypatch.setattr(store, "create", lambda _key, _data: 1 / 0)
    append_all(writer, "a")
    with pytest.raises(WriterStopped, match=r"ZeroDivisionError.*Please report it"):
        writer.close(finished())


# Fenced ------------------------------------------------------------------------------------------------------------------


def test_a_fenced_writer_says_so_once_and_stops(store: OutageStore) -> None:
    """Another attempt took the run over: on_fenced is called once, with who it was, and nothing of this writer is written any more."""
    fenced: list[Fenced] = []
    told = threading.Event()

    def on_fenced(error: Fenced) -> None:
        fenced.append(error)
        told.set()

    zombie = LedgerWriter(store, RUN, options=EAGER, on_fenced=on_fenced)
    zombie.open(started(host="old"))
    second = LedgerWriter(store, RUN, options=PATIENT)
    second.open(started(host="new"))
    append_all(zombie, "zombie")
    assert told.wait(PATIENCE)
    append_all(zombie, *texts(10))
    with pytest.raises(Fenced, match=r"attempt 2 \(host new") as caught:
        zombie.close(finished())
    with pytest.raises(Fenced):
        zombie.close(finished())
    assert fenced == [caught.value] == [zombie.error]
    assert (len(zombie._backlog), zombie._backlog.nbytes) == (0, 0), "nothing is kept for nobody"
    append_all(second, "second")
    second.close(finished())
    assert written(store) == ["second"]


def take_over(store: Store) -> None:
    """Another attempt claims the run."""
    ChainWriter(store, RUN).claim(started(host="new"))


def test_a_writer_that_is_fenced_at_its_end_says_so(store: OutageStore) -> None:
    """Its last commit finds the slot taken: the attempt is not complete, and close() raises."""
    fenced: list[Fenced] = []
    zombie = LedgerWriter(store, RUN, options=PATIENT, on_fenced=fenced.append)
    zombie.open(started())
    take_over(store)
    with pytest.raises(Fenced):
        zombie.close(finished())
    assert len(fenced) == 1
    assert kinds(store) == ["fence", "fence"]


def test_a_fenced_writer_without_a_listener_still_raises_at_close(store: OutageStore) -> None:
    """The callback is a convenience; the truth is told by close()."""
    zombie = LedgerWriter(store, RUN, options=EAGER)
    zombie.open(started())
    take_over(store)
    append_all(zombie, "zombie")
    with pytest.raises(Fenced):
        zombie.close(finished())


def test_an_idle_zombie_learns_of_the_takeover_by_its_heartbeat(store: OutageStore) -> None:
    """Also a node that runs for an hour is interrupted within one heartbeat."""
    told = threading.Event()
    zombie = LedgerWriter(store, RUN, options=WriterOptions(heartbeat=0.01), on_fenced=lambda _error: told.set())
    zombie.open(started())
    take_over(store)
    assert told.wait(PATIENCE)
    with pytest.raises(Fenced):
        zombie.close(finished())


# Files -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b'{"results": []}', b"", b"\x00\xff" * 1000], ids=["json", "empty", "binary"])
def test_a_file_lies_beside_the_chain_and_is_named_in_it(data: bytes, tmp_path: Path) -> None:
    """Its bytes are exact, its hash and size are in the record, and the record says where it is."""
    store = LocalStore(str(tmp_path))
    writer = LedgerWriter(store, RUN, options=PATIENT)
    writer.open(started())
    record = writer.put_file("run_results.json", data)
    writer.close(finished())
    digest = hashlib.sha256(data).hexdigest()
    assert (record.name, record.sha256, record.size, record.path) == (
        "run_results.json",
        digest,
        len(data),
        RUN.file("run_results.json", digest),
    )
    assert store.get(record.path) == data
    assert [entry for entry in records(store) if isinstance(entry, Artifact)] == [record]


def test_the_same_file_twice_is_one_object_and_two_records(store: OutageStore) -> None:
    """The manifest of a second attempt: its object is there, and that is no error."""
    writer = LedgerWriter(store, RUN, options=PATIENT)
    writer.open(started())
    first, second = writer.put_file("manifest.json", b"{}"), writer.put_file("manifest.json", b"{}")
    writer.close(finished())
    assert first.path == second.path
    assert sum("/files/" in key for key in store.objects) == 1
    assert sum(isinstance(record, Artifact) for record in records(store)) == 2


def test_a_file_is_durable_before_its_record_is() -> None:
    """Whoever reads the record finds the file: it is stored first, through whatever trouble."""
    store = FaultyStore()
    writer = LedgerWriter(store, RUN, options=PATIENT)
    writer.open(started())
    store.script("create", Fault.TRANSIENT, Fault.LOST_REQUEST, Fault.LOST_ACK)
    record = writer.put_file("sources.json", b"[]")
    assert store.objects[record.path] == b"[]"
    assert written_artifacts(store) == []
    writer.close(finished())
    assert written_artifacts(store) == [record]


def written_artifacts(store: Store) -> list[Record]:
    """The artifacts that the chain names."""
    return [record for record in records(store) if isinstance(record, Artifact)]


@pytest.mark.parametrize(("fault", "error"), [(Fault.TRANSIENT, Transient), (Fault.DENIED, Denied)])
def test_a_file_that_cannot_be_stored_is_an_error_and_no_record(fault: Fault, error: type[Exception]) -> None:
    """After the bound for what may pass, at once for what will not; the ledger does not name a file that is not there."""
    store = FaultyStore()
    writer = LedgerWriter(store, RUN, options=WriterOptions(heartbeat=HOUR, retry_first=0.001, retry_longest=0.001, drain_timeout=0.01))
    writer.open(started())
    trouble = [fault]
    store._chance = lambda _operation: trouble[0]
    with pytest.raises(error):
        writer.put_file("sources.json", b"[]")
    trouble[0] = Fault.NONE
    writer.close(finished())
    assert written_artifacts(store) == []


def test_the_types_of_the_first_and_last_record() -> None:
    """An epoch on a real chain begins with attempt_started and ends with attempt_finished."""
    store = MemoryStore()
    writer = LedgerWriter(store, RunKey("d", "r"), options=PATIENT)
    writer.open(started())
    writer.close(finished())
    first, last = (entry.record for entry in ChainReader(store, RunKey("d", "r")).read())
    assert isinstance(first, AttemptStarted)
    assert isinstance(last, AttemptFinished)
