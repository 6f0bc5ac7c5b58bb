"""A ledger's writers and readers, one request at a time, in an order and with faults that a seed or hypothesis chooses.

Every promise of docs/format.md is checked when something happens: a segment or a checkpoint that is stored, a record that a writer takes
for durable, what a reader has read. ``python -m tests.soak.simulator 5000`` runs that many seeds, ``--seed N`` one of them again.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from random import Random

from ledger_watcher import codec
from ledger_watcher.errors import Ambiguous, Denied, Exists, Fenced, StorageError, Transient
from ledger_watcher.ledger import ChainReader, Entry, Header, Kind
from ledger_watcher.ledger import chain as chain_module
from ledger_watcher.ledger.chain import ChainWriter
from ledger_watcher.ledger.checkpoint import Compaction, pack_checkpoint, unpack_checkpoint
from ledger_watcher.ledger.segments import record_of, unpack_lines
from ledger_watcher.ledger.verify import verify
from ledger_watcher.records import Heartbeat, HookFinished, Log, NodeFinished, NodeStarted, Outcome, Plan, Record, Unknown
from ledger_watcher.state import RunState
from tests.core.chains import RUN, finished, started
from tests.core.stores import PATIENCE, Fault, MemoryStore

FAULTS = {"create": list(Fault), "get": [Fault.NONE, Fault.TRANSIENT, Fault.DENIED], "list": [Fault.NONE, Fault.TRANSIENT, Fault.DENIED]}
"""What may become of a request."""
OPERATIONS = (*["data"] * 8, "checkpoint", "end")
"""What a writer may do after its claim."""
EPOCH_ZERO = datetime(2026, 7, 31, tzinfo=timezone.utc)


class ViolationError(AssertionError):
    """A promise was broken."""


class CrashError(BaseException):
    """Ends an actor at a request, as the death of its process would: nothing of it runs any more."""


class Actor:
    """A program in a thread that runs only when it is told to, from one request to the next."""

    def __init__(self, name: str, program: Callable[[Actor], None]) -> None:
        self.name = name
        self.waits_for = ""
        self.alive = True
        self.listed_at = 0
        self.position: Callable[[], int] = lambda: 0
        self._fault: Fault | None = Fault.NONE
        self._gate, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(program,), daemon=True)

    def start(self) -> None:
        """Up to its first request."""
        self._thread.start()
        self.resume(Fault.NONE)

    def resume(self, fault: Fault | None) -> None:
        """Let it make the request that it waits with (``None``: crash instead) and go on to the next one."""
        self._fault = fault
        self._gate.release()
        if not self._back.acquire(timeout=PATIENCE):
            raise ViolationError(f"{self.name} neither made a request nor ended")
        if self._failure is not None:
            raise self._failure

    def request(self, operation: str) -> Fault:
        """Called by the store, in the actor's thread."""
        self.waits_for = operation
        self._back.release()
        self._gate.acquire()
        if self._fault is None:
            raise CrashError
        return self._fault

    def owns(self, thread: int) -> bool:
        """Whether it runs in that thread."""
        return self.alive and self._thread.ident == thread  # numbers of threads that ended are used again

    def _run(self, program: Callable[[Actor], None]) -> None:
        self._gate.acquire()
        try:
            program(self)
        except CrashError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in resume()
            self._failure = error
        self.alive, self.waits_for = False, ""
        self._back.release()


