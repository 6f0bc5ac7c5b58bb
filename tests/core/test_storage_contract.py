"""One contract for every storage: a folder, memory, S3 (moto, Ceph), GCS and Azure over HTTP."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ledger_watcher.errors import Ambiguous, ConfigError, Denied, Exists, Missing
from ledger_watcher.ledger import ChainReader, LedgerWriter, list_runs
from ledger_watcher.storage import Store, open_store
from tests.core.chains import RUN, finished, note, notes, started
from tests.core.emulators import Azurite
from tests.core.places import HTTP, KINDS, Place, place_of
from tests.core.stores import PATIENCE

NAME = "v1/deployment=default/dag=d%2Fe/run=manual__2026-07-31T10%3A00%3A00%2B00%3A00/group=/map=-1"
BYTES = [b"x", b"", bytes(range(256)) * 3, b"\r\n\n\r", "caf\u00e9\u2028".encode(), os.urandom(1) * 4 * 1024 * 1024]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    """An empty root of each kind, unless the test says which."""
    return place_of(request.param, request)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


@pytest.mark.parametrize("data", BYTES, ids=lambda data: f"{len(data)} bytes")
def test_what_is_created_is_what_is_got(place: Place, store: Store, data: bytes) -> None:
    """Bytes are exact, here and for another client, whatever they are and however many."""
    if place.uri.startswith("gs:") and data.endswith(b"\r"):
        pytest.skip("gcsfs sends multipart with bare newlines: a last carriage return reads as part of the boundary. No ledger holds one.")
    store.create(f"{NAME}/seg/0000000000.jsonl", data)
    assert store.get(f"{NAME}/seg/0000000000.jsonl") == data
    assert place.open().get(f"{NAME}/seg/0000000000.jsonl") == data


def test_what_exists_is_not_created_again(store: Store) -> None:
    """The second create is refused, also of the same bytes, and changes nothing."""
    store.create("a/b", b"first")
    for data in (b"second", b"first", b""):
        with pytest.raises(Exists, match="The object exists already"):
            store.create("a/b", data)
    assert store.get("a/b") == b"first"


def test_an_empty_object_exists_too(store: Store) -> None:
    """Nothing in it is not nothing there."""
    store.create("a/b", b"")
    with pytest.raises(Exists):
        store.create("a/b", b"x")


def test_what_is_not_there_is_missing(store: Store) -> None:
    """In an empty root, beside an object, below an object, and for a folder's name."""
    for key in ("a", "a/b/c"):
        with pytest.raises(Missing, match="does not exist"):
            store.get(key)
    store.create("a/b", b"x")
    for key in ("a/c", "a", "a/b/c", "a/"):
        with pytest.raises(Missing):
            store.get(key)


@pytest.mark.parametrize("place", [kind for kind in KINDS if kind != "test"], indirect=True)
def test_errors_name_the_whole_object(store: Store, place: Place) -> None:
    """A message is enough to find the object."""
    with pytest.raises(Missing) as caught:
        store.get(f"{NAME}/seg/0000000000.jsonl")
    assert f"{place.uri}/{NAME}/seg/0000000000.jsonl" in str(caught.value)
    assert caught.value.operation == "get"


def test_a_listing_is_of_the_names_directly_below(store: Store) -> None:
    """Objects and folders, each once, sorted; not what lies deeper or beside, and not the prefix itself."""
    assert store.list("") == []
    for key in ("v1/b", "v1/a/x", "v1/a/y/z", "v1/c.jsonl", "v1x/other", "top"):
        store.create(key, b"x")
    assert store.list("v1") == ["a", "b", "c.jsonl"]
    assert store.list("v1/a") == ["x", "y"]
    assert store.list("") == ["top", "v1", "v1x"]
    assert store.list("v1/b") == [], "an object has nothing below it"
    assert store.list("v1/absent") == []
    assert store.list("absent/deeper") == []


def test_a_listing_keeps_names_as_they_are(store: Store) -> None:
    """Percent signs, plus, equals and colons of ids come back as they were written."""
    names = ["+more", "a%2Fb", "a%252Fb", "caf%C3%A9", "dag=x", "map=-1", "x%2E", "~"]
    for name in names:
        store.create(f"{name}/seg/0", b"x")
    assert store.list("") == sorted(names)
    for name in names:
        assert store.get(f"{name}/seg/0") == b"x"


