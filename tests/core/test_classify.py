"""What an answer of a storage means: the same few words whatever the library calls it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import pytest
from azure.storage.blob import StorageErrorCode
from botocore.exceptions import ClientError, NoCredentialsError

from ledger_watcher import codec
from ledger_watcher.errors import Ambiguous, ConfigError, Denied, Exists, LedgerWatcherError, Missing, Transient
from ledger_watcher.ledger import ChainReader, Kind
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.storage import Store, open_store
from ledger_watcher.storage._classify import translate
from tests.core.chains import RUN, note, notes, started
from tests.core.servers import CREDENTIALS, StubServer


@pytest.fixture
def store(stub: StubServer) -> Store:
    options = {**CREDENTIALS, "endpoint_url": stub.url, "config_kwargs": {"read_timeout": 0.3}}
    return open_store("s3://bucket/base", storage_options=options)


ANSWERS = [
    ((412, "PreconditionFailed"), Exists, Transient),
    ((409, "ConditionalRequestConflict"), Ambiguous, Transient),
    ((409, "OperationAborted"), Ambiguous, Transient),
    ((500, "InternalError"), Ambiguous, Transient),
    ((500, None), Ambiguous, Transient),
    ((502, None), Ambiguous, Transient),
    ((503, "SlowDown"), Ambiguous, Transient),
    ((503, "ServiceUnavailable"), Ambiguous, Transient),
    ((503, None), Ambiguous, Transient),
    ((429, "TooManyRequests"), Ambiguous, Transient),
    ((400, "RequestTimeout"), Ambiguous, Transient),
    ((400, "InvalidArgument"), Ambiguous, Transient),
    ((403, "AccessDenied"), Denied, Denied),
    ((403, None), Denied, Denied),
    ((403, "InvalidAccessKeyId"), Denied, Denied),
    ((403, "SignatureDoesNotMatch"), Denied, Denied),
    ((403, "RequestTimeTooSkewed"), Denied, Denied),
    ((401, None), Denied, Denied),
    ((400, "ExpiredToken"), Denied, Denied),
    ((400, "InvalidToken"), Denied, Denied),
    ((404, "NoSuchBucket"), ConfigError, ConfigError),
    ((404, "NoSuchKey"), ConfigError, Missing),
    ((404, None), ConfigError, Missing),
    ((501, "NotImplemented"), ConfigError, ConfigError),
    ((400, "InvalidBucketName"), ConfigError, ConfigError),
    ((400, "KeyTooLongError"), ConfigError, ConfigError),
    ((400, "AuthorizationHeaderMalformed"), ConfigError, ConfigError),
    ("hang", Ambiguous, Transient),
]


@pytest.mark.parametrize(("answer", "error"), [(answer, create) for answer, create, _ in ANSWERS], ids=str)
def test_what_the_answer_to_a_create_means(
    store: Store, stub: StubServer, answer: tuple[int, str | None] | str, error: type[Exception]
) -> None:
    """Each answer of a real HTTP server, through s3fs, is one error; and there is one request, since the caller owns the retries."""
    stub.answers.append(answer)
    with pytest.raises(error) as caught:
        store.create("key", b"x")
    assert type(caught.value) is error
    assert "s3://bucket/base/key" in str(caught.value)
    assert stub.requests == [("PUT", "/bucket/base/key")]


@pytest.mark.parametrize(("answer", "error"), [(answer, get) for answer, _, get in ANSWERS], ids=str)
def test_what_the_answer_to_a_get_means(
    store: Store, stub: StubServer, answer: tuple[int, str | None] | str, error: type[Exception]
) -> None:
    """The same for reading, where nothing is ever ambiguous."""
    stub.objects["/bucket/base/key"] = b"x"
    stub.answers.append(answer)
    with pytest.raises(error) as caught:
        store.get("key")
    assert type(caught.value) is error
    assert "s3://bucket/base/key" in str(caught.value)
    assert stub.requests == [("GET", "/bucket/base/key")]


@pytest.mark.parametrize("answer", ["reset", "lost"])
def test_a_connection_that_breaks_twice_leaves_a_create_in_doubt(store: Store, stub: StubServer, answer: str) -> None:
    """aiohttp repeats a PUT once on its own; when that breaks too, nobody knows. A read has no doubt to leave."""
    stub.answers.extend([answer] * 2)
    with pytest.raises(Ambiguous):
        store.create("key", b"x")
    assert stub.requests == [("PUT", "/bucket/base/key")] * 2
    assert ("/bucket/base/key" in stub.objects) == (answer == "lost")
    stub.answers.extend([answer] * 2)
    with pytest.raises(Transient):
        store.get("key")


def test_a_repetition_by_the_library_turns_our_own_success_into_exists(store: Store, stub: StubServer) -> None:
    """Why Exists does not mean that somebody else was there: the first PUT succeeded, its answer was lost, the second met it."""
    stub.answers.append("lost")
    with pytest.raises(Exists):
        store.create("key", b"mine")
    assert store.get("key") == b"mine"


@pytest.mark.parametrize("operation", ["create", "get"])
def test_a_bucket_of_another_region_is_a_mistake_of_the_input(store: Store, stub: StubServer, operation: str) -> None:
    """S3 redirects for ever; the library may look for the region first."""
    stub.answers.extend([(301, "PermanentRedirect")] * 5)
    with pytest.raises(ConfigError, match="Correct the ledger URI or its storage options"):
        store.create("key", b"x") if operation == "create" else store.get("key")


def test_a_body_that_breaks_off_is_not_an_object(store: Store, stub: StubServer) -> None:
    """Half an answer is no answer: the read is tried again, and never returns half a segment."""
    stub.objects["/bucket/base/key"] = b"x" * 1000
    stub.answers.append("truncate")
    with pytest.raises(Transient):
        store.get("key")
    assert store.get("key") == b"x" * 1000


def test_the_range_of_an_empty_object_is_not_an_error(store: Store, stub: StubServer) -> None:
    """Asked from byte 0, S3 answers 416 for an object without bytes."""
    stub.answers.append((416, "InvalidRange"))
    assert store.get("key") == b""


def test_a_port_where_nobody_listens_was_never_asked() -> None:
    """Nothing was sent, so a create has no doubt about it."""
    gone = StubServer()
    gone.stop()
    store = open_store("s3://bucket/base", storage_options={**CREDENTIALS, "endpoint_url": gone.url})
    for call in (lambda: store.create("key", b"x"), lambda: store.get("key"), lambda: store.list("v1")):
        with pytest.raises(Transient):
            call()


def test_an_impossible_bucket_name_is_said_at_once(store: Store, stub: StubServer) -> None:
    """The library refuses it before a request is made; trying for half a minute would not help."""
    wrong = open_store("s3://No_such!/root", storage_options={**CREDENTIALS, "endpoint_url": stub.url})
    with pytest.raises(ConfigError, match="Invalid bucket name"):
        wrong.create("key", b"x")
    assert stub.requests == []


def test_a_chain_over_an_s3_that_loses_answers_is_complete(store: Store, stub: StubServer) -> None:
    """Lost answers, broken connections, conflicts and throttling on the wire: the ledger holds each record once, in order."""
    spoilt: list[tuple[int, str | None] | str] = ["lost", "reset", (503, "SlowDown"), (409, "ConditionalRequestConflict"), (500, None)]
    writer = ChainWriter(store, RUN)
    writer.claim(started())
    for number, (first, second) in enumerate(pairwise(spoilt * 2)):
        writer.stage(Kind.DATA, [codec.encode(note(str(number)))])
        stub.answers.extend([first, second])
        last = writer.last
        while writer.last is last:
            with suppress(Transient):
                writer.push()
        stub.answers.clear()
    assert notes(ChainReader(store, RUN).read()) == [str(number) for number in range(9)]
    assert len(stub.objects) == 10


# Exceptions of libraries that no server here speaks for -------------------------------------------------------------------


def with_attributes(base: type[Exception], name: str, **attributes: object) -> Exception:
    """An exception of a library that is not installed here, by its name and what it carries."""
    error = type(name, (base,), {})("as the library says")
    for key, value in attributes.items():
        setattr(error, key, value)
    return error


def caused(error: Exception, cause: Exception) -> Exception:
    """``error`` raised from ``cause``."""
    error.__cause__ = cause
    return error


def boto(status: int, code: str) -> ClientError:
    """botocore's error."""
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


