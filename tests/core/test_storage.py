"""One contract for every storage: a local folder, fsspec's memory, and S3 over HTTP."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs

from ledger_watcher.errors import ConfigError, Denied, Exists, Missing, StorageError, Transient
from ledger_watcher.ledger import ChainReader, LedgerWriter, RunKey, list_runs
from ledger_watcher.storage import FsspecStore, LocalStore, Store, check_scheme, open_store, split_uri
from tests.core.chains import RUN, finished, note, notes, started
from tests.core.servers import CREDENTIALS, MotoServer
from tests.core.stores import PATIENCE

NAME = "v1/deployment=default/dag=d%2Fe/run=manual__2026-07-31T10%3A00%3A00%2B00%3A00/group=/map=-1"
BYTES = [b"x", b"", bytes(range(256)) * 3, b"\r\n\n\r", "caf\u00e9\u2028".encode(), os.urandom(1) * 5 * 1024 * 1024]


@dataclass
class Place:
    """A root, and how to open it; each store is a client of its own, as in another process."""

    uri: str
    options: dict[str, Any] | None = None

    def open(self) -> Store:
        return open_store(self.uri, storage_options=self.options)


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty root of each kind."""
    if request.param == "local":
        return Place(str(tmp_path / "ledger"))
    if request.param == "memory":
        return Place(f"memory://{uuid.uuid4().hex}/ledger")
    moto: MotoServer = request.getfixturevalue("moto")
    return Place(f"s3://{moto.bucket()}/ledger", {**CREDENTIALS, "endpoint_url": moto.url})


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


# The contract ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", BYTES, ids=lambda data: f"{len(data)} bytes")
def test_what_is_created_is_what_is_got(place: Place, store: Store, data: bytes) -> None:
    """Bytes are exact, here and for another client, whatever they are and however many."""
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
    names = ["+more", "a%2Fb", "a%252Fb", "dag=x", "map=-1", "x%2E", "~"]
    for name in names:
        store.create(f"{name}/seg/0", b"x")
    assert store.list("") == sorted(names)
    for name in names:
        assert store.get(f"{name}/seg/0") == b"x"


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


def race(create: Callable[[int], None], racers: int = 50) -> list[int]:
    """Who won when all created at once."""
    barrier = threading.Barrier(racers)

    def run(number: int) -> bool:
        barrier.wait(PATIENCE)
        try:
            create(number)
        except Exists:
            return False
        return True

    with ThreadPoolExecutor(racers) as pool:
        return [number for number, won in enumerate(pool.map(run, range(racers))) if won]


@pytest.mark.parametrize("clients", ["one client", "many clients"])
@pytest.mark.parametrize("place", ["local", "s3"], indirect=True)
def test_of_fifty_creators_exactly_one_wins(place: Place, clients: str) -> None:
    """Create-if-absent is what the whole ledger stands on: one winner, and its bytes.

    Not in fsspec's memory, which checks and then writes without a lock: it is for one thread.
    """
    stores = [place.open() for _ in range(50)] if clients == "many clients" else [place.open()] * 50
    for round_ in range(3):
        key = f"seg/{round_}"
        winners = race(lambda number, key=key: stores[number].create(key, f"{number}".encode() * 100))
        assert len(winners) == 1
        assert stores[0].get(key) == f"{winners[0]}".encode() * 100


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


def test_a_store_is_named_by_its_root(place: Place, store: Store) -> None:
    """For messages, and to open it again."""
    assert store.root == (f"file://{place.uri}" if place.uri.startswith("/") else place.uri)
    store.create("a", b"x")
    assert open_store(store.root, storage_options=place.options).get("a") == b"x"


FORK = """
import os, sys
from ledger_watcher.storage import open_store
store = open_store(sys.argv[1], storage_options={"endpoint_url": sys.argv[2], "key": "testing", "secret": "testing"})
store.create("parent", b"x")
child = os.fork()
if child == 0:
    store.create("child", store.get("parent"))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "the child could not use the store that it inherited"
assert store.get("child") == b"x"
"""


