"""What Airflow stores of a node's task: only what it would not assume of a task that says nothing, for there are thousands of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseSensorOperator

from ledger_watcher_airflow.compat import TRIES_COUNT_IN_TRIGGER

_ASSUMED = {"_needs_expansion": False, "has_retry_policy": False, "reschedule": False, "retry_delay": timedelta(seconds=300)}
"""What Airflow 3.3 writes of every task, and reads the same where it is not written (``SerializedBaseOperator`` in
airflow/serialization/definitions/baseoperator.py, and ``ReadyToRescheduleDep``): 89 bytes."""


class StoredFields:
    """``get_serialized_fields`` of a sensor: asked of a class, all fields; of a task, which is what Airflow asks, those of which it has something to say."""

    def __get__(self, task: Any, kind: type[BaseSensorOperator]) -> Callable[[], frozenset[str]]:  # noqa: ANN401 - a task of ``kind``, or None
        def fields() -> frozenset[str]:
            every: frozenset[str] = BaseSensorOperator.get_serialized_fields.__func__(kind)  # type: ignore[attr-defined]
            if task is None or not TRIES_COUNT_IN_TRIGGER:  # nobody looked at what Airflow assumes before 3.3.1
                return every
            return every - {name for name, value in _ASSUMED.items() if getattr(task, name, None) == value}

        return fields
