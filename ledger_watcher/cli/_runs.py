"""Finding runs under a root and reading them, for the commands that show them."""

from __future__ import annotations

import difflib
import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from ledger_watcher.errors import ConfigError, LedgerWatcherError, RunNotFound, Transient
from ledger_watcher.ledger.follower import RunFollower
from ledger_watcher.ledger.layout import RunKey, list_runs
from ledger_watcher.report.view import started_at
from ledger_watcher.state import RunState
from ledger_watcher.storage import Store

T = TypeVar("T")

_AT_ONCE = 8
"""Runs that are read at the same time: a request to an object store takes tens of milliseconds, most of it waiting."""
_DELAYS = (0.2, 1.0)
_NAMED = 8
"""Candidates that an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is known of the run that somebody asks for; ``None`` is any."""

    deployment: str | None = None
    dag_id: str | None = None
    run_id: str | None = None
    group: str | None = None
    map_index: int | None = None

    def fits(self, run: RunKey) -> bool:
        """The run is one of those."""
        names = ("deployment", "dag_id", "run_id", "group", "map_index")
        return all(getattr(self, name) in (None, getattr(run, name)) for name in names)

    @property
    def given(self) -> bool:
        """Anything is asked for."""
        return self != Wanted()


@dataclass(slots=True)
class Reading:
    """A run as far as it could be read, and what stopped the reading, if anything did. ``whole``: from its first segment on."""

    store: Store
    run: RunKey
    whole: bool = False
    problem: LedgerWatcherError | None = None
    follower: RunFollower = field(init=False)

    def __post_init__(self) -> None:
        self.follower = RunFollower(self.store, self.run, whole=self.whole)

    @property
    def state(self) -> RunState:
        """What was read."""
        return self.follower.state

    @property
    def uri(self) -> str:
        """The run's folder."""
        return f"{self.store.root.rstrip('/')}/{self.run.prefix}"

    @property
    def started_at(self) -> datetime | None:
        """When its first attempt began."""
        return started_at(self.state)

    def advance(self, objects: int | None = None) -> Reading:
        """Read on, to the end of the chain or by so many objects. An error is kept in ``problem``, with the state before it."""
        try:
            if objects is None:
                patiently(self.follower.snapshot)
                patiently(self.follower.check_gap)
            else:
                for _ in range(objects):
                    patiently(self.follower.advance)
        except LedgerWatcherError as error:
            self.problem = error
        return self


def patiently(call: Callable[[], T]) -> T:
    """``call()``, tried again after a short pause when the storage throttled it or was not reachable."""
    for delay in _DELAYS:
        with suppress(Transient):
            return call()
        time.sleep(delay)
    return call()


def find_runs(store: Store, wanted: Wanted) -> list[RunKey]:
    """The runs under the root that fit, in the order of their paths."""
    found = patiently(lambda: list(list_runs(store, deployment=wanted.deployment, dag_id=wanted.dag_id)))
    return [run for run in found if wanted.fits(run)]


def newest_first(store: Store, runs: Iterable[RunKey]) -> list[Reading]:
    """The first segment of every run, newest start first; those that could not be read come last."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        readings = list(pool.map(lambda run: Reading(store, run, whole=True).advance(1), runs))
    dated = [(reading.started_at, reading) for reading in readings]
    known = sorted(((start, reading) for start, reading in dated if start is not None), key=lambda pair: pair[0], reverse=True)
    return [reading for _, reading in known] + [reading for start, reading in dated if start is None]


def read_all(readings: Sequence[Reading]) -> list[Reading]:
    """Each run to its end, from its newest checkpoint; those that could not be read at all stay as they are."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda each: each if each.problem else Reading(each.store, each.run).advance(), readings))


def choose(store: Store, wanted: Wanted) -> tuple[Reading, int]:
    """The one run that is meant, not read yet, and how many others could not be looked at.

    Without a run_id it is the newest one that fits, by the start of its first attempt.

    :raises RunNotFound: none fits; the message names what there is.
    :raises ConfigError: several fit, such as two groups of one DAG run; the message names them.
    """
    runs = find_runs(store, wanted)
    if not runs:
        raise RunNotFound(_nothing(store, wanted))
    unread = 0
    if wanted.run_id is None and len(runs) > 1:
        readings = newest_first(store, runs)
        unread = sum(1 for reading in readings if reading.problem is not None)
        newest = readings[0].run
        runs = [run for run in runs if (run.deployment, run.dag_id, run.run_id) == (newest.deployment, newest.dag_id, newest.run_id)]
    if len(runs) > 1:
        raise ConfigError(f"{len(runs)} ledgers under {store.root} are meant; add the options of one: {_listed(_options(runs))}.")
    return Reading(store, runs[0]), unread


def missing(store: Store, run: RunKey) -> RunNotFound:
    """The error for a folder of a run that is not there."""
    return RunNotFound(_nothing(store, Wanted(deployment=run.deployment, dag_id=run.dag_id, run_id=run.run_id, group=run.group)))


def _nothing(store: Store, wanted: Wanted) -> str:
    everything = find_runs(store, Wanted())
    if not everything:
        return f"There are no runs under {store.root}; check the ledger's URI."
    asked = ", ".join(f"{name} {value!r}" for name in Wanted.__slots__ if (value := getattr(wanted, name)) is not None)
    same_dag = [run for run in everything if run.dag_id == wanted.dag_id]
    if wanted.dag_id is not None and not same_dag:
        return f"No run under {store.root} has {asked}. Its DAGs: {_listed(_near(wanted.dag_id, {run.dag_id for run in everything}))}."
    candidates = same_dag or everything
    if wanted.run_id is not None and all(run.run_id != wanted.run_id for run in candidates):
        return f"No run under {store.root} has {asked}. Its runs: {_listed(_near(wanted.run_id, {run.run_id for run in candidates}))}."
    close = [run for run in candidates if wanted.run_id in (None, run.run_id)]
    return f"No run under {store.root} has {asked}. There are: {_listed(_options(close))}."


def _near(word: str, names: set[str]) -> list[str]:
    """The names, those like ``word`` first, then the last ones in the order of the alphabet: run_ids begin with their dates."""
    like = difflib.get_close_matches(word, names, n=3)
    return like + sorted(names - set(like), reverse=True)


def _options(runs: list[RunKey]) -> list[str]:
    """Each run as the options that name it; those that are the same for all are left out."""
    values = {
        "--deployment": [run.deployment for run in runs],
        "--dag-id": [run.dag_id for run in runs],
        "--run-id": [run.run_id for run in runs],
        "--group": [run.group for run in runs],
        "--map-index": [str(run.map_index) for run in runs],
    }
    telling = [name for name, column in values.items() if len(set(column)) > 1] or ["--dag-id", "--run-id"]
    return [" ".join(f"{name} {shlex.quote(values[name][at])}" for name in telling) for at in range(len(runs))]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more (ledger-watcher ls)" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more
