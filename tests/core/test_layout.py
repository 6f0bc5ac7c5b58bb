"""Any id has a folder of its own below the root, and the folder gives the id back."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger import RunKey, list_runs
from ledger_watcher.ledger.layout import segment_name
from ledger_watcher.storage import LocalStore
from tests.core.stores import MemoryStore

HOSTILE = [
    "..",
    ".",
    "...",
    "../../etc/passwd",
    "/etc/passwd",
    "a/../b",
    "%2e%2e%2f",
    "%",
    "%zz",
    "a/b",
    "a%2Fb",
    "a%252Fb",
    "a\\b",
    "a.b__c",
    "a__b.c",
    "model.a.b__c",
    "model.a__b.c",
    "x.",
    "x%2E",
    "+",
    "+a",
    "=",
    "run=x",
    "dag=a/run=b",
    "a b",
    " a ",
    "~root",
    "a\x00b",
    "a\nb",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f600" * 100,
    "\ud800",
    "a\udcffb",
    "seg",
    "files",
    "v1",
    "x" * 199 + ".",
    "x" * 199 + "." + "y",
    "x" * 198 + "/y",
    "x" * 199 + "/y",
    "x" * 200,
    "x" * 201,
    "x" * 200 + "." * 200 + "y",
    "\u20ac" * 200,
    "." * 1000,
    "x" * 1000,
    "scheduled__2026-07-31T10:00:00+00:00",
]
IDS = st.sampled_from(HOSTILE) | st.text(st.characters(), min_size=1, max_size=40) | st.text("./%+=_\\a", min_size=1, max_size=450)
KEYS = st.builds(RunKey, dag_id=IDS, run_id=IDS, group=st.just("") | IDS, map_index=st.integers(-1, 10**6), deployment=IDS)


@given(key=KEYS)
@example(key=RunKey(*(["x" * 1000] * 3), 7, "y" * 1000))
def test_the_folder_gives_the_identity_back(key: RunKey) -> None:
    """Whatever the ids are, nothing is lost: consumers and tools read the identity off the path."""
    assert RunKey.from_prefix(key.prefix) == key
    assert RunKey.from_prefix(key.segment(3)) == key, "a segment lies in the folder of its run"


def check_parts(key: RunKey, seq: int) -> None:
    """Every part of the keys of a run is safe on every storage."""
    for path in (key.segment(seq), key.file("run_results.json", "0" * 64)):
        assert path.startswith("v1/deployment=")
        assert posixpath.normpath(path) == path
        for part in path.split("/"):
            assert re.fullmatch(r"(?:[A-Za-z0-9_.~+=-]|%[0-9A-F]{2})+", part), part
            assert len(part) <= 255
            assert part.strip(".") == part


@given(key=KEYS, seq=st.integers(0, 10**10 - 1))
def test_every_part_of_a_key_is_safe_on_every_storage(key: RunKey, seq: int) -> None:
    """Plain ASCII without separators, at most 255 bytes, no dot folder, no dot at the end (Azure drops it), no escape cut in two."""
    check_parts(key, seq)


@pytest.mark.parametrize("name", HOSTILE)
def test_each_hostile_id_is_safe_and_reversible(name: str) -> None:
    """The list above, one by one and in each place."""
    for key in (RunKey(name, "r"), RunKey("d", name), RunKey("d", "r", name), RunKey("d", "r", deployment=name)):
        check_parts(key, 0)
        assert RunKey.from_prefix(key.prefix) == key


@given(one=KEYS, other=KEYS)
@example(one=RunKey("d", "r", "a.b__c"), other=RunKey("d", "r", "a__b.c"))
@example(one=RunKey("d", "r", "a/b"), other=RunKey("d", "r", "a%2Fb"))
@example(one=RunKey("d", "r", "x."), other=RunKey("d", "r", "x%2E"))
@example(one=RunKey("d", "r/group=x"), other=RunKey("d", "r", "x"))
@example(one=RunKey("x" * 200, "r"), other=RunKey("x" * 201, "r"))
@example(one=RunKey("d", "r", map_index=1), other=RunKey("d", "r", map_index=11))
def test_distinct_runs_never_share_or_nest_their_folders(one: RunKey, other: RunKey) -> None:
    """Two runs have two folders, and neither lies inside the other."""
    inside = f"{one.prefix}/".startswith(f"{other.prefix}/")
    assert inside == (one == other)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_id_stays_below_a_real_root(name: str, tmp_path: Path) -> None:
    """On a real file system the object is inside the root, and its run is found there."""
    root = tmp_path / "root"
    key = RunKey(dag_id=name, run_id="r")
    store = LocalStore(str(root))
    store.create(key.segment(0), b"x")
    [written] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written.resolve().is_relative_to(root)
    assert list(list_runs(store)) == [key]


def test_an_id_that_a_file_system_cannot_hold_is_a_mistake_of_the_input(tmp_path: Path) -> None:
    """A path beyond the limit of the system would fail for ever: the message says what to shorten."""
    with pytest.raises(ConfigError, match="too long a path"):
        LocalStore(str(tmp_path)).create(RunKey("\u20ac" * 1000, "r").segment(0), b"x")


@pytest.mark.parametrize("field", ["dag_id", "run_id", "deployment"])
def test_an_empty_id_is_refused(field: str) -> None:
    """A run without one of its names would be found by nobody; the message names it."""
    ids = {"dag_id": "d", "run_id": "r", "deployment": "x", field: ""}
    with pytest.raises(ConfigError, match=f"The {field} of a ledger is empty"):
        RunKey(**ids)


GOOD = "v1/deployment=default/dag=d/run=r/group=/map=-1"


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "v1",
        "v2/deployment=default/dag=d/run=r/group=/map=-1",
        "v1/deployment=default/dag=d/run=r/group=",
        "v1/deployment=default/dag=d/run=r/map=-1",
        "v1/dag=d/deployment=default/run=r/group=/map=-1",
        "v1/deployment=default/dag=d/dag=e/run=r/group=/map=-1",
        "v1/deployment=default/dag=/run=r/group=/map=-1",
        "v1/deployment=default/dag=d/run=r/group=/map=x",
        "v1/deployment=default/dag=d/run=r/group=/map=+1",
        "v1/deployment=default/dag=d/run=r/group=/map=01",
        "v1/deployment=default/dag=d/run=r/group=/map=-1x",
        "v1/deployment=default/dag=d%2e/run=r/group=/map=-1",
        "v1/deployment=default/dag=%ff/run=r/group=/map=-1",
        "v1/deployment=default/dag=a%zz/run=r/group=/map=-1",
        "v1/deployment=default/dag=a b/run=r/group=/map=-1",
        "v1/deployment=default/dag=d/+x/run=r/group=/map=-1",
        "v1/+x/deployment=default/dag=d/run=r/group=/map=-1",
        "v1/other=1/deployment=default/dag=d/run=r/group=/map=-1",
        "root/v1/deployment=default/dag=d/run=r/group=/map=-1",
    ],
)
def test_what_is_not_the_folder_of_a_run_is_a_value_error(prefix: str) -> None:
    """Only the exact spelling that a writer would use is accepted: another one would name a folder that nobody writes."""
    assert RunKey.from_prefix(GOOD) == RunKey("d", "r")
    with pytest.raises(ValueError, match=r"not|invalid|decode|empty"):
        RunKey.from_prefix(prefix)


@given(prefix=st.text() | st.lists(st.sampled_from([*GOOD.split("/"), "+x", "dag=", "map=2", "=", "seg"]), max_size=8).map("/".join))
def test_any_text_is_the_folder_of_a_run_or_a_value_error(prefix: str) -> None:
    """And if it is accepted, it is the folder that the identity itself names."""
    try:
        key = RunKey.from_prefix(prefix)
    except ValueError:
        return
    assert f"{prefix.strip('/')}/".startswith(f"{key.prefix}/")


def test_segment_names_sort_as_numbers_do() -> None:
    """A listing in the order of names is in the order of the chain."""
    numbers = [0, 1, 9, 10, 99, 100, 12345, 10**9, 10**10 - 1]
    assert sorted(map(segment_name, numbers)) == [segment_name(n) for n in numbers]
    assert segment_name(7) == "0000000007.jsonl"


def test_an_artifact_lies_beside_the_chain_under_its_hash() -> None:
    """The name keeps its suffixes, so that tools know what it is, and cannot name another folder."""
    key = RunKey("d", "r")
    assert key.file("run_results.json", "ab") == f"{GOOD}/files/run_results.ab.json"
    assert key.file("manifest", "ab") == f"{GOOD}/files/manifest.ab"
    assert key.file("../../x.tar.gz", "ab") == f"{GOOD}/files/.ab..%2F..%2Fx.tar.gz"


def test_a_run_is_named_for_people() -> None:
    """In messages a run is what Airflow calls it."""
    assert str(RunKey("d", "r")) == "d / r"
    assert str(RunKey("d", "r", "g.h", 3)) == "d / r group g.h map index 3"


def store_of(*keys: RunKey) -> MemoryStore:
    """A store that holds the first segment of each run."""
    store = MemoryStore()
    for key in keys:
        store.create(key.segment(0), b"x")
        store.create(key.file("run_results.json", "0" * 64), b"x")
    return store


@given(keys=st.lists(KEYS, max_size=6))
def test_list_runs_finds_exactly_what_was_written(keys: list[RunKey]) -> None:
    """Every run once, whatever its ids."""
    found = list(list_runs(store_of(*set(keys))))
    assert len(found) == len(set(found))
    assert set(found) == set(keys)


@given(keys=st.lists(KEYS, min_size=1, max_size=6))
def test_list_runs_of_a_deployment_or_dag_finds_only_those(keys: list[RunKey]) -> None:
    """The filters mean the ids themselves, not how they are spelled."""
    store, wanted = store_of(*set(keys)), keys[0]
    assert set(list_runs(store, deployment=wanted.deployment)) == {key for key in keys if key.deployment == wanted.deployment}
    assert set(list_runs(store, dag_id=wanted.dag_id)) == {key for key in keys if key.dag_id == wanted.dag_id}


def test_list_runs_of_long_names_that_share_their_beginning() -> None:
    """Names longer than a path part lie below the folder of a shorter one and are still told apart."""
    short, long, longer = (RunKey("x" * n, "r", deployment="y" * n) for n in (200, 201, 900))
    store = store_of(short, long, longer)
    assert set(list_runs(store)) == {short, long, longer}
    assert list(list_runs(store, dag_id="x" * 201)) == [long]
    assert list(list_runs(store, deployment="y" * 200)) == [short]


def test_list_runs_asks_only_below_the_filters() -> None:
    """Runs of other deployments and DAGs cost no request."""
    store = store_of(*(RunKey(f"dag{n}", "r", deployment=f"dep{n}") for n in range(20)))
    store.calls.clear()
    assert list(list_runs(store, deployment="dep3", dag_id="dag3")) == [RunKey("dag3", "r", deployment="dep3")]
    assert len(store.calls) == 5, "one listing for each of deployment, dag, run, group and map"


STRANGERS = [
    "README.md",
    "v1/seg/x",
    "v1/notes.txt",
    "v1/deployment=/dag=d/run=r/group=/map=-1/seg/0000000000.jsonl",
    "v1/deployment=default/seg/x",
    "v1/deployment=default/dag=d/run=r/group=/map=x/seg/0000000000.jsonl",
    "v1/deployment=default/dag=d%2e/run=r/group=/map=-1/seg/0000000000.jsonl",
    "v1/deployment=default/dag=%ff/run=r/group=/map=-1/seg/0000000000.jsonl",
    "v1/deployment=default/dag=d/run=empty/group=/map=-1/files/x",
    "v1/deployment=default/dag=d/tmp/run=r/group=/map=-1/seg/x",
    "v1/deployment=default/dag=d/run=file",
    "v2/deployment=default/dag=d/run=r2/group=/map=-1/seg/0000000000.jsonl",
]


@pytest.mark.parametrize("stranger", STRANGERS)
def test_list_runs_passes_strangers_over(stranger: str, tmp_path: Path) -> None:
    """Whatever else lies below the root is neither a run nor in the way of one; the same on a real file system."""
    key = RunKey("d", "r")
    for store in (MemoryStore(), LocalStore(str(tmp_path))):
        store.create(stranger, b"x")
        assert list(list_runs(store)) == []
        store.create(key.segment(0), b"x")
        assert list(list_runs(store)) == [key]


def test_list_runs_of_nothing_is_empty(tmp_path: Path) -> None:
    """A root that does not exist yet holds no runs."""
    assert list(list_runs(LocalStore(str(tmp_path / "absent")))) == []