class SimulatedStore(MemoryStore):
    """A store whose requests wait for their actor's turn and then meet the fault that was chosen for them."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.late: list[tuple[str, bytes]] = []

    def create(self, key: str, data: bytes) -> None:
        match self._turn("create", key):
            case Fault.LOST_ACK:
                with contextlib.suppress(Exists):
                    self._store(key, data)
                raise Ambiguous("create", key)
            case Fault.LOST_REQUEST:
                raise Ambiguous("create", key)
            case Fault.LATE:
                self.late.append((key, data))
                raise Ambiguous("create", key)
        self._store(key, data)

    def get(self, key: str) -> bytes:
        self._turn("get", key)
        return super().get(key)

    def list(self, prefix: str) -> list[str]:
        self._turn("list", prefix)
        if prefix.endswith("/ckpt"):
            self._world.actor().listed_at = self._world.length
        return super().list(prefix)

    def land(self, index: int) -> None:
        """A create that was under way arrives."""
        key, data = self.late.pop(index)
        with contextlib.suppress(Exists):
            self._store(key, data)

    def _turn(self, operation: str, key: str) -> Fault:
        fault = self._world.actor().request(operation)
        self.calls.append((f"{operation} {fault.name}", key))
        if fault in (Fault.TRANSIENT, Fault.DENIED):
            raise (Denied if fault is Fault.DENIED else Transient)(operation, key)
        return fault

    def _store(self, key: str, data: bytes) -> None:
        super().create(key, data)
        self._world.stored(key, data)


class World:
    """One run, its storage and everybody who works on it. Until it is closed, its clock is that of the package's writers."""

    def __init__(self, writer: type[ChainWriter] = ChainWriter) -> None:
        self._writer = writer
        self.store = SimulatedStore(self)
        self.actors: list[Actor] = []
        self.headers: list[Header] = []
        self.entries: list[Entry] = []
        self.lines: Counter[bytes] = Counter()
        self.acked: list[bytes] = []
        self.expired = 0
        self.seen: Counter[str] = Counter()
        self._ticks = 0
        self._names = 0
        self._utcnow = chain_module.utcnow
        chain_module.utcnow = self.now  # type: ignore[attr-defined]

    def close(self) -> None:
        """Give the clock back, and end everybody."""
        chain_module.utcnow = self._utcnow  # type: ignore[attr-defined]
        for actor in self.actors:
            if actor.alive:
                with contextlib.suppress(BaseException):
                    actor.resume(None)

    @property
    def length(self) -> int:
        """How many segments the chain has."""
        return len(self.headers)

    def now(self) -> datetime:
        """Every look at the clock is a moment later, so no two records are the same."""
        self._ticks += 1
        return EPOCH_ZERO + timedelta(milliseconds=self._ticks)

    def actor(self) -> Actor:
        """Whose thread this is."""
        ident = threading.get_ident()
        return next(actor for actor in self.actors if actor.owns(ident))

    # What may happen ---------------------------------------------------------------------------------------------------

    @property
    def live(self) -> list[Actor]:
        """Those who have something left to do."""
        return [actor for actor in self.actors if actor.alive]

    @property
    def writers(self) -> int:
        """How many of them write."""
        return sum(actor.name.startswith("w") for actor in self.live)

    def start(self, name: str, program: Callable[[Actor], None]) -> None:
        """Somebody comes; they stand before their first request."""
        self._names += 1
        self.actors.append(Actor(f"{name}{self._names}", program))
        self.actors[-1].start()

    def start_writer(self, operations: Sequence[str], salt: int) -> None:
        """An attempt: a claim, then these operations, each tried until it is decided."""
        self.start("w", lambda actor: self._write(actor, operations, Random(salt)))

    def start_reader(self, *, late: bool, polls: int) -> None:
        """A reader that follows from segment 0, or starts from whatever checkpoint there is."""
        self.start("r", lambda actor: self._read(actor, late=late, polls=polls))

    def expire(self, count: int) -> bool:
        """Take away segments at the beginning for which a checkpoint stands and that no writer may still ask for."""
        covered = max((int(key.rpartition("/")[2][:10]) for key in self.store.objects if "/ckpt/" in key), default=-1)
        waiting = [int(key.rpartition("/")[2][:10]) for key, _ in self.store.late if "/seg/" in key]
        wanted = min([covered + 1, self.length - 1, *waiting, *(actor.position() for actor in self.live if actor.name.startswith("w"))])
        upto = min(self.expired + count, wanted)
        for seq in range(self.expired, upto):
            del self.store.objects[RUN.segment(seq)]
        gone, self.expired = upto - self.expired, max(self.expired, upto)
        self.seen["expired"] += max(0, gone)
        return gone > 0

    def finish(self) -> None:
        """Everybody comes to their end on a storage without faults; then the whole run is verified."""
        while self.store.late:
            self.store.land(0)
        for actor in self.actors:
            while actor.alive:
                actor.resume(Fault.NONE)
        quiet = MemoryStore()
        quiet.objects = self.store.objects
        found = verify(quiet, RUN, at_once=1)
        require(not found.problems and found.unsupported is None, f"verify finds {found.problems}")
        require(found.last == (self.headers[-1] if self.headers else None), "verify ends elsewhere")
        require(found.expired == self.expired, "verify says that something else has expired")
        for line in self.acked:
            require(self.lines[line] == 1, f"an acknowledged record is {self.lines[line]} times in the chain: {line!r}")
        order = [entry.line for entry in self.entries]
        places = [order.index(line) for line in self.acked]
        for writer in {self.entries[place].epoch for place in places}:
            own = [place for place in places if self.entries[place].epoch == writer]
            require(own == sorted(own), "the records of a writer are out of order")

    # What is promised --------------------------------------------------------------------------------------------------

    def stored(self, key: str, data: bytes) -> None:
        """An object is there that was not."""
        if "/ckpt/" in key:
            self._check_checkpoint(key, data)
            return
        require(key == RUN.segment(self.length), f"{key} is stored, the chain has {self.length} segments")
        header, lines = unpack_lines(key, data)
        before = self.headers[-1] if self.headers else None
        require(header.prev == (before.sha256 if before else "0" * 64), "a segment does not name the hash of the one before")
        if header.kind is Kind.FENCE:
            require(header.epoch == (before.epoch if before else 0) + 1, "an epoch is missing, or there twice")
            require(header.writer not in {other.writer for other in self.headers}, "a writer claimed twice")
        else:
            require(before is not None and before.kind is not Kind.END, "something follows an end")
            assert before is not None
            require((header.epoch, header.writer) == (before.epoch, before.writer), "something of an old epoch stands behind a fence")
        if header.kind is Kind.FENCE and before is not None:
            require(RUN.checkpoint(before.seq) in self.store.objects, "a fence without a checkpoint before it")
        self.headers.append(header)
        self.entries += [Entry(header.seq, header.epoch, record_of(key, line), line) for line in lines]
        self.lines.update(lines)
        self.seen[header.kind.value] += 1

    def _check_checkpoint(self, key: str, data: bytes) -> None:
        head, entries, _ = unpack_checkpoint(key, data)
        require(head.seq < self.length and head == self.headers[head.seq], "a checkpoint covers a segment that is not in the chain")
        compaction = Compaction()
        compaction.add(self.upto(head.seq))
        require(pack_checkpoint(head, compaction)[0] == data, "a checkpoint is not made of its chain, or not in the same bytes")
        require(folded(entries) == folded(self.upto(head.seq)), "a checkpoint does not fold to what the chain does")
        if key.endswith(".end.jsonl"):
            require(head.kind is Kind.END, "a checkpoint says that it is one of an end, and is not")
        self.seen["checkpoint"] += 1

    def upto(self, seq: int) -> list[Entry]:
        """The chain's records up to a segment."""
        return [entry for entry in self.entries if entry.seq <= seq]

    # Who takes part ----------------------------------------------------------------------------------------------------

    def _write(self, actor: Actor, operations: Sequence[str], random: Random) -> None:
        writer = self._writer(self.store, RUN)
        writer.writer = f"{actor.name:0>32}"
        actor.position = lambda: writer._reader.next_seq  # its fence's slot, which is asked for once more by the probe
        _, history = self._until_decided(lambda: writer.claim(started()))
        assert writer.last is not None
        actor.position = lambda: writer.last.seq + 1 if writer.last else 0
        require(writer.last == self.headers[writer.last.seq], "a claim was taken for durable that is not")
        require(folded(history) == folded(self.upto(writer.last.seq - 1)), "a claim was given another history than the chain's")
        try:
            for operation in operations:
                if operation == "checkpoint":
                    with contextlib.suppress(StorageError):
                        writer.checkpoint()
                    continue
                end = operation == "end"
                lines = [codec.encode(record) for record in ([finished()] if end else self._records(random))]
                writer.stage(Kind.END if end else Kind.DATA, lines)
                self._until_decided(writer.push)
                self.acked += [] if end else lines
                require(end or all(self.lines[line] == 1 for line in lines), "records were taken for durable that are not")
                if end:
                    with contextlib.suppress(StorageError):
                        writer.checkpoint(end=True)
                    return
        except Fenced:
            require(self.headers[-1].epoch > writer.epoch, "a writer was told that it is fenced, and nobody claimed")
            self.seen["fenced"] += 1

    def _until_decided(self, request: Callable[[], object]) -> object:
        while True:
            with contextlib.suppress(StorageError):
                return request()

    def _records(self, random: Random) -> list[Record]:
        return [self._record(random) for _ in range(random.randrange(1, 4))]

    def _record(self, random: Random) -> Record:
        ts, name = self.now(), f"model.shop.{random.choice('abc')}"
        outcome = random.choice(list(Outcome))
        return random.choice(
            [
                NodeStarted(ts=ts, unique_id=name),
                NodeFinished(ts=ts, unique_id=name, outcome=outcome, status="x"),
                HookFinished(ts=ts, unique_id=name, outcome=outcome, status="x"),
                Plan(ts=ts, unique_ids=(name,), source="caller"),
                Heartbeat(ts=ts),
                Unknown(ts=ts, original_kind="later", data={"x": name}),
                Log(ts=ts, unique_id=name, lines=("x",)),
            ]
        )

    def _read(self, actor: Actor, *, late: bool, polls: int) -> None:
        reader = ChainReader(self.store, RUN)
        read: list[Entry] = []
        if late:
            read += self._until_decided(reader.open)  # type: ignore[arg-type]
            if reader.complete:
                require(reader.ended and reader.next_seq == actor.listed_at, "a reader was told that nothing follows, and something did")
                self.seen["complete"] += 1
            self._check_reader(reader, read, late=late)
        for _ in range(polls):
            read += self._until_decided(reader.poll) or []  # type: ignore[arg-type]
            self._check_reader(reader, read, late=late)
        self.seen["read"] += 1

    def _check_reader(self, reader: ChainReader, read: list[Entry], *, late: bool) -> None:
        if reader.last is None:
            require(not read, "records of nothing")
            return
        require(reader.last == self.headers[reader.last.seq], "a reader stands on a segment that is not in the chain")
        whole = self.upto(reader.last.seq)
        if reader.expired:
            require(read == [entry for entry in whole if entry.seq >= reader.expired], "a reader did not see what was left of the chain")
        elif late:
            require(folded(read) == folded(whole), "a late reader does not see what the chain says up to there")
        else:
            require(read == whole, "a reader does not see a prefix of the chain")


