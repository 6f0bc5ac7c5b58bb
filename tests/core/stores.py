"""Stores that a test drives: in memory, counted, faulty call by call, and one request at a time in a seeded order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from random import Random

from ledger_watcher.errors import Ambiguous, Denied, Exists, Missing, Transient

PATIENCE = 60.0
"""Seconds after which something that was waited for is taken for lost. A bound for broken code, never a pause."""


class MemoryStore:
    """A correct store. ``calls`` holds every request as (operation, key), in order."""

    root = "test://base"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls: list[tuple[str, str]] = []
        self._changed = threading.Condition()

    def create(self, key: str, data: bytes) -> None:
        with self._changed:
            self.calls.append(("create", key))
            self._changed.notify_all()
            if key in self.objects:
                raise Exists("create", key)
            self.objects[key] = data

    def get(self, key: str) -> bytes:
        with self._changed:
            self.calls.append(("get", key))
            self._changed.notify_all()
            if key not in self.objects:
                raise Missing("get", key)
            return self.objects[key]

    def list(self, prefix: str) -> list[str]:
        with self._changed:
            self.calls.append(("list", prefix))
            base = f"{prefix}/" if prefix else ""
            return sorted({key[len(base) :].split("/")[0] for key in self.objects if key.startswith(base)})

    def delete(self, key: str) -> None:
        with self._changed:
            self.calls.append(("delete", key))
            self.objects.pop(key, None)

    def count(self, operation: str) -> int:
        """How many requests of that operation came in."""
        return sum(1 for name, _ in self.calls if name == operation)

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Wait until ``reached()``, which is asked after every request."""
        with self._changed:
            assert self._changed.wait_for(reached, PATIENCE), f"never reached after {len(self.calls)} requests: {self.calls[-5:]}"


class OverwritingStore(MemoryStore):
    """A storage that ignores create-if-absent, such as s3rver."""

    def create(self, key: str, data: bytes) -> None:
        with self._changed:
            self.calls.append(("create", key))
            self.objects[key] = data


class Fault(Enum):
    """What goes wrong with one request."""

    NONE = "it is answered"
    LOST_ACK = "carried out, and the answer lost"
    LOST_REQUEST = "not carried out, and nobody can tell"
    LATE = "not carried out yet: it arrives when the test lets it land"
    TRANSIENT = "refused without effect"
    DENIED = "refused for lack of permission"


class FaultyStore(MemoryStore):
    """Requests fail as a script says, call by call; without a script, as ``chance`` says."""

    def __init__(self, *, chance: Callable[[str], Fault] | None = None) -> None:
        super().__init__()
        self._script: dict[str, deque[Fault]] = {"create": deque(), "get": deque(), "list": deque()}
        self._chance = chance or (lambda _operation: Fault.NONE)
        self._late: list[tuple[str, bytes]] = []

    def script(self, operation: str, *faults: Fault) -> None:
        """The faults of the next requests of that operation, one each."""
        self._script[operation].extend(faults)

    @property
    def script_left(self) -> int:
        """Scripted faults that no request has met yet."""
        return sum(map(len, self._script.values()))

    def land(self) -> None:
        """Creates that were under way all this time arrive now."""
        late, self._late = self._late, []
        for key, data in late:
            self.objects.setdefault(key, data)

    def create(self, key: str, data: bytes) -> None:
        match self._next("create"):
            case Fault.LOST_ACK:
                try:
                    super().create(key, data)
                except Exists:
                    raise Ambiguous("create", key, "the answer (412) was lost") from None
                raise Ambiguous("create", key, "the answer (200) was lost")
            case Fault.LOST_REQUEST:
                self.calls.append(("create", key))
                raise Ambiguous("create", key, "timeout")
            case Fault.LATE:
                self.calls.append(("create", key))
                self._late.append((key, data))
                raise Ambiguous("create", key, "timeout")
            case fault:
                self._refuse(fault, "create", key)
        super().create(key, data)

    def get(self, key: str) -> bytes:
        self._refuse(self._next("get"), "get", key)
        return super().get(key)

    def list(self, prefix: str) -> list[str]:
        self._refuse(self._next("list"), "list", prefix)
        return super().list(prefix)

    def _next(self, operation: str) -> Fault:
        script = self._script[operation]
        return script.popleft() if script else self._chance(operation)

    def _refuse(self, fault: Fault, operation: str, key: str) -> None:
        if fault is Fault.NONE:
            return
        self.calls.append((operation, key))
        raise (Denied if fault is Fault.DENIED else Transient)(operation, key, fault.value)


class Turns:
    """Runs actors in threads, one at a time: at each of their requests a seeded choice says who goes on. So a seed is a schedule."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._main = threading.Semaphore(0)
        self._gates: dict[int, threading.Semaphore] = {}
        self._failures: list[BaseException] = []

    def run(self, *actors: Callable[[], None]) -> None:
        """Let all actors run to their ends; the first exception of any is raised here."""
        live: dict[threading.Thread, threading.Semaphore] = {}
        for actor in actors:
            gate = threading.Semaphore(0)
            live[threading.Thread(target=self._act, args=(actor, gate), daemon=True)] = gate
        for thread in live:
            thread.start()
        while live:
            thread = self._random.choice(list(live))
            live[thread].release()
            assert self._main.acquire(timeout=PATIENCE), "an actor neither made a request nor ended"
            if thread.ident not in self._gates:  # it ended
                thread.join(PATIENCE)
                del live[thread]
        if self._failures:
            raise self._failures[0]

    def step(self) -> None:
        """Called by an actor before a request: wait to be chosen. Outside of actors it does nothing."""
        gate = self._gates.get(threading.get_ident())
        if gate is not None:
            self._main.release()
            gate.acquire()

    def _act(self, actor: Callable[[], None], gate: threading.Semaphore) -> None:
        ident = threading.get_ident()
        self._gates[ident] = gate
        gate.acquire()
        try:
            actor()
        except BaseException as error:  # noqa: BLE001 - raised again in run()
            self._failures.append(error)
        finally:
            del self._gates[ident]
            self._main.release()


class InterleavedStore(FaultyStore):
    """A faulty store whose every request waits for its turn; late creates land at random moments."""

    def __init__(self, random: Random, turns: Turns, *, chance: Callable[[str], Fault]) -> None:
        super().__init__(chance=chance)
        self._random = random
        self._turns = turns

    def create(self, key: str, data: bytes) -> None:
        self._turn()
        super().create(key, data)

    def get(self, key: str) -> bytes:
        self._turn()
        return super().get(key)

    def list(self, prefix: str) -> list[str]:
        self._turn()
        return super().list(prefix)

    def _turn(self) -> None:
        self._turns.step()
        if self._random.random() < 0.3:
            self.land()


class OutageStore(MemoryStore):
    """For the writer's thread: the storage can be away, and the next creates can be held up until the test lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.away: type[Exception] | None = None
        self._hold = threading.Event()
        self._hold.set()

    def hold(self) -> None:
        """Creates that begin from now on wait for :meth:`go`."""
        self._hold.clear()

    def go(self) -> None:
        """Let them go on."""
        self._hold.set()

    def create(self, key: str, data: bytes) -> None:
        with self._changed:
            self.calls.append(("begin", key))
            self._changed.notify_all()
        assert self._hold.wait(PATIENCE), "the test never let this create go"
        if self.away is not None:
            with self._changed:
                self.calls.append(("refused", key))
                self._changed.notify_all()
            raise self.away("create", key, "away")
        super().create(key, data)
        with self._changed:
            self._changed.notify_all()
