"""The tasks of a DAG run as a worker sees them: what they stand for, and their states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG


def task_states(ti: Any, task_ids: Sequence[str] | None = None) -> dict[str, str | None]:  # noqa: ANN401 - Airflow's RuntimeTaskInstance or its like
    """State of every task of the run that ``ti`` belongs to, by task_id: for a mapped task, those of the same map index.

    :param task_ids: of these few only: thousands would not fit into the URL.
    """
    return states_in(ti.get_task_states, dag_id=ti.dag_id, run_id=ti.run_id, map_index=ti.map_index, task_ids=task_ids)


def states_in(
    get_task_states: Callable[..., dict[str, Any]],
    *,
    dag_id: str,
    run_id: str,
    map_index: int | None,
    task_ids: Sequence[str] | None = None,
) -> dict[str, str | None]:
    """State of tasks of a run, by task_id, asked with ``RuntimeTaskInstance.get_task_states``: for a map index, those of this index.

    One request. Airflow expands each task of a mapped group when that task's own dependencies allow it, so that one that is waited for may have no
    instance of this index yet: for any of ``task_ids`` that is not found, a second request asks for the state of what is to be expanded.
    """
    mapped = map_index is not None and map_index >= 0
    one: dict[str, Any] = {"dag_id": dag_id, "run_ids": [run_id]}
    some = {} if task_ids is None else {"task_ids": list(task_ids)}
    found = get_task_states(**one, **some, map_index=map_index if mapped else None).get(run_id) or {}
    suffix = f"_{map_index}" if mapped else ""
    states = {task_id.removesuffix(suffix) if suffix else task_id: _word(state) for task_id, state in found.items()}
    missing = [task_id for task_id in task_ids or () if task_id not in states] if mapped else []
    if missing:
        unexpanded = get_task_states(**one, task_ids=missing, map_index=None).get(run_id) or {}
        states.update({task_id: _word(unexpanded[task_id]) for task_id in missing if task_id in unexpanded})
    return states


def _word(state: Any) -> str | None:  # noqa: ANN401 - Airflow's enum, or a text
    return None if state is None else str(getattr(state, "value", state))


def done_nodes(ti: Any, dag: DAG | None, producer: str) -> frozenset[str]:  # noqa: ANN401 - as above
    """The nodes whose tasks are ``success`` now: after a clear, they are what ``producer``, of which ``ti`` is a try, is not to build again."""
    if ti.try_number <= 1 or dag is None:
        return frozenset()
    states = task_states(ti)
    nodes = nodes_of_tasks(dag, producer)
    shown = {unique_id for task_id in nodes if states.get(task_id) == "success" for unique_id in nodes[task_id]}
    return frozenset(shown.difference(*(nodes[task_id] for task_id in nodes if states.get(task_id) != "success")))


def nodes_of_tasks(dag: DAG, producer: str) -> dict[str, Sequence[str]]:
    """The unique_ids that each task mirrors, by task_id, of the tasks that watch this producer."""
    watching = (task for task in dag.tasks if getattr(task, "producer_task_id", None) == producer)
    return {task.task_id: vars(task)["nodes"] for task in watching}
