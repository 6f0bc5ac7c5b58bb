"""Airflow policy hook (entry point ``airflow.policy``): keeps durations of cleared tasks right.

Airflow 3.3 sets the start of a task that begins in the trigger but leaves the end of its try before, so that a cleared one shows a
negative duration. Both are set to nothing whenever one of our tasks is about to be scheduled.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow.policies import hookimpl

_OPERATORS = frozenset(
    {"DbtConsumerWatcherSensor", "DbtRunWatcherOperator", "DbtSeedWatcherOperator", "DbtSnapshotWatcherOperator", "DbtTestWatcherOperator"}
)


@hookimpl
def task_instance_mutation_hook(task_instance: Any) -> None:  # noqa: ANN401 - Airflow's own TaskInstance, not to be imported here
    """Null the end and the duration of a try that has not ended. Never raises: it runs in the scheduler."""
    with suppress(Exception):
        if task_instance.operator in _OPERATORS and task_instance.state is None:
            task_instance.end_date = None
            task_instance.duration = None