@pytest.mark.parametrize("place", ["local", "test", "memory", "s3"], indirect=True)
def test_more_names_than_one_page_holds(place: Place, store: Store) -> None:
    """S3 lists 1,000 names per answer."""
    names = [f"{number:010d}.jsonl" for number in range(1100)]
    for name in names:
        if place.uri.startswith("s3:"):  # a thousand requests take their time
            from moto.core import DEFAULT_ACCOUNT_ID
            from moto.s3.models import s3_backends

            bucket, root = place.uri.removeprefix("s3://").split("/")
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, f"{root}/seg/{name}", b"x")
        elif place.uri.startswith("/"):  # and so do two thousand fsyncs
            (Path(place.uri) / "seg").mkdir(parents=True, exist_ok=True)
            (Path(place.uri) / "seg" / name).write_bytes(b"x")
        else:
            store.create(f"seg/{name}", b"x")
    assert store.list("seg") == names


def test_a_new_object_is_seen_after_an_earlier_look(place: Place, store: Store) -> None:
    """A reader that listed the folder and missed the object sees it as soon as somebody else created it."""
    store.create("seg/0", b"x")
    assert store.list("seg") == ["0"]
    with pytest.raises(Missing):
        store.get("seg/1")
    place.open().create("seg/1", b"new")
    assert store.get("seg/1") == b"new"
    assert store.list("seg") == ["0", "1"]


def test_many_threads_may_use_one_store(store: Store) -> None:
    """The tails of a triggerer share their clients."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: store.create(f"t/{number}", str(number).encode()), range(64)))
        got = list(pool.map(lambda number: store.get(f"t/{number}"), range(64)))
    assert got == [str(number).encode() for number in range(64)]


def race(stores: list[Store], key: str) -> bytes:
    """What is stored when all create at once and each that cannot tell reads back: the bytes of exactly one."""
    barrier = threading.Barrier(len(stores))

    def run(number: int) -> bool:
        data = f"{number}".encode() * 100
        barrier.wait(PATIENCE)
        try:
            stores[number].create(key, data)
        except (Exists, Ambiguous):
            return stores[number].get(key) == data
        return True

    with ThreadPoolExecutor(len(stores)) as pool:
        winners = [number for number, won in enumerate(pool.map(run, range(len(stores)))) if won]
    assert len(winners) == 1
    return f"{winners[0]}".encode() * 100


@pytest.mark.parametrize("clients", ["one client", "many clients"])
@pytest.mark.parametrize("place", [kind for kind in KINDS if kind != "memory"], indirect=True)
def test_of_fifty_creators_exactly_one_wins(place: Place, clients: str) -> None:
    """Create-if-absent is what the whole ledger stands on: one winner, and its bytes.

    Not in fsspec's memory, which checks and then writes without a lock: it is for one thread.
    """
    stores = [place.open() for _ in range(50)] if clients == "many clients" else [place.open()] * 50
    for round_ in range(2):
        assert race(stores, f"seg/{round_}") == stores[0].get(f"seg/{round_}")


RACER = """
import sys
from ledger_watcher.errors import Exists
from ledger_watcher.storage import open_store
store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(50):
    try:
        store.create(f"seg/{number}", sys.argv[2].encode())
    except Exists:
        continue
    print(number)
