"""Segments and chains written by hand, so that tests of the readers and writers do not lean on each other's code."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timezone

from ledger_watcher import codec
from ledger_watcher.ledger import Entry, Header, Kind, RunKey
from ledger_watcher.ledger.segments import GENESIS, pack
from ledger_watcher.records import AttemptFinished, AttemptStarted, EndedBy, Log, Record
from tests.core.stores import MemoryStore

RUN = RunKey(dag_id="shop", run_id="manual__2026-07-31T10:00:00+00:00")
NOW = datetime(2026, 7, 31, 10, 0, 0, 123456, tzinfo=timezone.utc)


def started(epoch: int = 0, host: str = "worker-1") -> AttemptStarted:
    """The record of a fence."""
    return AttemptStarted(ts=NOW, attempt=epoch, command=("dbt", "build"), invocation="i", producer_started_at=NOW, host=host, pid=7)


def finished() -> AttemptFinished:
    """The record of an end."""
    return AttemptFinished(ts=NOW, exit_code=0, ended_by=EndedBy.EXIT)


def note(text: str) -> Log:
    """A record that a test can recognise."""
    return Log(ts=NOW, unique_id="model.shop.a", lines=(text,))


def notes(entries: list[Entry]) -> list[str]:
    """The texts of all notes, in order."""
    return [line for entry in entries if isinstance(entry.record, Log) for line in entry.record.lines]


class Chain:
    """Builds a chain in a store; any field of a header can be set to what it should not be."""

    def __init__(self, store: MemoryStore, run: RunKey = RUN) -> None:
        self.store = store
        self.run = run
        self.next = Header(run=run.prefix, seq=0, epoch=1, writer="w1", kind=Kind.FENCE, prev=GENESIS, n=0, ts=NOW)

    def add(self, kind: Kind, *records: Record, at: int | None = None, **wrong: object) -> str:
        """Put the next segment (at slot ``at``, if that is not its own) and return its key. A fence begins the next epoch."""
        if kind is Kind.FENCE and self.next.seq:
            epoch = self.next.epoch + 1
            self.next = replace(self.next, epoch=epoch, writer=f"w{epoch}")
        header = replace(self.next, kind=kind, n=len(records), **wrong)
        data, digest = pack(header, [codec.encode(record) for record in records])
        key = self.run.segment(self.next.seq if at is None else at)
        self.store.objects[key] = data
        self.next = replace(self.next, seq=self.next.seq + 1, prev=digest)
        return key

    def fence(self) -> str:
        """A fence as a writer would make it."""
        return self.add(Kind.FENCE, started(self.next.epoch + (1 if self.next.seq else 0)))

    def data(self, *texts: str) -> str:
        """A data segment of notes."""
        return self.add(Kind.DATA, *(note(text) for text in texts))

    def end(self) -> str:
        """The end of the epoch."""
        return self.add(Kind.END, finished())


def raw_chain(store: MemoryStore, run: RunKey = RUN) -> list[tuple[dict[str, object], list[dict[str, object]]]]:
    """Headers and records of all segments, read as the format says with nothing of the package but the keys, and verified."""
    segments: list[tuple[dict[str, object], list[dict[str, object]]]] = []
    prev = "0" * 64
    while (data := store.objects.get(run.segment(len(segments)))) is not None:
        lines = [json.loads(line) for line in data.decode().split("\n")[:-1]]
        header, records = lines[0], lines[1:]
        assert hashlib.sha256(data[len('{"sha256":"",') + 64 :]).hexdigest() == header["sha256"], "the hash of a segment is wrong"
        assert header["prev"] == prev, "a segment does not name the hash of the one before"
        assert (header["seq"], header["n"], header["run"]) == (len(segments), len(records), run.prefix), "a header does not fit its segment"
        prev = header["sha256"]
        segments.append((header, records))
    slots = {key for key in store.objects if "/seg/" in key}
    assert slots == {run.segment(seq) for seq in range(len(segments))}, "there is a segment behind a gap"
    return segments
