"""One reading task per triggerer and run, whatever the number of nodes that wait.

A tail polls the chain once per interval, folds what is new into the state of the run, and wakes only those who watch a node that
changed; a new plan and a change of the producer's state wake all, and so does each look at a producer that has ended. What a run costs is
linear in its tasks, however long it takes. It never raises into its watchers: a storage that is out of reach means waiting.

Nothing here logs in the event loop, see :func:`say`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from asgiref.sync import sync_to_async

from ledger_watcher.errors import ConfigError, CorruptLedger, Denied, LedgerWatcherError, UnsupportedLedger
from ledger_watcher.ledger import Entry, RunFollower, RunKey
from ledger_watcher.records import Plan
from ledger_watcher.state import Attempt, RunState
from ledger_watcher_airflow.decision import RECOVERING, TERMINAL, Kind, Verdict, Watcher, decide, open_recovery
from ledger_watcher_airflow.gate import Edges, gated
from ledger_watcher_airflow.ledger import LedgerRef

log = logging.getLogger(__name__)

LINGER = 30.0
"""Seconds that a tail without watchers keeps what it has read: the next task of the run usually comes within them."""
PRODUCER_INTERVAL = 5.0
"""Seconds between two looks at the producer's state while dbt runs; once its attempt has ended, every poll looks."""
OUTAGE_BOUND = 3600.0
"""Seconds without an answer of the storage after which tasks whose producer has ended are failed: before, they wait for it."""
DISPATCH_BOUND = 300.0
"""Seconds that a task which was sent to a worker has to begin a recovery, before another one is sent. Two of them do no harm."""
NOTICE_AFTER = 180.0
"""Seconds after which a waiting task says in its log what it waits for, again and again."""
UNKNOWN = "not known yet"
LONGEST_BACKOFF = 15.0
_NOT_STARTED = frozenset({None, "scheduled", "queued"})
_NO_START = (
    "; it does not start: has its queue a worker, and its pool a free slot? A pool with include_deferred counts these waiting tasks, too: give the "
    "producer another one, ExecutionConfig(setup_operator_args={'pool': ...})"
)


@dataclass(frozen=True, slots=True)
class TailKey:
    """What a tail is about."""

    ledger: LedgerRef
    run: RunKey
    producer: str


_NOTHING = RunState()


async def say(write: Callable[..., None], *line: object, **more: object) -> None:
    """Write to a log, in a thread.

    Airflow's supervisor reads the triggerer's log lines only in between, and not at all while it hands over new triggers: then whoever writes waits for
    room in the socket (about 170 lines). If that is the event loop, which alone could take what is handed over, the triggerer is locked up for good
    (TriggerRunnerSupervisor.send_msg, TriggerCommsDecoder._reader_loop in airflow/jobs/triggerer_job_runner.py).
    """
    await asyncio.to_thread(write, *line, **more)


ProducerState = Callable[[TailKey], Awaitable[str | None]]
RunStates = Callable[[TailKey], Awaitable[Mapping[str, str | None]]]
"""The states of all tasks of a run, asked once a producer has ended and tasks wait that did not wait for those above them."""


async def _of_no_task(_: TailKey) -> Mapping[str, str | None]:
    return {}


@dataclass(frozen=True, slots=True)
class _Look:
    """What Airflow answered: the number of the look, the producer's state, and those of the other tasks, if they were asked for."""

    number: int = 0
    producer: str | None = None
    tasks: Mapping[str, str | None] | None = None


