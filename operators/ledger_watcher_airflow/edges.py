"""Edges between tasks, thousands of them at each parse of a DAG file."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.sdk import BaseOperator, TaskGroup


def put_behind(task: BaseOperator | TaskGroup, parents: Sequence[BaseOperator | TaskGroup]) -> None:
    """What ``task.set_upstream(parents)`` does, and that itself where a group or another DAG is among them.

    That (``DAGNode._set_relatives`` in airflow/sdk/definitions/_internal/node.py) makes a set of the DAGs of all ends, for which it hashes a DAG, and so
    the ids of all of its tasks, once per end of each edge: a second of CPU time for 3,000 tasks.
    """
    dag = task.get_dag() if isinstance(task, BaseOperator) else None
    if dag is None or not all(isinstance(one, BaseOperator) and one.get_dag() is dag for one in parents):
        task.set_upstream(parents)
        return
    for one in parents:
        one.downstream_task_ids.add(task.node_id)
        task.upstream_task_ids.add(one.node_id)