def test_a_store_may_be_inherited_by_a_fork(moto: MotoServer) -> None:
    """Airflow forks: a client that was used before is not used after, since its loop and sockets belong to the parent."""
    command = [sys.executable, "-W", "ignore", "-c", FORK, f"s3://{moto.bucket()}/ledger", moto.url]
    done = subprocess.run(command, check=False, timeout=PATIENCE, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# S3 ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def s3(moto: MotoServer) -> Place:
    return Place(f"s3://{moto.bucket()}/ledger", {**CREDENTIALS, "endpoint_url": moto.url})


def test_requests_that_each_call_costs_on_s3(s3: Place, moto: MotoServer) -> None:
    """One each, whatever the answer: counted where they arrive."""
    store = s3.open()
    path = f"/{s3.uri.removeprefix('s3://')}/seg/0"

    def cost(call: Callable[[], object], error: type[Exception] | None = None) -> list[tuple[str, str]]:
        moto.requests.clear()
        if error is None:
            call()
        else:
            with pytest.raises(error):
                call()
        return list(moto.requests)

    assert cost(lambda: store.get("seg/0"), Missing) == [("GET", path)]
    assert cost(lambda: store.create("seg/0", b"x")) == [("PUT", path)]
    assert cost(lambda: store.create("seg/0", b"x"), Exists) == [("PUT", path)]
    assert cost(lambda: store.get("seg/0")) == [("GET", path)]
    assert cost(lambda: store.list("seg")) == [("GET", f"/{s3.uri.split('/')[2]}")]


def test_a_poll_of_a_run_costs_one_request_on_s3(s3: Place, moto: MotoServer) -> None:
    """Hit or miss, through reader, store and library."""
    writer = LedgerWriter(s3.open(), RUN)
    writer.open(started())
    writer.close(finished())
    reader = ChainReader(s3.open(), RUN)
    for found in (True, True, False, False):
        moto.requests.clear()
        assert (reader.poll() is not None) == found
        assert [method for method, _ in moto.requests] == ["GET"]


def test_a_listings_cache_of_the_library_does_not_hide_new_objects(s3: Place) -> None:
    """A filesystem that comes from elsewhere (an Airflow connection) may cache listings: reads and lists go past it."""

    def cached() -> s3fs.S3FileSystem:
        return s3fs.S3FileSystem(**s3.options or {}, use_listings_cache=True, skip_instance_cache=True)

    store = open_store(s3.uri, filesystem=cached)
    s3.open().create("seg/0", b"x")
    assert store.list("seg") == ["0"]
    s3.open().create("seg/1", b"new")
    assert store.get("seg/1") == b"new"
    assert store.list("seg") == ["0", "1"]


def test_a_filesystem_from_elsewhere_is_built_once_and_late(s3: Place) -> None:
    """Not when the store is opened (an Airflow connection would be asked for while DAGs are parsed), and once for all calls."""
    built: list[object] = []

    def build() -> s3fs.S3FileSystem:
        built.append(None)
        return s3fs.S3FileSystem(**s3.options or {})

    store = open_store(s3.uri, filesystem=build)
    assert built == []
    store.create("a", b"x")
    store.get("a")
    assert built == [None]


def test_an_endpoint_may_come_from_the_environment(s3: Place, moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the URI is needed where the environment says the rest, as in a container."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    s3.open().create("a", b"x")
    code = "import sys; from ledger_watcher.storage import open_store; sys.stdout.buffer.write(open_store(sys.argv[1]).get('a'))"
    assert subprocess.run([sys.executable, "-c", code, s3.uri], check=True, timeout=PATIENCE, capture_output=True).stdout == b"x"


def test_options_of_the_user_leave_the_bounds_of_requests_alone(s3: Place) -> None:
    """A proxy or a signature version given to botocore does not bring back its retries of up to a minute."""
    store = open_store(s3.uri, storage_options={**(s3.options or {}), "config_kwargs": {"max_pool_connections": 7}})
    assert isinstance(store, FsspecStore)
    config = store._filesystem().config_kwargs
    assert config["retries"] == {"mode": "standard", "total_max_attempts": 1}
    assert (config["connect_timeout"], config["read_timeout"], config["max_pool_connections"]) == (3, 10, 7)


@pytest.mark.parametrize("operation", ["create", "get", "list"])
def test_a_missing_bucket_is_a_mistake_of_the_input(moto: MotoServer, operation: str) -> None:
    """Also for a listing: an empty answer would look like a ledger without runs."""
    store = open_store("s3://no-such-bucket-here/ledger", storage_options={**CREDENTIALS, "endpoint_url": moto.url})
    with pytest.raises(ConfigError, match="bucket or container does not exist"):
        store.create("a", b"x") if operation == "create" else store.get("a") if operation == "get" else store.list("v1")


@pytest.fixture
def strict(moto: MotoServer) -> Iterator[MotoServer]:
    """moto with IAM in force."""
    moto.require_credentials(required=True)
    yield moto
    moto.require_credentials(required=False)


@pytest.mark.parametrize("operation", ["create", "get", "list"])
def test_credentials_that_nobody_knows_are_denied(s3: Place, strict: MotoServer, operation: str) -> None:
    """A person must act: the message says which permissions are needed."""
    store = open_store(s3.uri, storage_options={"endpoint_url": strict.url, "key": "AKIAUNKNOWN", "secret": "wrong"})
    with pytest.raises(Denied, match="Check the credentials and permissions"):
        store.create("a", b"x") if operation == "create" else store.get("a") if operation == "get" else store.list("v1")


@pytest.mark.parametrize("operation", ["create", "get", "list"])
def test_no_credentials_at_all_are_denied(s3: Place, moto: MotoServer, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Nothing is configured: said at once, without a request."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = open_store(s3.uri, storage_options={"endpoint_url": f"{moto.url}/"})  # not the client of another test
    moto.requests.clear()
    with pytest.raises(Denied, match="NoCredentialsError"):
        store.create("a", b"x") if operation == "create" else store.get("a") if operation == "get" else store.list("v1")
    assert moto.requests == []


# The local folder --------------------------------------------------------------------------------------------------------


def test_a_half_written_file_is_never_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the link, which is atomic, nothing has the object's name; what gets it is complete, and safe on the disk."""
    store = LocalStore(str(tmp_path))
    steps: list[str] = []
    link, fsync = os.link, os.fsync

    def watched_link(source: Path, target: Path) -> None:
        with pytest.raises(Missing):
            store.get("seg/0")
        assert store.list("seg") == []
        assert source.read_bytes() == b"x" * 1000
        steps.append("link")
        link(source, target)
        assert store.get("seg/0") == b"x" * 1000

    def watched_fsync(descriptor: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    monkeypatch.setattr(os, "link", watched_link)
    monkeypatch.setattr(os, "fsync", watched_fsync)
    store.create("seg/0", b"x" * 1000)
    assert steps == ["sync file", "link", "sync folder"]
    assert [path.name for path in (tmp_path / "seg").iterdir()] == ["0"], "the temporary name is gone"


@pytest.mark.parametrize("step", ["link", "fsync"])
def test_a_writer_that_dies_before_the_link_leaves_no_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Interrupted at the worst moment, the slot is free and the next try takes it."""
    store = LocalStore(str(tmp_path))

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, step, die)
        with pytest.raises(KeyboardInterrupt):
            store.create("seg/0", b"half")
    assert list((tmp_path / "seg").iterdir()) == []
    store.create("seg/0", b"whole")
    assert store.get("seg/0") == b"whole"


def test_leftovers_of_a_killed_writer_are_not_objects(tmp_path: Path) -> None:
    """A temporary file that nobody removed is neither listed nor in the way of a chain."""
    store = LocalStore(str(tmp_path))
    store.create(RUN.segment(0), b"x")
    (tmp_path / RUN.prefix / "seg" / ".0000000001.jsonl.0123.tmp").write_bytes(b"ha")
    assert store.list(f"{RUN.prefix}/seg") == ["0000000000.jsonl"]
    assert ChainReader(store, RunKey("other", "r")).poll() is None
    store.create(RUN.segment(1), b"y")
    assert store.list(f"{RUN.prefix}/seg") == ["0000000000.jsonl", "0000000001.jsonl"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EEXIST, errno.ESTALE])
def test_a_link_that_nfs_made_and_reported_as_failed_is_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Its answer was lost and the client's second try found the name taken: the number of links tells."""
    store = LocalStore(str(tmp_path))
    link = os.link

    def lossy(source: Path, target: Path) -> None:
        link(source, target)
        raise OSError(number, "the answer was lost", str(source), None, str(target))

    monkeypatch.setattr(os, "link", lossy)
    store.create("seg/0", b"mine")
    assert store.get("seg/0") == b"mine"


def test_a_link_that_failed_because_another_was_first_is_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is taken by somebody else's file: ours has one link only."""
    store = LocalStore(str(tmp_path))
    link = os.link

    def late(source: Path, target: Path) -> None:
        target.write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(Exists):
        store.create("seg/0", b"mine")
    assert store.get("seg/0") == b"theirs"
    assert [path.name for path in (tmp_path / "seg").iterdir()] == ["0"]


LOCAL_ERRORS = [
    (errno.EACCES, Denied),
    (errno.EPERM, Denied),
    (errno.EROFS, Denied),
    (errno.ENOSPC, Transient),
    (errno.EDQUOT, Transient),
    (errno.EIO, Transient),
    (errno.ESTALE, Transient),
    (errno.ENOENT, Transient),
    (errno.EOPNOTSUPP, ConfigError),
    (errno.EMLINK, ConfigError),
    (errno.ENAMETOOLONG, ConfigError),
]


@pytest.mark.parametrize(
    ("number", "error"), LOCAL_ERRORS, ids=lambda value: errno.errorcode.get(value) if isinstance(value, int) else None
)
@pytest.mark.parametrize("step", ["link", "mkdir", "fsync"])
def test_what_an_error_of_the_file_system_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], step: str
) -> None:
    """Wherever it strikes: retry, ask a person, or correct the input; and no temporary file stays."""
    store = LocalStore(str(tmp_path))

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(error) as caught:
            store.create("seg/0", b"x")
    assert type(caught.value) is error
    assert str(tmp_path) in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_reader_of_a_missing_or_broken_root_is_told_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing there yet is Missing; what may not be read, or cannot at the moment, is not."""
    assert LocalStore(str(tmp_path / "absent")).list("v1") == []
    store = LocalStore(str(tmp_path))
    for number, error in [(errno.EACCES, Denied), (errno.EIO, Transient), (errno.ESTALE, Transient)]:

        def fail(*args: object, number: int = number, **kwargs: object) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", fail)
            patch.setattr(os, "scandir", fail)
            with pytest.raises(error):
                store.get("a")
            with pytest.raises(error):
                store.list("a")


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_root_that_is_a_file_is_a_mistake_of_the_input(tmp_path: Path, below: str) -> None:
    """The message says which path is no folder."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"file.*choose another ledger URI"):
        LocalStore(str(tmp_path / "file" / below)).create("v1/seg/0", b"x")
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_of_the_ledger_that_is_a_file_is_a_mistake_of_the_input(tmp_path: Path) -> None:
    """Something else uses the folder."""
    (tmp_path / "v1").write_text("x")
    with pytest.raises(ConfigError, match=r"v1 is no folder where a ledger needs one|lies below a file"):
        LocalStore(str(tmp_path)).create("v1/0", b"x")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write anywhere; somebody else is nobody enough."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder, reachable by anybody, that may be neither read nor written."""
    folder = tmp_path / "closed"
    folder.mkdir()
    for part in (tmp_path, *tmp_path.parents):
        if part.stat().st_uid == os.geteuid() and part.stat().st_mode & 0o777 == 0o700:
            part.chmod(0o711)
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def test_a_folder_that_may_not_be_used_is_denied(closed: Path) -> None:
    """By the real file system, for each operation."""
    store = LocalStore(str(closed))
    for call in (lambda: store.create("a/b", b"x"), lambda: store.create("a", b"x"), lambda: store.get("a"), lambda: store.list("")):
        with as_nobody(), pytest.raises(Denied, match="Check the credentials and permissions"):
            call()


def test_relative_roots_and_the_users_folder_are_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the working directory does not move the ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    relative, home = open_store("some/where"), open_store("~/ledger")
    monkeypatch.chdir("/")
    relative.create("a", b"x")
    home.create("a", b"x")
    assert (tmp_path / "some/where/a").read_bytes() == (tmp_path / "home/ledger/a").read_bytes() == b"x"
    assert relative.root == f"file://{tmp_path}/some/where"


# URIs --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("/a/b", ("file", "/a/b")),
        ("a/b", ("file", "a/b")),
        ("C:dir", ("file", "C:dir")),
        ("/with #hash?", ("file", "/with #hash?")),
        ("file:///a/b", ("file", "/a/b")),
        ("file://localhost/a", ("file", "/a")),
        ("s3://bucket", ("s3", "bucket")),
        ("s3://bucket/a/b/", ("s3", "bucket/a/b/")),
        ("memory://a/b", ("memory", "a/b")),
        ("gs://b-1.x_y/p", ("gs", "b-1.x_y/p")),
    ],
)
def test_uris_of_ledgers(uri: str, parts: tuple[str, str]) -> None:
    """A path is a folder; everything else names its scheme."""
    assert split_uri(uri) == parts


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        (None, "is empty"),
        ("s3://", "names no bucket"),
        ("s3:///prefix", "names no bucket"),
        ("gs://", "names no bucket"),
        ("s3:/bucket/prefix", "one slash after its scheme"),
        ("file:/a", "one slash after its scheme"),
        ("foo://bucket/x", "unknown scheme 'foo'"),
        ("://bucket", "names no bucket"),
        ("s3://[bucket/x", "cannot be parsed"),
        ("s3://key:s3cr3t@bucket/x", "holds credentials"),
        ("s3://s3cr3t@bucket/x", "holds credentials"),
        ("file://user:s3cr3t@host/x", "holds credentials"),
        ("s3://bucket/x?sig=s3cr3t", "query or fragment"),
        ("s3://bucket/x#s3cr3t", "query or fragment"),
        ("file:///a/b?c", "query or fragment"),
        ("file:///a/b#c", "query or fragment"),
        ("file://host/a", "names no local folder"),
        ("file://", "names no local folder"),
        ("~no-such-user-here/x", "cannot be found"),
    ],
)
def test_uris_that_are_no_ledgers(uri: str, problem: str) -> None:
    """Refused before anything is read or written, with what to write instead, and without repeating a secret."""
    with pytest.raises(ConfigError, match=problem) as caught:
        open_store(uri)
    assert "s3cr3t" not in str(caught.value)


