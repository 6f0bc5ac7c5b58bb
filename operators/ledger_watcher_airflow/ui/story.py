"""What became of a task's nodes in the last runs of its DAG.

::

    {"dag_id", "task_id", "problem": text or null, "nodes": [unique_id], "more": nodes left out, "indexes": [map index], "map_index": the one that is shown,
     "runs": [{"run_id", "state", "started": RFC 3339 or null, "problem": text or null, "nodes": [node or null]}, newest first]}

node
    ``state``, ``attempt``, ``seconds``, ``rows``, ``failures``, ``query_id``, ``message``; those that are not known are null. In the order of
    ``nodes``; ``null``: the run has not had it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ledger_watcher.errors import LedgerWatcherError
from ledger_watcher.ledger.follower import RunFollower
from ledger_watcher.report.text import inert, inert_lines
from ledger_watcher.report.view import NodeRow, node_rows
from ledger_watcher_airflow.ui.dags import Place, Run, map_indexes, newest_runs

RUNS = 20
_NODES = 50
"""Nodes that are told of: a task that stands for a folder may have hundreds."""
_AT_ONCE = 8


def story(dag_id: str, task_id: str, map_index: int | None = None) -> dict[str, Any]:
    """The last runs that had this task, as this module's docstring says."""
    runs = [run for run in newest_runs([dag_id], RUNS) if _place_of(run, task_id)]
    indexes = map_indexes(dag_id, task_id, [run.run_id for run in runs])
    every = sorted({index for found in indexes.values() for index in found})
    chosen = map_index if map_index in every else next(iter(every), -1)
    known = list(dict.fromkeys(uid for run in runs for uid in _nodes_of(run, task_id)))
    nodes = known[:_NODES]
    shown = [run for run in runs if chosen in indexes.get(run.run_id, ())]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        told = list(pool.map(lambda run: _told(run, task_id, chosen, nodes), shown))
    return {
        "dag_id": inert(dag_id),
        "task_id": inert(task_id),
        "problem": None if nodes else inert(_why(dag_id, task_id)),
        "nodes": [inert(unique_id) for unique_id in nodes],
        "more": len(known) - len(nodes),
        "indexes": every,
        "map_index": chosen,
        "runs": told,
    }


def _why(dag_id: str, task_id: str) -> str:
    return f"{task_id} mirrors no node of dbt in the last {RUNS} runs of {dag_id}: there is no story to tell. The tab of a DAG run shows its timeline."


def _place_of(run: Run, task_id: str, map_index: int | None = None) -> Place | None:
    """The ledger that the task mirrors."""
    return next((one for one in run.places if task_id in one.ledger.tasks and map_index in (None, one.map_index)), None)


def _nodes_of(run: Run, task_id: str) -> tuple[str, ...]:
    place = _place_of(run, task_id)
    return place.ledger.tasks[task_id] if place else ()


def _told(run: Run, task_id: str, map_index: int, nodes: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "run_id": inert(run.run_id),
        "state": run.state,
        "started": run.started_at and run.started_at.isoformat(),
        "problem": None,
        "nodes": [None] * len(nodes),
    }
    place = _place_of(run, task_id, map_index)
    if place is None:
        return {**found, "problem": "Airflow has not found out yet which runs of dbt there are."}
    try:
        state = RunFollower(place.ledger.ref.store(), run.key(place)).snapshot()
    except LedgerWatcherError as error:
        return {**found, "problem": inert(error)}
    rows = {row.unique_id: row for row in node_rows(state)}
    found["nodes"] = [_node(rows[unique_id]) if unique_id in rows else None for unique_id in nodes]
    return found


def _node(row: NodeRow) -> dict[str, Any]:
    ended = row.finished
    return {
        "state": row.state,
        "attempt": row.attempt,
        "seconds": row.seconds(),
        "rows": ended and ended.rows_affected,
        "failures": ended and ended.failures,
        "query_id": ended and ended.query_id and inert(ended.query_id),
        "message": "\n".join(inert_lines(ended.message)) if ended and ended.message else None,
    }