class Tail:
    """Follows one run. ``state`` and ``producer`` belong together: the producer's state was read before the records were."""

    def __init__(self, key: TailKey, *, poll: float, producer_state: ProducerState, run_states: RunStates = _of_no_task) -> None:
        self.key = key
        self.producer: str | None = None
        self.problem: LedgerWatcherError | None = None
        self.polls = 0
        self._poll = poll
        self._producer_state = producer_state
        self._run_states = run_states
        self._gated = 0
        self._edges: Edges = {}
        self._follower: RunFollower | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._events: set[asyncio.Event] = set()
        self._arrived = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._looked = float("-inf")
        self._answered = asyncio.get_running_loop().time()
        # Looks at the producer are counted: the newest that began, the newest that was answered, the one that ``producer`` is of.
        self._rounds_begun = 0
        self._seen = self._counts = _Look()
        self._runner_then: str | None = UNKNOWN
        self._dead_recovery = 0
        self._dispatched: tuple[str, int, float] | None = None

    @property
    def state(self) -> RunState:
        """The run as far as it was read."""
        return self._follower.state if self._follower is not None else _NOTHING

    def follows(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it goes on reading in this event loop; one that has ended is of no use to a new watcher."""
        return self.task is not None and not self.task.done() and self.task.get_loop() is loop

    def shared(self, edges: Edges) -> Edges:
        """The same edges, as one object for all tasks that wait and were given the same ones."""
        if edges != self._edges:
            self._edges = edges
        return self._edges

    async def wait(self, watcher: Watcher, notice: Callable[[str], Awaitable[None]]) -> Verdict:
        """Wait until the watcher's nodes are decided. ``notice`` is told in words when waiting takes minutes.

        Cancelling it is safe at any time.
        """
        event = asyncio.Event()
        self._events.add(event)
        for unique_id in watcher.nodes:
            self._waiting.setdefault(unique_id, set()).add(event)
        self._arrived.set()
        # What is known of the producer may be older than this watcher (it may have been cleared together with the task), so only a
        # look that begins after now counts for it.
        self._looked = float("-inf")
        first_round = self._rounds_begun + 1
        self._gated += watcher.above is not None
        loop = asyncio.get_running_loop()
        notice_at = loop.time() + NOTICE_AFTER
        try:
            while True:
                event.clear()
                verdict = self._verdict(watcher, self._runner() if self._counts.number >= first_round else UNKNOWN)
                verdict = gated(verdict, watcher, self._counts.tasks)
                if verdict.kind is Kind.RECOVER and not self._may_recover(watcher.task_id):
                    verdict = Verdict(Kind.WAIT, f"{verdict.reason}; a recovery is about to start")
                if verdict.kind is not Kind.WAIT:
                    return verdict
                if loop.time() >= notice_at:
                    await notice(f"Still waiting: {verdict.reason}{self._no_start()}{self._trouble()}")
                    notice_at = loop.time() + NOTICE_AFTER
                timer = loop.call_at(notice_at, event.set)
                try:
                    await event.wait()  # not wait_for: before Python 3.12 it may swallow a cancellation
                finally:
                    timer.cancel()
        finally:
            self._gated -= watcher.above is not None
            self._events.discard(event)
            for unique_id in watcher.nodes:
                self._waiting[unique_id].discard(event)

    async def follow(self) -> None:
        """Poll until nobody has waited for :data:`LINGER` seconds."""
        delay = self._poll
        while True:
            if not self._events:
                self._arrived.clear()
                try:
                    await asyncio.wait_for(self._arrived.wait(), timeout=LINGER)
                except asyncio.TimeoutError:
                    if not self._events:
                        return
            delay = self._poll if await self._step() else min(delay * 2, LONGEST_BACKOFF)
            await asyncio.sleep(delay * random.uniform(0.9, 1.1))  # noqa: S311 - spreads the polls of many runs

    async def _step(self) -> bool:
        """One poll: the producer's state first, then the records. False if the storage or Airflow did not answer."""
        self.polls += 1
        answered = await self._look() if self._look_is_due() else True
        touched: set[asyncio.Event] = set()
        try:
            # To the end of the chain, else a terminal producer would be judged by half of its records; one segment at a time, so that
            # what was read before a failure is not lost.
            while (entries := await sync_to_async(self._read, thread_sensitive=False)()) is not None:
                touched |= self._touched(entries)
        except LedgerWatcherError as error:
            await self._trouble_with(error)
            return False
        except Exception as error:  # noqa: BLE001 - a surprise must not end a hundred tasks
            await say(log.error, "Could not read the ledger of %s; trying on", self.key.run, exc_info=error)
            await self._trouble_with(LedgerWatcherError(f"{type(error).__name__}: {error}"))
            return False
        self._answered = asyncio.get_running_loop().time()
        again = self.problem is not None
        if again:
            self.problem = None
            await say(log.info, "The ledger can be read again: %s", self.key.run)
        self._wake(self._events if self._has_news() or again else touched)
        return answered

    def _has_news(self) -> bool:
        """Take over the newest look. True if it concerns those, too, whose nodes have no new record.

        While the producer goes on, whatever its state, they wait (:func:`~ledger_watcher_airflow.decision.decide`). Once it has ended, each look may
        be the first that counts for one of them, or the time of a dispatched recovery may be up.
        """
        if not self._take_over():
            return False
        before, self._runner_then = self._runner_then, self._runner()
        return before != self._runner_then or self._runner_then in TERMINAL

    def _take_over(self) -> bool:
        """What Airflow answered counts from now on. False if it did before."""
        new = self._counts.number != self._seen.number
        self._counts, self.producer = self._seen, self._seen.producer
        return new

    async def _look(self) -> bool:
        """Ask Airflow for the producer's state, which counts once the chain has been read behind it. False if there is no answer."""
        self._looked = asyncio.get_running_loop().time()
        self._rounds_begun += 1
        recovery = open_recovery(self.state)
        try:
            number, producer = self._rounds_begun, await self._producer_state(self.key)
            tasks = await self._run_states(self.key) if self._gated and producer in TERMINAL else None
            self._seen = _Look(number, producer, tasks)
            if recovery is not None and recovery.epoch != self._dead_recovery and not await self._runs(recovery):
                self._dead_recovery = recovery.epoch
        except Exception as error:  # noqa: BLE001 - Airflow's own API may be away for a while; what dbt does is shown meanwhile
            await say(log.error, "Could not read the state of the producer %s; trying on", self.key.producer, exc_info=error)
            return False
        return True

    async def _runs(self, recovery: Attempt) -> bool:
        """Whether the task that runs a recovery does."""
        task_id = recovery.started.task_id if recovery.started is not None else None
        return task_id is not None and await self._producer_state(replace(self.key, producer=task_id)) == "running"

    def _runner(self) -> str | None:
        """The producer's state, or that a recovery stands in for it."""
        recovery = open_recovery(self.state)
        return RECOVERING if recovery is not None and recovery.epoch != self._dead_recovery else self.producer

    def _may_recover(self, task_id: str) -> bool:
        """Let one task at a time go to a worker, until what it does shows in the ledger."""
        now, epoch = asyncio.get_running_loop().time(), max(tuple(self.state.attempts), default=0)
        if self._dispatched is not None:
            other, since_epoch, until = self._dispatched
            if other != task_id and since_epoch == epoch and now < until:
                return False
        self._dispatched = (task_id, epoch, now + DISPATCH_BOUND)
        return True

    def _look_is_due(self) -> bool:
        if self.state.ended and self.producer not in TERMINAL:
            return True
        return asyncio.get_running_loop().time() - self._looked >= PRODUCER_INTERVAL

    def _read(self) -> list[Entry] | None:
        if self._follower is None:
            self._follower = RunFollower(self.key.ledger.store(), self.key.run)
        return self._follower.advance()

    async def _trouble_with(self, error: LedgerWatcherError) -> None:
        known, self.problem = self.problem, error
        self._take_over()
        self._wake(self._events)
        if type(known) is not type(error):
            await say(log.warning, "The ledger of %s cannot be read: %s", self.key.run, error)

    def _no_start(self) -> str:
        """What to look at if the producer has been waiting for its first try all the while."""
        return _NO_START if self._counts.number and self._runner() in _NOT_STARTED else ""

    def _trouble(self) -> str:
        return f" (the ledger cannot be read: {self.problem})" if self.problem else ""

    def _verdict(self, watcher: Watcher, producer: str | None) -> Verdict:
        problem = self.problem
        verdict = decide(watcher, self.state, producer)
        if problem is None or verdict.kind is Kind.SUCCEED:
            return verdict
        if isinstance(problem, (CorruptLedger, UnsupportedLedger)):
            return Verdict(Kind.FAIL, str(problem))
        if verdict.kind is Kind.WAIT:
            return verdict
        if isinstance(problem, (Denied, ConfigError)) or asyncio.get_running_loop().time() - self._answered >= OUTAGE_BOUND:
            return Verdict(Kind.FAIL, f"The producer is {producer}, and the ledger cannot be read here: {problem}")
        return Verdict(Kind.WAIT, verdict.reason)  # the record may be there: it only cannot be read at the moment

    def _touched(self, entries: Iterable[Entry]) -> set[asyncio.Event]:
        touched: set[asyncio.Event] = set()
        for entry in entries:
            if isinstance(entry.record, Plan):  # of a recovery, it may decide for nodes that it leaves out
                touched |= self._events
            touched |= self._waiting.get(getattr(entry.record, "unique_id", ""), set())
        return touched

    @staticmethod
    def _wake(events: Iterable[asyncio.Event]) -> None:
        for event in events:
            event.set()


_tails: dict[tuple[int, TailKey], Tail] = {}


def tail_for(key: TailKey, *, poll: float, producer_state: ProducerState, run_states: RunStates = _of_no_task) -> Tail:
    """The tail of a run in this process and event loop, started if there is none."""
    loop = asyncio.get_running_loop()
    place = (id(loop), key)
    tail = _tails.get(place)
    if tail is None or not tail.follows(loop):
        tail = _tails[place] = Tail(key, poll=poll, producer_state=producer_state, run_states=run_states)
        # An empty context: else its log lines would belong to whichever trigger came first.
        tail.task = contextvars.Context().run(loop.create_task, tail.follow())
        tail.task.add_done_callback(lambda _: _ended(place, tail))
    return tail


def _ended(place: tuple[int, TailKey], tail: Tail) -> None:
    if _tails.get(place) is tail:  # another may have begun already
        del _tails[place]
