"""What is particular to one storage: S3's configuration, the local folder's files, URIs."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
import s3fs

from ledger_watcher.errors import ConfigError, Denied, Exists, Missing, StorageError, Transient
from ledger_watcher.ledger import ChainReader, LedgerWriter, RunKey
from ledger_watcher.storage import FsspecStore, LocalStore, check_scheme, open_store, split_uri
from tests.core.chains import RUN, finished, started
from tests.core.places import Place
from tests.core.servers import CREDENTIALS, MotoServer
from tests.core.stores import PATIENCE

# S3 ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def s3(moto: MotoServer) -> Place:
    return Place(f"s3://{moto.bucket()}/ledger", {**CREDENTIALS, "endpoint_url": moto.url})


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
        ("abfs://container/p", ("abfs", "container/p")),
        ("az://container", ("az", "container")),
        ("abfs://container@account.dfs.core.windows.net/p/q", ("abfs", "container/p/q")),
        ("abfss://my-logs@account.blob.core.windows.net/p", ("abfss", "my-logs/p")),
        ("az://$root@acc1.dfs.core.chinacloudapi.cn/p", ("az", "$root/p")),
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
        ("abfs://account:s3cr3t@account.dfs.core.windows.net/x", "holds credentials"),
        ("abfs://s3cr3t@container/x", "holds credentials"),
        ("s3://s3cr3t@account.dfs.core.windows.net/x", "holds credentials"),
        ("abfs://account.dfs.core.windows.net/x", "names an account but no container; write abfs://container@account"),
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


@pytest.mark.parametrize(
    ("uri", "options", "url"),
    [
        ("abfs://container@one.dfs.core.windows.net/p", {}, "https://one.blob.core.windows.net/"),
        ("az://container@one.blob.core.chinacloudapi.cn/p", {}, "https://one.blob.core.chinacloudapi.cn/"),
        ("abfss://container@one.dfs.core.windows.net/p", {"account_name": "other"}, "https://other.blob.core.windows.net/"),
        ("abfs://container/p", {"account_name": "other"}, "https://other.blob.core.windows.net/"),
    ],
)
def test_the_account_of_an_azure_uri(uri: str, options: dict[str, str], url: str) -> None:
    """It is the host behind the @, unless the options name another."""
    store = open_store(uri, storage_options={"anon": True, **options})
    assert isinstance(store, FsspecStore)
    assert store._filesystem().service_client.url == url


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
    monkeypatch.setitem(sys.modules, "gcsfs.core", None)
    store = open_store("gs://bucket/x")
    with pytest.raises(ConfigError, match=r"library that is not installed here.*pip install 'ledger-watcher\[gcs\]'"):
        store.get("a")


def test_a_library_whose_retries_cannot_be_found_is_refused() -> None:
    """Rather than wait for its retries unseen: it is said what is wrong."""
    from gcsfs.core import GCSFileSystem

    class Newer(GCSFileSystem):  # type: ignore[misc]
        async def _request(self, *args: object, **kwargs: object) -> None:
            """Retries in a way of its own."""

    store = open_store("gs://bucket/x", filesystem=lambda: Newer(token="anon", project="p"))
    with pytest.raises(ConfigError, match="This version of gcsfs retries in a way"):
        store.get("a")


@pytest.mark.parametrize("path", ["v1/run=1/seg/0", "top"])
def test_a_deletion_leaves_no_empty_folder_and_spares_the_root(tmp_path: Path, path: str) -> None:
    """What is beside stays, the root itself too."""
    store = LocalStore(str(tmp_path / "root"))
    store.create(path, b"x")
    (tmp_path / "root" / "beside").mkdir()
    store.delete(path)
    assert [entry.name for entry in (tmp_path / "root").iterdir()] == ["beside"]


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


def test_delete_does_not_follow_a_link_out_of_the_ledger(tmp_path: Path) -> None:
    """Whoever may write in a ledger must not make `gc` delete what lies elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    root = tmp_path / "ledger"
    root.mkdir()
    (root / "v1").symlink_to(outside)
    with pytest.raises(Denied, match="leads out of the ledger"):
        LocalStore(str(root)).delete("v1/precious")
    assert (outside / "precious").exists()
