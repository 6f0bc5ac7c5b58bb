"""The newest runs that have ledgers, and what is in them.

::

    {"runs": [{"dag_id", "run_id", "state", "started": RFC 3339 or null, "places": [place], "more": places left out}],
     "before": number or null}

place
    ``group``, ``map_index``, ``problem`` (text or null); without one, ``status`` (word and detail), ``counts`` (text) and ``seconds``, too.
before
    Ask with it for older runs; ``null``: there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ledger_watcher.errors import LedgerWatcherError
from ledger_watcher.ledger.follower import RunFollower
from ledger_watcher.records import utcnow
from ledger_watcher.report.text import inert
from ledger_watcher.report.view import counts, counts_text, node_rows, run_seconds, run_status
from ledger_watcher_airflow.ui.dags import Place, Run, newest_runs

RUNS = 25
_PLACES = 20
"""Ledgers of one run that are looked into: a mapped group may have hundreds."""
_AT_ONCE = 8


def overview(dag_ids: Sequence[str], readable: Callable[[str], bool], before: int | None = None) -> dict[str, Any]:
    """The newest runs of these DAGs, as this module's docstring says.

    :param readable: whether the ledgers of a DAG may be shown. Asked for those only that have some among these runs.
    """
    runs = newest_runs(dag_ids, RUNS + 1, before)
    may = {dag_id: readable(dag_id) for dag_id in {run.dag_id for run in runs}}
    shown = [run for run in runs[:RUNS] if may[run.dag_id]]
    pairs = [(run, place) for run in shown for place in run.places[:_PLACES]]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        told = iter(list(pool.map(lambda pair: _told(*pair), pairs)))
    return {
        "runs": [
            {
                "dag_id": inert(run.dag_id),
                "run_id": inert(run.run_id),
                "state": run.state,
                "started": run.started_at and run.started_at.isoformat(),
                "places": [next(told) for _ in run.places[:_PLACES]],
                "more": max(0, len(run.places) - _PLACES),
            }
            for run in shown
        ],
        "before": runs[RUNS - 1].number if len(runs) > RUNS else None,
    }


def _told(run: Run, place: Place) -> dict[str, Any]:
    found: dict[str, Any] = {"group": inert(place.ledger.group), "map_index": place.map_index, "problem": None}
    try:
        state = RunFollower(place.ledger.ref.store(), run.key(place)).snapshot()
    except LedgerWatcherError as error:
        return {**found, "problem": inert(error)}
    status = run_status(state, utcnow())
    if not state.attempts:
        return {**found, "problem": "The ledger is empty."}
    return {
        **found,
        "status": {"word": status.word, "detail": inert(status.detail)},
        "counts": counts_text(counts(node_rows(state))),
        "seconds": run_seconds(state),
    }
