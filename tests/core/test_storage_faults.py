"""What goes wrong on the wire, through each cloud library and in front of a real server: one word of the taxonomy, and no retries below it."""

from __future__ import annotations

from contextlib import suppress

import pytest

from ledger_watcher import codec
from ledger_watcher.errors import Ambiguous, ConfigError, Denied, Exists, Missing, Transient
from ledger_watcher.ledger import ChainReader, Kind
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.storage import Store, open_store
from tests.core.chains import RUN, note, notes, started
from tests.core.emulators import GcsEmulator, S3rver
from tests.core.places import HTTP, Place, place_of
from tests.core.proxy import PATIENCE, Fault

STATUS: dict[int, tuple[type[Exception], type[Exception]]] = {
    401: (Denied, Denied),
    403: (Denied, Denied),
    404: (ConfigError, Missing),
    409: (Ambiguous, Transient),
    412: (Exists, Transient),
    429: (Ambiguous, Transient),
    500: (Ambiguous, Transient),
    502: (Ambiguous, Transient),
    503: (Ambiguous, Transient),
}


@pytest.fixture(params=HTTP)
def place(request: pytest.FixtureRequest) -> Place:
    """An empty root, reached through a proxy."""
    return place_of(request.param, request)


@pytest.fixture
def store(place: Place) -> Store:
    """A client that has made a request before."""
    store = place.open()
    store.create("there", b"x" * 1000)
    with pytest.raises(Missing):
        store.get("absent")
    place.wire.reset()
    return store


@pytest.fixture
def hasty(place: Place, store: Store) -> Store:
    """Another, which waits for a second: for what never answers."""
    import aiohttp

    options: dict[str, dict[str, object]] = {
        "s3": {"config_kwargs": {"read_timeout": 1}},
        "gs": {"requests_timeout": aiohttp.ClientTimeout(sock_read=1)},
        "abfs": {"read_timeout": 1},
    }
    return place.open(**options[place.uri.partition(":")[0]])


@pytest.mark.parametrize("after", [False, True], ids=["refused", "carried out"])
@pytest.mark.parametrize("status", STATUS)
def test_what_a_status_means(place: Place, store: Store, status: int, after: bool) -> None:
    """Whether or not the server did what was asked, the word is the same, and there is one request."""
    for_create, for_get = STATUS[status]
    place.wire.faults.append(Fault("status", after=after, status=status))
    with pytest.raises(for_create) as caught:
        store.create("new", b"mine")
    assert type(caught.value) is for_create
    place.wire.faults.append(Fault("status", status=status))
    with pytest.raises(for_get) as caught:
        store.get("there")
    assert type(caught.value) is for_get
    assert [method for method, _ in place.wire.requests] == ["POST" if place.uri.startswith("gs:") else "PUT", "GET"]
    if after:
        assert store.get("new") == b"mine"
    else:
        store.create("new", b"another")


def persistent(fault: Fault, place: Place) -> int:
    """Requests of one call that meets the fault whenever it asks: aiohttp repeats once what is idempotent and found its connection broken."""
    return 1 if fault.kind == "hang" or place.uri.startswith("gs:") else 2


@pytest.mark.parametrize("fault", [Fault("reset"), Fault("reset", after=True), Fault("hang"), Fault("hang", after=True)], ids=str)
def test_a_create_without_an_answer_is_in_doubt(place: Place, store: Store, hasty: Store, fault: Fault) -> None:
    """Nobody can tell whether it was carried out; reading back does."""
    place.wire.always = fault
    with pytest.raises(Ambiguous):
        hasty.create("new", b"mine")
    assert 1 <= len(place.wire.requests) <= persistent(fault, place)
    if fault.after:
        assert place.wire.carried_out.acquire(timeout=PATIENCE)
    place.wire.always = None
    if fault.after:
        assert store.get("new") == b"mine"
    else:
        with pytest.raises(Missing):
            store.get("new")


