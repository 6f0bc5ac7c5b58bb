"""Verifying a run: every way to damage a small one is tried, on a store in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ledger_watcher.errors import CorruptLedger, Denied
from ledger_watcher.ledger import Kind, LedgerWriter, RunKey
from ledger_watcher.ledger.verify import Verification, read_artifact, verify
from ledger_watcher.records import Artifact, Unknown
from tests.core.chains import NOW, RUN, Chain, note, started
from tests.core.ledgers import began, ended, ends, plan, starts
from tests.core.stores import MemoryStore

FLIPS = (0x01, 0x20)


def written(*, end: bool = True) -> MemoryStore:
    """Two attempts by the real writer, the first with an artifact; the second one may lack its end."""
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
    return store


def segments(store: MemoryStore) -> list[str]:
    return sorted(key for key in store.objects if "/seg/" in key)


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


def test_every_object_that_is_gone_is_found_but_the_newest_segment(store: MemoryStore) -> None:
    """Without its newest segment a chain is a sound one that has not ended: see the anchor."""
    *others, newest = segments(store)
    for key in (*others, *(key for key in store.objects if "/files/" in key)):
        found = altered(store, key, None)
        assert [problem.path for problem in found.problems] == [f"{store.root}/{key}"], key
        assert "gone" in found.problems[0].what
    end = verify(store, RUN).ends[-1].sha256
    found = altered(store, newest, None)
    assert (found.problems, found.ended) == ([], False)
    assert found.end_of(end) is None


def test_taking_away_newest_segments_shows_only_against_an_anchor() -> None:
    """Any number of them; artifacts that only they named become strangers."""
    store = written()
    anchor = verify(store, RUN).ends[-1].sha256
    for key in reversed(segments(store)[1:]):
        del store.objects[key]
        found = verify(store, RUN)
        assert found.problems == []
        assert found.end_of(anchor) is None
    assert [note.rpartition("/files/")[2][:11] for note in found.notes] == ["run_results"]


def test_a_run_under_way_and_its_deletions() -> None:
    store = written(end=False)
    found = verify(store, RUN)
    assert (found.problems, found.ended, found.epochs) == ([], False, 2)
    for key in segments(store)[:-1]:
        assert altered(store, key, None).problems


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


def test_an_expired_beginning() -> None:
    store = written()
    for key in segments(store)[:3]:
        del store.objects[key]
    (problem,) = (problem for problem in verify(store, RUN).problems)
    assert problem.path.endswith("0000000000.jsonl")
    assert "it and all up to segment 2 are gone" in problem.what


def test_strangers_are_notes() -> None:
    store = written()
    for name in ("seg/readme.txt", "seg/1.jsonl", "seg/00000000001.jsonl", "files/notes.md", "thumbs.db"):
        store.objects[f"{RUN.prefix}/{name}"] = b"x"
    found = verify(store, RUN)
    assert found.problems == []
    assert sorted(note.split(":")[1].removeprefix(f"//base/{RUN.prefix}/") for note in found.notes) == [
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
