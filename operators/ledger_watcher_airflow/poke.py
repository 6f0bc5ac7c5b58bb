"""A run as one task on a worker sees it, look by look: for consumers that do not wait in the triggerer."""

from __future__ import annotations

from typing import Any

from ledger_watcher.errors import ConfigError, CorruptLedger, Denied, LedgerWatcherError, UnsupportedLedger
from ledger_watcher.ledger import RunFollower, RunKey
from ledger_watcher.state import Attempt, RunState
from ledger_watcher_airflow.decision import RECOVERING, Kind, Verdict, Watcher, decide, open_recovery
from ledger_watcher_airflow.gate import gated
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.states import task_states

_NOTHING = RunState()


class RunWatch:
    """Reads a run's ledger and the states of its tasks, by the same table as the triggerer.

    The first look reads the newest checkpoint and what is behind it, a later one only what is new. A storage that is out of reach means
    waiting: the sensor's ``timeout`` is the bound.
    """

    def __init__(self, *, ledger: LedgerRef, run: RunKey, producer: str) -> None:
        self._ledger = ledger
        self._run = run
        self._producer = producer
        self._follower: RunFollower | None = None

    @property
    def state(self) -> RunState:
        """The run as far as it was read."""
        return self._follower.state if self._follower is not None else _NOTHING

    def look(self, watcher: Watcher, ti: Any) -> Verdict:  # noqa: ANN401 - Airflow's RuntimeTaskInstance
        """What the task does now. Airflow's answer comes first, so that a producer that has ended is judged by all of its records."""
        problem: LedgerWatcherError | None = None
        # A second look is for a recovery that was not known of before: its task may have begun after Airflow was asked.
        for _ in range(2):
            known = open_recovery(self.state)
            states = task_states(ti, [self._producer, *_task_of(known)])
            problem = self._read()
            runner = self._runner(watcher, states, known)
            if runner is not None:
                break
        verdict = self._verdict(watcher, runner or RECOVERING, problem)
        if verdict.kind is Kind.RECOVER and watcher.above is not None:
            return gated(verdict, watcher, task_states(ti))
        return verdict

    def _runner(self, watcher: Watcher, states: dict[str, str | None], known: Attempt | None) -> str | None:
        """The producer's state, or that a recovery stands in for it; ``None`` if one was found open that nobody seems to run."""
        producer = states.get(self._producer, "removed") or "not started"
        recovery = open_recovery(self.state)
        if recovery is None:
            return producer
        if watcher.task_id in _task_of(recovery):
            return producer  # the recovery was an earlier try of this very task
        if any(states.get(task_id) == "running" for task_id in _task_of(recovery)):
            return RECOVERING
        return producer if known is not None and known.epoch == recovery.epoch else None

    def _read(self) -> LedgerWatcherError | None:
        try:
            if self._follower is None:
                self._follower = RunFollower(self._ledger.store(), self._run)
            self._follower.snapshot()
        except LedgerWatcherError as error:
            return error
        return None

    def _verdict(self, watcher: Watcher, runner: str, problem: LedgerWatcherError | None) -> Verdict:
        verdict = decide(watcher, self.state, runner)
        if problem is None or verdict.kind is Kind.SUCCEED:
            return verdict
        if isinstance(problem, (CorruptLedger, UnsupportedLedger)):
            return Verdict(Kind.FAIL, str(problem))
        if isinstance(problem, (Denied, ConfigError)) and verdict.kind is not Kind.WAIT:
            return Verdict(Kind.FAIL, f"The producer is {runner}, and the ledger cannot be read here: {problem}")
        return Verdict(Kind.WAIT, f"{verdict.reason} (the ledger cannot be read: {problem})")


def _task_of(recovery: Attempt | None) -> tuple[str, ...]:
    """The task that runs a recovery, if it is known."""
    task_id = recovery.started.task_id if recovery is not None and recovery.started is not None else None
    return () if task_id is None else (task_id,)
