"""Airflow policy hook (entry point ``airflow.policy``): keeps durations of cleared tasks right.

Airflow 3.3 sets the start of a task that begins in the trigger but leaves the end of its try before, so that a cleared one shows a
negative duration. An end that is older than the try itself (the time in its uuid7 id) is of the try before and set to nothing, when Airflow
creates or clears the try; not while it is ``up_for_retry``, whose delay Airflow counts from that end.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow.policies import hookimpl

OPERATORS = frozenset(
    {
        "DbtAssetsOperator",
        "DbtBuildWatcherOperator",
        "DbtConsumerWatcherSensor",
        "DbtRunWatcherOperator",
        "DbtSeedWatcherOperator",
        "DbtSnapshotWatcherOperator",
        "DbtSourceWatcherOperator",
        "DbtTestWatcherOperator",
    }
)


@hookimpl
def task_instance_mutation_hook(task_instance: Any) -> None:  # noqa: ANN401 - Airflow's own TaskInstance, not to be imported here
    """Null an end and a duration that are of the try before. Never raises: it runs in the scheduler."""
    with suppress(Exception):
        if task_instance.operator not in OPERATORS or task_instance.state == "up_for_retry":
            return
        born = int(str(task_instance.id).replace("-", "")[:12], 16) / 1000
        if task_instance.end_date is not None and task_instance.end_date.timestamp() < born:
            task_instance.end_date = None
            task_instance.duration = None
