"""The tasks of a DAG run as a worker sees them: what they stand for, and their states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import DAG


def task_states(ti: Any, task_ids: Sequence[str] | None = None) -> dict[str, str | None]:  # noqa: ANN401 - Airflow's RuntimeTaskInstance or its like
    """State of every task of the run that ``ti`` belongs to, by task_id: for a mapped task, those of the same map index.

    One request.

    :param task_ids: of these few only: thousands would not fit into the URL.
    """
    mapped = ti.map_index is not None and ti.map_index >= 0
    of = {"map_index": ti.map_index if mapped else None, **({"task_ids": list(task_ids)} if task_ids is not None else {})}
    found = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id], **of).get(ti.run_id) or {}
    suffix = f"_{ti.map_index}" if mapped else ""
    return {
        task_id.removesuffix(suffix) if suffix else task_id: None if state is None else str(getattr(state, "value", state))
        for task_id, state in found.items()
    }


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
    return {task.task_id: vars(task)["trigger_arguments"]["nodes"] for task in watching}