@pytest.mark.parametrize(
    ("make", "create", "get"),
    [
        (lambda: FileExistsError("x"), Exists, Transient),
        (lambda: FileNotFoundError("x"), ConfigError, Missing),
        (lambda: PermissionError("x"), Denied, Denied),
        (lambda: TimeoutError("x"), Ambiguous, Transient),
        (lambda: OSError(5, "x"), Ambiguous, Transient),
        (lambda: RuntimeError("x"), Ambiguous, Transient),
        (lambda: ConnectionRefusedError("x"), Transient, Transient),
        (lambda: ConnectionResetError("x"), Ambiguous, Transient),
        (lambda: NotImplementedError("x"), ConfigError, ConfigError),
        (NoCredentialsError, Denied, Denied),
        (lambda: boto(412, "PreconditionFailed"), Exists, Transient),
        (lambda: caused(OSError(22, "Ceph"), boto(412, "PreconditionFailed")), Exists, Transient),
        (lambda: caused(OSError(5, "x"), boto(409, "ConditionalRequestConflict")), Ambiguous, Transient),
        (lambda: caused(PermissionError("x"), boto(403, "AccessDenied")), Denied, Denied),
        (lambda: caused(FileNotFoundError("x"), boto(404, "NoSuchBucket")), ConfigError, ConfigError),
        (lambda: with_attributes(Exception, "HttpError", code=409), Ambiguous, Transient),
        (lambda: with_attributes(Exception, "HttpError", code=412), Exists, Transient),
        (lambda: with_attributes(Exception, "HttpError", code="403"), Denied, Denied),
        (lambda: with_attributes(Exception, "HttpError", code=None), Ambiguous, Transient),
        (lambda: caused(FileExistsError("x"), with_attributes(Exception, "HttpError", code=412)), Exists, Transient),
        (lambda: with_attributes(Exception, "RefreshError"), Denied, Denied),
        (lambda: with_attributes(Exception, "DefaultCredentialsError"), Denied, Denied),
        (lambda: with_attributes(Exception, "ResourceExistsError", status_code=409, error_code="BlobAlreadyExists"), Exists, Transient),
        (lambda: with_attributes(Exception, "ResourceNotFoundError", status_code=404, error_code="BlobNotFound"), ConfigError, Missing),
        (
            lambda: with_attributes(Exception, "ResourceNotFoundError", status_code=404, error_code="ContainerNotFound"),
            ConfigError,
            ConfigError,
        ),
        (lambda: with_attributes(Exception, "HttpResponseError", status_code=403, error_code="AuthorizationFailure"), Denied, Denied),
        (lambda: with_attributes(Exception, "X", status_code=409, error_code=StorageErrorCode.BLOB_ALREADY_EXISTS), Exists, Transient),
        (
            lambda: with_attributes(Exception, "X", status_code=404, error_code=StorageErrorCode.CONTAINER_NOT_FOUND),
            ConfigError,
            ConfigError,
        ),
        (lambda: with_attributes(Exception, "X", status_code=403, error_code="UnauthorizedBlobOverwrite"), Exists, Denied),
        (lambda: with_attributes(Exception, "X", status_code=409, error_code="ContainerBeingDeleted"), Ambiguous, Transient),
        (lambda: with_attributes(Exception, "CredentialUnavailableError"), Denied, Denied),
        (lambda: OSError("Forbidden: https://host/object\nwhy"), Denied, Denied),
        (lambda: with_attributes(OSError, "ClientConnectorDNSError"), Transient, Transient),
        (lambda: with_attributes(OSError, "ConnectionTimeoutError"), Transient, Transient),
    ],
)
def test_what_the_exception_of_a_library_means(make: Callable[[], Exception], create: type[Exception], get: type[Exception]) -> None:
    """By class, by status or by code, wherever in the chain of causes it is; what nobody knows is never taken for success."""
    assert type(translate("create", "k", make())) is create
    assert type(translate("get", "k", make())) is get