@pytest.mark.parametrize("fault", [Fault("reset"), Fault("hang"), Fault("status", status=503), Fault("status", status=429)], ids=str)
def test_a_get_without_an_answer_is_tried_again_by_the_caller_only(place: Place, store: Store, hasty: Store, fault: Fault) -> None:
    """The library's own retries, of up to 90 s, are off; what aiohttp repeats is one request."""
    place.wire.always = fault
    with pytest.raises(Transient):
        hasty.get("there")
    assert 1 <= len(place.wire.requests) <= (1 if fault.kind in ("status", "hang") else 2)
    place.wire.requests.clear()
    with pytest.raises(Transient):
        hasty.list("seg")
    assert 1 <= len(place.wire.requests) <= (1 if fault.kind == "status" else 2)
    place.wire.reset()
    assert store.get("there") == b"x" * 1000


def test_a_body_that_breaks_off_is_never_short_data(place: Place, store: Store) -> None:
    """Half an answer is no answer."""
    place.wire.always = Fault("truncate")
    with pytest.raises(Transient):
        store.get("there")
    assert (
        1 <= len(place.wire.requests) <= (3 if place.uri.startswith("abfs:") else 1)
    )  # azure-storage-blob asks three times, a second apart
    place.wire.always = None
    assert store.get("there") == b"x" * 1000


def test_a_repetition_below_turns_our_own_success_into_exists_or_doubt(place: Place, store: Store) -> None:
    """Why Exists does not mean that somebody else was there: the answer of our own create may have been lost."""
    place.wire.faults.append(Fault("reset", after=True))
    with pytest.raises((Exists, Ambiguous)):
        store.create("new", b"mine")
    assert store.get("new") == b"mine"


FAULTS = [
    Fault("reset"),
    Fault("reset", after=True),
    Fault("hang", after=True),
    Fault("status", status=503),
    Fault("status", after=True, status=500),
    Fault("status", after=True, status=409),
    Fault("status", after=True, status=412),
    Fault("truncate"),
]


def test_whatever_happens_on_the_wire_the_chain_is_whole(place: Place, hasty: Store) -> None:
    """A writer meets every fault at its creates and its reads back, in turn: each note is written once, in order, and nobody is fenced."""
    writer = ChainWriter(hasty, RUN)
    writer.claim(started())
    for number, fault in enumerate(FAULTS):
        writer.stage(Kind.DATA, [codec.encode(note(f"{number}"))])
        place.wire.faults.extend([fault, FAULTS[-1 - number]])
        for _ in range(10):
            with suppress(Transient, Ambiguous):
                writer.push()
                break
        else:
            pytest.fail(f"never written: {fault}")
    place.wire.faults.clear()
    entries = ChainReader(place.open(), RUN).read()
    assert notes(entries) == [f"{number}" for number in range(len(FAULTS))]


@pytest.mark.parametrize("after", [False, True])
def test_a_claim_whose_answers_are_lost_is_claimed_once(place: Place, store: Store, after: bool) -> None:
    """The fence, too, is settled by reading it back."""
    writer = ChainWriter(store, RUN)
    place.wire.faults.extend([Fault("status", status=503), Fault("reset", after=after), Fault("reset", after=after)])
    for _ in range(5):
        with suppress(Transient, Ambiguous):
            writer.claim(started())
            break
    assert (writer.epoch, writer.last.seq if writer.last else None) == (1, 0)


@pytest.mark.parametrize("server", ["s3rver", "gcs"])
def test_a_storage_that_overwrites_is_refused_when_a_run_begins(request: pytest.FixtureRequest, server: str) -> None:
    """Real servers that ignore the condition: there two writers would share a slot."""
    if server == "s3rver":
        s3rver: S3rver = request.getfixturevalue("s3rver")
        store = open_store("s3://bucket/ledger", storage_options={"key": "S3RVER", "secret": "S3RVER", "endpoint_url": s3rver.url})
    else:
        gcs: GcsEmulator = request.getfixturevalue("gcs")
        store = open_store(f"gs://{gcs.bucket()}/ledger", storage_options={"endpoint_url": gcs.bare, "token": "anon", "project": "p"})
    with pytest.raises(ConfigError, match="overwrites an object that should only be created if absent"):
        ChainWriter(store, RUN).claim(started())
