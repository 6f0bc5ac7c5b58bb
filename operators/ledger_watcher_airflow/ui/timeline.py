"""The timeline of a DAG run's ledger, as the page asks for it while the run goes on.

An answer is plain data for JSON, all of its texts inert::

    {"dag_id", "run_id", "state": the DAG run's, "places": [place], "chosen": index in places or null,
     "problem": text or null, "again": seconds until the page asks again, null: all is said, "timeline": timeline or null}

place
    ``group``, ``map_index`` (-1: not mapped), ``state`` (of the producer's task, or null).
timeline
    See :mod:`ledger_watcher.report.timeline`. ``null``: nothing is in the ledger, ``problem`` says why.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.records import utcnow
from ledger_watcher.report.live import LiveRun
from ledger_watcher.report.text import inert
from ledger_watcher.report.timeline import timeline_data
from ledger_watcher.report.view import RUNNING, run_status
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.ui.dags import Place, Run

OFTEN, SELDOM, AT_ONCE = 2.0, 5.0, 0.2
"""Seconds until the page asks again: while records come, while they may, and while there is more to read than one answer had time for."""
ENDED = ("success", "failed")
NO_LEDGER = (
    "There is no ledger here: none of the tasks mirrors dbt's nodes. A DAG has ledgers with ExecutionMode.WATCHER, the default of DbtDag and "
    "DbtTaskGroup; with ExecutionMode.LOCAL or VIRTUALENV each task runs dbt for itself, and its log has all there is."
)


@dataclass(slots=True)
class _Kept:
    live: LiveRun
    lock: Lock = field(default_factory=Lock)
    used_at: float = 0.0


class LiveRuns:
    """The runs that pages look at, each read once for all who look.

    :param most: how many are kept.
    :param idle: seconds after which one that nobody asked for is forgotten.
    """

    def __init__(self, most: int = 8, idle: float = 120.0) -> None:
        self._most = most
        self._idle = idle
        self._kept: dict[tuple[LedgerRef, RunKey], _Kept] = {}
        self._lock = Lock()

    @contextmanager
    def of(self, ref: LedgerRef, run: RunKey) -> Iterator[LiveRun]:
        """A run, for this thread alone."""
        now = time.monotonic()
        with self._lock:
            kept = self._kept.pop((ref, run), None) or _Kept(LiveRun(ref.store(), run))
            kept.used_at = now
            fresh = {key: one for key, one in self._kept.items() if now - one.used_at < self._idle}
            self._kept = dict([*fresh.items(), ((ref, run), kept)][-self._most :])
        with kept.lock:
            yield kept.live


def answer(run: Run, place: Place | None, lives: LiveRuns, seen: str | None = None) -> tuple[str, dict[str, Any] | None]:
    """A name for what there is to show, and that itself; ``None`` if the name is ``seen``.

    :param place: which of the run's ledgers; ``None``: it has none.
    """
    frame: dict[str, Any] = {
        "dag_id": inert(run.dag_id),
        "run_id": inert(run.run_id),
        "state": run.state,
        "places": [{"group": inert(one.ledger.group), "map_index": one.map_index, "state": one.state} for one in run.places],
        "chosen": None if place is None else list(run.places).index(place),
    }
    if place is None:
        return _named({**frame, "problem": NO_LEDGER, "again": None, "timeline": None}, seen)
    try:
        with lives.of(place.ledger.ref, run.key(place)) as live:
            live.look()
            word = run_status(live.state, utcnow()).word
            frame |= {"problem": _problem(run, place, live), "again": _again(run, live, word)}
            name, found = _named(frame, seen, word, live.objects)
            if found is not None:
                found["timeline"] = timeline_data(live.source()) if live.state.attempts else None
            return name, found
    except ConfigError as error:  # a place that no ledger can be in, or nothing to open it with
        return _named({**frame, "problem": inert(error), "again": None, "timeline": None}, seen)


def _named(frame: dict[str, Any], seen: str | None, *more: object) -> tuple[str, dict[str, Any] | None]:
    name = hashlib.sha256(json.dumps([frame, *more]).encode()).hexdigest()[:32]
    return name, None if name == seen else frame


def _problem(run: Run, place: Place, live: LiveRun) -> str | None:
    if live.problem is not None:
        return inert(live.problem)
    if live.state.attempts:
        return None
    producer, state = place.ledger.producer, place.state or "not begun"
    if run.state in ENDED:
        return inert(f"The ledger of this run is empty: the task {producer} ({state}) has written nothing. Its log says why.")
    return inert(f"The ledger of this run is not there yet. The task {producer}, which writes it, is: {state}.")


def _again(run: Run, live: LiveRun, word: str) -> float | None:
    if live.behind:
        return AT_ONCE
    if run.state in ENDED:
        return SELDOM if word == RUNNING else None
    return OFTEN if word == RUNNING or not live.state.attempts else SELDOM