def test_errors_of_this_project_pass_through() -> None:
    """What is already said in its words is not said twice."""
    error: LedgerWatcherError = ConfigError("x")
    assert translate("get", "k", error) is error


def test_a_circle_of_causes_ends() -> None:
    """An exception that is its own cause, as some wrappers make it, is looked at once."""
    one, other = RuntimeError("1"), RuntimeError("2")
    one.__cause__, other.__cause__ = other, one
    assert isinstance(translate("get", "k", one), Transient)


@pytest.mark.parametrize("error", [Exists, Missing, Denied, Transient, Ambiguous])
def test_messages_say_what_where_why_and_what_to_do(error: type[Exists]) -> None:
    """Operation, object, cause and advice, in one sentence each."""
    told = str(error("create", "s3://b/k", OSError("boom")))
    assert told == f"create s3://b/k failed: OSError: boom. {error.advice}"
    assert str(error("create", "s3://b/k", "why")) == f"create s3://b/k failed: why. {error.advice}"
    assert str(error("create", "s3://b/k")) == f"create s3://b/k failed. {error.advice}"
    assert error.advice.endswith(".")


def test_an_extra_that_a_message_names_exists() -> None:
    """What a person is told to install can be installed."""
    from importlib.metadata import metadata

    from ledger_watcher.storage._uri import EXTRAS

    assert set(EXTRAS.values()) <= set(metadata("ledger-watcher").get_all("Provides-Extra") or ())