def test_a_scheme_is_checked_without_importing_its_library() -> None:
    """Where DAGs are parsed, the library of the storage need not be installed."""
    code = "import sys; from ledger_watcher.storage import check_scheme; check_scheme('s3://b/x'); print('s3fs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE, capture_output=True).stdout == b"False\n"
    with pytest.raises(ConfigError, match="unknown scheme"):
        check_scheme("foo://b/x")


def test_a_scheme_that_a_plugin_registered_is_known() -> None:
    """fsspec's own registry decides."""
    fsspec.register_implementation("ledgertest", "fsspec.implementations.memory.MemoryFileSystem", clobber=True)
    check_scheme("ledgertest://b/x")


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first request, which is when the library is needed."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    store = open_store("gs://bucket/x")
    with pytest.raises(ConfigError, match=r"library that is not installed here.*pip install 'ledger-watcher\[gcs\]'"):
        store.get("a")


def test_options_that_have_no_meaning_are_refused(tmp_path: Path) -> None:
    """For a folder there are none; for a library, what it does not know is said as a mistake of the input."""
    with pytest.raises(ConfigError, match=r"storage_options \['key'\] have no meaning"):
        open_store(str(tmp_path), storage_options={"key": "x"})
    store = open_store("s3://bucket/x", storage_options={"asynchronous": "x", "loop": 1, "max_concurrency": 0})
    with pytest.raises(ConfigError, match="cannot be opened with these storage options"):
        store.get("a")


def test_every_error_of_a_storage_is_a_storage_error() -> None:
    """So that one clause catches what a storage may say."""
    assert all(issubclass(kind, StorageError) for kind in (Exists, Missing, Denied, Transient))
