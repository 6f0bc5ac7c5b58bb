"""Verifying a run: every way to damage a small one is tried, on a store in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ledger_watcher.errors import CorruptLedger, Denied
from ledger_watcher.ledger import ChainReader, Entry, Header, Kind, LedgerWriter, RunKey
from ledger_watcher.ledger.checkpoint import Compaction, pack_checkpoint, unpack_checkpoint
from ledger_watcher.ledger.segments import seal
from ledger_watcher.ledger.verify import Verification, read_artifact, verify
from ledger_watcher.records import Artifact, NodeFinished, Unknown
from tests.core.chains import NOW, RUN, Chain, note, started
from tests.core.ledgers import began, ended, ends, plan, starts
from tests.core.stores import MemoryStore

FLIPS = (0x01, 0x20)


def written(*, end: bool = True) -> MemoryStore:
    """Two attempts by the real writer, the first with an artifact; the second one may have died before its end."""
    store = MemoryStore()
    for attempt in (1, 2):
        writer = LedgerWriter(store, RUN)
        writer.open(began(attempt))
        for record in (plan("a"), starts("a"), ends("a")):
            writer.append(record)
        if attempt == 1:
            writer.put_file("run_results.json", b'{"results": []}')
        writer.close(ended(attempt + 3))
    if not end:
        del store.objects[max(segments(store))]
        del store.objects[max(checkpoints(store))]
    return store


def segments(store: MemoryStore) -> list[str]:
    return sorted(key for key in store.objects if "/seg/" in key)


def checkpoints(store: MemoryStore) -> list[str]:
    return sorted(key for key in store.objects if "/ckpt/" in key)


def altered(store: MemoryStore, key: str, data: bytes | None) -> Verification:
    """What is found when one object is replaced, or taken away."""
    kept = store.objects.pop(key)
    if data is not None:
        store.objects[key] = data
    try:
        return verify(store, RUN, at_once=1)
    finally:
        store.objects[key] = kept


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return written()


def test_a_sound_run() -> None:
    store = written()
    found = verify(store, RUN)
    assert (found.problems, found.notes, found.unsupported) == ([], [], None)
    assert (found.epochs, found.artifacts, found.ended) == (2, 1, True)
    assert found.segments == len(segments(store))
    assert [key.rpartition("/")[2] for key in checkpoints(store)] == ["0000000002.end.jsonl", "0000000002.jsonl", "0000000005.end.jsonl"]
    assert (found.checkpoints, found.expired) == (3, 0)
    assert found.records == 2 * 5 + 1
    assert [end.epoch for end in found.ends] == [1, 2]
    assert found.last is found.ends[-1]
    assert found.end_of(found.ends[0].sha256) is found.ends[0]
    assert found.end_of("0" * 64) is None


def every_flip(store: MemoryStore) -> Iterator[tuple[str, int, bytes]]:
    for key, data in list(store.objects.items()):
        for at in range(len(data)):
            for mask in FLIPS:
                yield key, at, data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]


def test_every_flip_of_a_byte_is_found(store: MemoryStore) -> None:
    """In any object, the newest segment and the artifact included; and it is that object which is named."""
    tried = 0
    for key, at, data in every_flip(store):
        found = altered(store, key, data)
        assert [problem.path for problem in found.problems] == [f"{store.root}/{key}"], (key, at, found.problems)
        tried += 1
    assert tried == len(FLIPS) * sum(len(data) for data in store.objects.values())


def test_every_truncation_is_found(store: MemoryStore) -> None:
    for key, data in list(store.objects.items()):
        for length in range(len(data)):
            found = altered(store, key, data[:length])
            assert [problem.path for problem in found.problems] == [f"{store.root}/{key}"], (key, length)


def test_bytes_behind_an_object_are_found(store: MemoryStore) -> None:
    for key, data in list(store.objects.items()):
        for tail in (b"\n", b"\x00", b'{"kind":"heartbeat"}\n', data):
            assert altered(store, key, data + tail).problems, (key, tail)


def test_every_object_that_is_gone_is_found(store: MemoryStore) -> None:
    """A segment by those behind it or by a checkpoint, a checkpoint by the segment that names it, or else it is missed in a note."""
    first, *others = segments(store)
    for key in (*others[:-1], *(key for key in store.objects if "/files/" in key)):
        found = altered(store, key, None)
        assert [problem.path for problem in found.problems] == [f"{store.root}/{key}"], key
        assert "gone" in found.problems[0].what
    found = altered(store, first, None)
    assert (found.problems, found.expired) == ([], 1), "a checkpoint stands for it: that is a state with a name"
    assert found.notes == []
    found = altered(store, RUN.checkpoint(2), None)
    assert [str(problem) for problem in found.problems] == [
        f"{store.root}/{RUN.segment(3)}: it names checkpoint 2, which is gone or another one"
    ]
    for seq in (2, 5):
        found = altered(store, RUN.checkpoint(seq, end=True), None)
        assert found.problems == []
        assert found.notes == [f"{store.root}/{RUN.checkpoint(seq, end=True)}: not there, so readers begin at an earlier one"]


def test_the_newest_segment_is_missed_by_its_checkpoint_and_by_its_anchor(store: MemoryStore) -> None:
    """Whoever takes both away leaves a sound chain that has not ended."""
    end = verify(store, RUN).ends[-1].sha256
    newest = max(segments(store))
    found = altered(store, newest, None)
    assert [str(problem) for problem in found.problems] == [
        f"{store.root}/{RUN.checkpoint(5, end=True)}: it covers segments that are not there"
    ]
    assert (found.ended, found.end_of(end)) == (False, None)
    found = verify(written(end=False), RUN)
    assert (found.problems, found.ended, found.end_of(end)) == ([], False, None)


def test_taking_away_newest_segments_and_their_checkpoints_shows_only_against_an_anchor() -> None:
    """Any number of them; artifacts that only they named become strangers."""
    store = written()
    anchor = verify(store, RUN).ends[-1].sha256
    for seq in reversed(range(1, 6)):
        for key in (RUN.segment(seq), RUN.checkpoint(seq), RUN.checkpoint(seq, end=True)):
            store.objects.pop(key, None)
        found = verify(store, RUN)
        assert found.problems == []
        assert found.end_of(anchor) is None
    assert [note.rpartition("/files/")[2][:11] for note in found.notes] == ["run_results"]


def test_a_run_under_way_and_its_deletions() -> None:
    store = written(end=False)
    found = verify(store, RUN)
    assert (found.problems, found.ended, found.epochs) == ([], False, 2)
    for key in segments(store)[1:-1]:
        assert altered(store, key, None).problems
    assert altered(store, RUN.segment(0), None).expired == 1


def test_two_objects_that_changed_places(store: MemoryStore) -> None:
    keys = segments(store)
    for one in keys:
        for other in keys:
            if one != other:
                assert altered(store, one, store.objects[other]).problems, (one, other)


def test_several_problems_are_all_named() -> None:
    store = written()
    keys = segments(store)
    store.objects[keys[0]] = b"junk"
    del store.objects[keys[2]]
    file = next(key for key in store.objects if "/files/" in key)
    store.objects[file] += b" "
    found = verify(store, RUN)
    assert [problem.path for problem in found.problems][:2] == [f"{store.root}/{keys[0]}", f"{store.root}/{keys[2]}"]
    store.objects[keys[3]] = store.objects[keys[3]][:-1]
    assert [problem.path.rpartition("/")[2] for problem in verify(store, RUN).problems][:3] == [
        "0000000000.jsonl",
        "0000000002.jsonl",
        "0000000003.jsonl",
    ]


def test_a_segment_written_anew_shows_in_the_one_behind_it() -> None:
    """Its own hash is right then."""
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    kept = replace(chain.next)
    chain.data("a")
    chain.end()
    chain.next = kept
    chain.data("b")
    (problem,) = verify(store, RUN).problems
    assert problem.path.endswith("0000000002.jsonl")
    assert "does not follow from segment 1" in problem.what


def test_one_chain_written_anew_is_found_by_the_anchor_only() -> None:
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    chain.data("a")
    chain.end()
    anchor = verify(store, RUN).ends[0].sha256
    forged = MemoryStore()
    chain = Chain(forged)
    chain.fence()
    chain.data("b")
    chain.end()
    found = verify(forged, RUN)
    assert found.problems == []
    assert found.end_of(anchor) is None


def test_the_anchor_is_an_end() -> None:
    """The hash of any other segment is none: it would not prove that the run came to its end."""
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    chain.data("a")
    found = verify(store, RUN)
    assert found.last is not None
    assert found.end_of(found.last.sha256) is None


@pytest.mark.parametrize(
    ("kind", "records", "wrong", "says"),
    [
        (Kind.DATA, [note("a")], {"epoch": 2}, "a data segment of epoch 2 cannot stand here"),
        (Kind.DATA, [note("a")], {"writer": "w9"}, "its writer 'w9' never claimed this epoch"),
        (Kind.DATA, [note("a")], {"seq": 7}, "its sequence number is 7, its place is 1"),
        (Kind.DATA, [note("a")], {"run": "v1/other"}, "it belongs to the run 'v1/other'"),
        (Kind.DATA, [note("a")], {"prev": "f" * 64}, "it does not follow from segment 0"),
        (Kind.FENCE, [started(2)], {"epoch": 4}, "a fence segment of epoch 4 cannot stand here"),
    ],
)
def test_a_segment_that_cannot_stand_where_it_is(kind: Kind, records: list, wrong: dict, says: str) -> None:
    """By its header alone: its own hash is right."""
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    chain.add(kind, *records, **wrong)
    assert any(says in problem.what for problem in verify(store, RUN).problems), verify(store, RUN).problems


def test_nothing_but_a_fence_follows_an_end_or_begins_a_chain() -> None:
    store = MemoryStore()
    chain = Chain(store)
    chain.data("a")
    assert "a data segment of epoch 1 cannot stand here" in verify(store, RUN).problems[0].what
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    chain.end()
    chain.data("a")
    assert "a data segment of epoch 1 cannot stand here" in verify(store, RUN).problems[0].what


def test_a_gap_is_one_problem_however_wide() -> None:
    store = written()
    store.objects[RUN.segment(9_999_999_999)] = b"junk"
    gap, junk = verify(store, RUN).problems
    assert "it and all up to segment 9999999998 are gone" in gap.what
    assert "does not begin like a segment" in junk.what
    assert "append-only" not in junk.what


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_an_expired_beginning_for_which_a_checkpoint_stands(count: int) -> None:
    """However many have gone: it is said how many, what is left is checked, and the artifact is still known by the checkpoint."""
    store = written()
    for key in segments(store)[:count]:
        del store.objects[key]
    found = verify(store, RUN)
    assert (found.problems, found.notes, found.expired, found.segments, found.artifacts) == ([], [], count, 6 - count, 1)
    assert found.last == verify(written(), RUN).last or found.ended
    for key, data in list(store.objects.items()):
        assert altered(store, key, data.replace(b"2026", b"2027") + b"\n").problems, key


@pytest.mark.parametrize("wrong", ["another head", "another record"])
def test_the_segment_after_an_expired_beginning_follows_from_its_checkpoint(wrong: str) -> None:
    """Hashes link it to the segment before, which the checkpoint holds in its header."""
    store = written()
    for key in (*segments(store)[:3], RUN.checkpoint(2, end=True)):
        del store.objects[key]
    head, entries, _ = unpack_checkpoint("c", store.objects[RUN.checkpoint(2)])
    if wrong == "another head":
        head = replace(head, sha256="f" * 64)
    else:
        entries = [replace(entries[0], record=began(9), line=b""), *entries[1:]]
    compaction = Compaction()
    compaction.add(entries)
    store.objects[RUN.checkpoint(2)] = pack_checkpoint(head, compaction)[0]
    says = [problem.what for problem in verify(store, RUN).problems]
    assert "it names checkpoint 2, which is gone or another one" in says
    assert any("does not follow from segment 2" in what for what in says) == (wrong == "another head")


def test_a_beginning_that_is_gone_without_a_checkpoint_is_a_problem() -> None:
    store = written()
    for key in (*segments(store)[:3], *checkpoints(store)):
        store.objects.pop(key)
    gone, unnamed = verify(store, RUN).problems
    assert gone.path.endswith("0000000000.jsonl")
    assert "it and all up to segment 2 are gone" in gone.what
    assert unnamed.path.endswith("/seg/0000000003.jsonl")
    assert "it names checkpoint 2, which is gone" in unnamed.what


def test_a_checkpoint_that_says_something_else_than_the_chain_is_found() -> None:
    """Sound by itself, and covering the right segment; one that leaves out less than this version does is fine."""
    store = written()
    del store.objects[RUN.segment(5)], store.objects[RUN.checkpoint(5, end=True)]
    reader = ChainReader(store, RUN)
    entries = reader.read()
    assert reader.last is not None
    key = RUN.checkpoint(4)
    store.objects[key] = seal_checkpoint(reader.last, entries)
    found = verify(store, RUN)
    assert (found.problems, found.checkpoints) == ([], 3)
    store.objects[key] = seal_checkpoint(reader.last, [entry for entry in entries if not isinstance(entry.record, NodeFinished)])
    assert [str(problem) for problem in verify(store, RUN).problems] == [
        f"{store.root}/{key}: what it holds is not what the segments up to there say"
    ]


def seal_checkpoint(head: Header, entries: list[Entry]) -> bytes:
    """A checkpoint of just these entries."""
    lines = [b'{"seq":%d,"epoch":%d,"record":%s}' % (entry.seq, entry.epoch, entry.line) for entry in entries]
    first = {"kind": "checkpoint", "v": 1, "run": head.run, "n": len(lines), "head": {**head.to_dict(), "sha256": head.sha256}}
    return seal(first, lines)[0]


@pytest.mark.parametrize(("name", "copied"), [("0000000003.jsonl", 2), ("0000000002.jsonl", 5), ("0000000004.end.jsonl", 2)])
def test_a_checkpoint_in_another_place_is_found(name: str, copied: int) -> None:
    store = written()
    key = f"{RUN.prefix}/ckpt/{name}"
    store.objects[key] = store.objects[RUN.checkpoint(copied, end=True)]
    problems = verify(store, RUN).problems
    assert f"{store.root}/{key}" in [problem.path for problem in problems]
    assert any(f"it covers segment {copied} of" in problem.what for problem in problems)


def test_strangers_are_notes() -> None:
    store = written()
    for name in (
        "ckpt/0000000002.html",
        "ckpt/2.jsonl",
        "seg/readme.txt",
        "seg/1.jsonl",
        "seg/00000000001.jsonl",
        "files/notes.md",
        "thumbs.db",
    ):
        store.objects[f"{RUN.prefix}/{name}"] = b"x"
    found = verify(store, RUN)
    assert found.problems == []
    assert sorted(note.split(":")[1].removeprefix(f"//base/{RUN.prefix}/") for note in found.notes) == [
        "ckpt/0000000002.html",
        "ckpt/2.jsonl",
        "files/notes.md",
        "seg/00000000001.jsonl",
        "seg/1.jsonl",
        "seg/readme.txt",
        "thumbs.db",
    ]


def test_a_newer_format_is_not_called_corrupt() -> None:
    store = written()
    store.objects[segments(store)[1]] = b'{"v":2,"kind":"segment"}\n'
    found = verify(store, RUN)
    assert found.unsupported is not None
    assert "format version 2" in str(found.unsupported)
    assert found.problems == []


def test_a_later_versions_records_are_fine() -> None:
    store = MemoryStore()
    chain = Chain(store)
    chain.fence()
    chain.add(Kind.DATA, Unknown(ts=NOW, original_kind="lineage", data={"x": 1}))
    assert verify(store, RUN).problems == []


def test_no_segment_at_all() -> None:
    assert verify(MemoryStore(), RUN) == Verification(RUN)
    store = MemoryStore()
    store.objects[f"{RUN.prefix}/files/x"] = b""
    assert "it holds no segment" in verify(store, RUN).problems[0].what


def test_denied_is_no_finding() -> None:
    class Closed(MemoryStore):
        def get(self, key: str) -> bytes:
            raise Denied("get", key)

    store = Closed()
    store.objects = written().objects
    with pytest.raises(Denied):
        verify(store, RUN)


@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd", "v1/deployment=other/x"])
def test_a_records_path_is_not_followed(path: str) -> None:
    """Somebody who can write a ledger could else have a reader's files hashed, or shown."""
    store = MemoryStore()
    store.objects[path] = b"secret"
    record = Artifact(ts=NOW, name="run_results.json", sha256="ab" * 32, size=6, path=path)
    with pytest.raises(CorruptLedger, match="cannot be there"):
        read_artifact(store, RUN, record)
    with pytest.raises(CorruptLedger, match="cannot be there"):
        read_artifact(store, RUN, replace(record, sha256=path, path=RUN.file(record.name, path)))
    assert store.count("get") == 0


def test_many_segments_keep_their_order() -> None:
    """More than are fetched at once."""
    store = MemoryStore()
    chain = Chain(store, RunKey("many", "r"))
    chain.fence()
    for number in range(200):
        chain.data(str(number))
    chain.end()
    found = verify(store, chain.run)
    assert (found.problems, found.segments, found.ended) == ([], 202, True)


@pytest.mark.parametrize(("size", "data", "says"), [(7, b"secret", "it has 6 bytes, its record says 7"), (6, b"SECRET", "hashes to")])
def test_an_artifact_has_the_size_and_the_hash_of_its_record(size: int, data: bytes, says: str) -> None:
    store = MemoryStore()
    digest = hashlib.sha256(b"secret").hexdigest()
    record = Artifact(ts=NOW, name="manifest.json", sha256=digest, size=size, path=RUN.file("manifest.json", digest))
    store.objects[record.path] = data
    with pytest.raises(CorruptLedger, match=says):
        read_artifact(store, RUN, record)