def require(fine: object, why: str) -> None:
    """Raise if a promise is broken."""
    if not fine:
        raise ViolationError(why)


def folded(entries: Sequence[Entry]) -> RunState:
    """What they say."""
    state = RunState()
    state.apply(entries)
    return state


def act(world: World, random: Random, rate: float) -> None:
    """One thing more happens."""
    dice = random.random()
    if not world.live or (dice < 0.1 and len(world.live) < 6):
        if world.writers < 3 and random.random() < 0.6:
            world.start_writer(random.choices(OPERATIONS, k=random.randrange(9)), random.randrange(2**32))
        else:
            world.start_reader(late=random.random() < 0.7, polls=random.randrange(12))
    elif dice < 0.12:
        world.expire(random.randrange(1, 9))
    elif dice < 0.17 and world.store.late:
        world.store.land(random.randrange(len(world.store.late)))
    else:
        actor = random.choice(world.live)
        if random.random() < 0.01:
            world.seen["crashed"] += 1
            actor.resume(None)
        else:
            actor.resume(random.choice(FAULTS[actor.waits_for]) if random.random() < rate else Fault.NONE)


def simulate(seed: int, writer: type[ChainWriter] = ChainWriter) -> World:
    """One seed, from the first request to the verified end.

    :raises ViolationError: a promise was broken.
    """
    random = Random(seed)
    rate = random.choice([0.0, 0.1, 0.3, 0.6])
    with contextlib.closing(World(writer)) as world:
        for _ in range(random.randrange(50, 250)):
            act(world, random, rate)
        world.finish()
    return world


def main() -> int:
    """Exit code 1 and the seed, if one of them breaks a promise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", type=int, nargs="?", default=5000)
    parser.add_argument("--seed", type=int, help="only this one, with its requests")
    chosen = parser.parse_args()
    begun, seen, requests = time.monotonic(), Counter[str](), 0
    for seed in range(chosen.seeds) if chosen.seed is None else [chosen.seed]:
        try:
            world = simulate(seed)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            sys.stdout.write(f"seed {seed}: {type(error).__name__}: {error}\nAgain: python -m tests.soak.simulator --seed {seed}\n")
            return 1
        seen += world.seen
        requests += len(world.store.calls)
        if chosen.seed is not None:
            sys.stdout.writelines(f"{operation} {key.removeprefix(RUN.prefix)}\n" for operation, key in world.store.calls)
    seconds = time.monotonic() - begun
    what = ", ".join(f"{name} {count}" for name, count in sorted(seen.items()))
    sys.stdout.write(f"no promise broken; {requests} requests in {seconds:.0f} s: {what}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