"""


def test_of_processes_exactly_one_wins(tmp_path: Path) -> None:
    """Threads share a lock of the interpreter; processes share only the folder."""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    wins = {key: str(who) for who, racer in enumerate(racers) for key in racer.communicate(timeout=PATIENCE)[0].split()}
    assert [racer.returncode for racer in racers] == [0] * 4
    store = open_store(str(tmp_path))
    assert wins == {str(number): store.get(f"seg/{number}").decode() for number in range(50)}


def test_what_is_deleted_is_gone(place: Place, store: Store) -> None:
    """For retention: the object and every prefix that it was the last of; again is no error, and the name is free."""
    store.create("v1/run=1/seg/0", b"x")
    store.create("v1/run=2/seg/0", b"y")
    assert store.list("v1") == ["run=1", "run=2"]
    store.delete("v1/run=1/seg/0")
    assert store.list("v1") == ["run=2"]
    with pytest.raises(Missing):
        place.open().get("v1/run=1/seg/0")
    store.delete("v1/run=1/seg/0")
    store.delete("v1/run=2/seg/0/below/an/object")
    assert store.get("v1/run=2/seg/0") == b"y"
    store.create("v1/run=1/seg/0", b"again")
    assert store.get("v1/run=1/seg/0") == b"again"


def test_a_run_is_written_and_read(place: Place) -> None:
    """Writer, reader and listing on each storage, with clients of their own, and a second attempt after the first."""
    for attempt in (1, 2):
        writer = LedgerWriter(place.open(), RUN)
        writer.open(started())
        writer.append(note(f"attempt {attempt}"))
        writer.put_file("run_results.json", b"{}")
        writer.close(finished())
    assert notes(ChainReader(place.open(), RUN).read()) == ["attempt 1", "attempt 2"]
    assert list(list_runs(place.open())) == [RUN]


@pytest.mark.parametrize("place", [kind for kind in KINDS if kind != "test"], indirect=True)
def test_a_store_is_named_by_its_root(place: Place, store: Store) -> None:
    """For messages, and to open it again."""
    assert store.root == (f"file://{place.uri}" if place.uri.startswith("/") else place.uri)
    store.create("a", b"x")
    assert open_store(store.root, storage_options=place.options).get("a") == b"x"


# Over HTTP ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", HTTP, indirect=True)
def test_requests_that_each_call_costs(place: Place) -> None:
    """One each, whatever the answer: counted on the wire."""
    store = place.open()
    with pytest.raises(Missing):  # the first time, GCS is asked for the bucket too
        store.get("seg/0")

    def cost(call: Callable[[], object], error: type[Exception] | None = None) -> list[str]:
        place.wire.requests.clear()
        if error is None:
            call()
        else:
            with pytest.raises(error):
                call()
        return [method for method, _ in place.wire.requests]

    put = "POST" if place.uri.startswith("gs:") else "PUT"
    assert cost(lambda: store.get("seg/0"), Missing) == ["GET"]
    assert cost(lambda: store.create("seg/0", b"x")) == [put]
    assert cost(lambda: store.create("seg/0", b"x"), Exists) == [put]
    assert cost(lambda: store.get("seg/0")) == ["GET"]
    listing = ["GET"] * (2 if place.uri.startswith("abfs:") else 1)  # adlfs looks for the folder, then into it
    assert cost(lambda: store.list("seg")) == listing
    assert cost(lambda: store.delete("seg/0")) == ["DELETE"]


OPERATIONS: dict[str, Callable[[Store], object]] = {
    "create": lambda store: store.create("a", b"x"),
    "get": lambda store: store.get("a"),
    "list": lambda store: store.list("v1"),
    "delete": lambda store: store.delete("a"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("place", HTTP, indirect=True)
def test_a_missing_bucket_is_a_mistake_of_the_input(place: Place, operation: str) -> None:
    """Also for a listing: an empty answer would look like a ledger without runs."""
    store = place.elsewhere("no-such-bucket-here")
    with pytest.raises(ConfigError, match="bucket or container does not exist"):
        OPERATIONS[operation](store)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_wrong_key_of_azure_is_denied(azurite: Azurite, operation: str) -> None:
    """By the server, or by the library where it is no key at all."""
    for key in ("d3Jvbmc=", "wrong"):
        store = open_store(f"az://{azurite.bucket()}/ledger", storage_options={"connection_string": azurite.connection_string(key)})
        with pytest.raises(Denied, match="Check the credentials and permissions"):
            OPERATIONS[operation](store)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("place", ["ceph"], indirect=True)
def test_a_wrong_key_of_ceph_is_denied(place: Place, operation: str) -> None:
    """The secret, and the name."""
    for wrong in ({"secret": "wrong"}, {"key": "unknown"}):
        with pytest.raises(Denied, match="Check the credentials and permissions"):
            OPERATIONS[operation](place.open(**wrong))


def test_an_azure_account_may_come_from_the_environment(azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the URI is needed where the environment says the rest, as in a container."""
    uri = f"abfs://{azurite.bucket()}/ledger"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string())
    open_store(uri).create("a", b"x")
    assert open_store(uri).get("a") == b"x"


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_a_store_may_be_pickled_and_inherited_by_a_fork(request: pytest.FixtureRequest, kind: str) -> None:
    """Airflow forks: a client that was used before is not used after, since its loop and sockets belong to the parent."""
    store = place_of(kind, request).open()
    store.create("parent", b"x")
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, input=pickle.dumps(store), check=False, timeout=PATIENCE, capture_output=True)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    assert store.get("child") == b"x"


FORK = """
import os, pickle, sys
store = pickle.load(sys.stdin.buffer)
store.get("parent")
child = os.fork()
if child == 0:
    store.create("child", store.get("parent"))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "the child could not use the store that it inherited"
assert store.get("child") == b"x"
"""
