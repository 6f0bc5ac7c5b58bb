"""What differs between Airflow's versions, in one place: 3.1 has some of the Task SDK's names elsewhere.

Before 3.3.1, ``start_from_trigger`` means nothing for tasks of these classes: each is started on a worker once, which defers it to the same trigger.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow import __version__ as _version

try:
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTimeout,
        DownstreamTasksSkipped,
        TaskDeferred,
    )
except ImportError:  # 3.1
    from airflow.exceptions import (  # type: ignore[no-redef, attr-defined]
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSkipException,
        AirflowTaskTimeout,
        DownstreamTasksSkipped,
        TaskDeferred,
    )

TRIES_COUNT_IN_TRIGGER = tuple(int(part) for part in _version.split(".")[:2]) >= (3, 3) and not _version.startswith("3.3.0")
"""Whether a task that a trigger ends as failed is tried again, if it has a try left (from 3.3.1 on)."""

__all__ = [
    "TRIES_COUNT_IN_TRIGGER",
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowRescheduleException",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "DownstreamTasksSkipped",
    "TaskDeferred",
    "configuration",
    "events_after",
]


def configuration() -> Any:  # noqa: ANN401 -- a parser of Airflow's, which is of another class in each version
    """Airflow's configuration."""
    try:
        from airflow.sdk.configuration import conf  # noqa: PLC0415 - not needed where a DAG says it all
    except ImportError:  # 3.1
        from airflow.configuration import conf  # noqa: PLC0415
    return conf


def events_after(events: Any, since: datetime, most: int) -> list[Any]:  # noqa: ANN401 -- Airflow's accessor of an inlet's events
    """Asset events from ``since`` on, oldest first: at most ``most``, or, where Airflow gives all of them at once (3.1), all."""
    if hasattr(events, "after"):
        return list(events.after(since.isoformat()).limit(most))
    return sorted((event for event in events if event.timestamp >= since), key=lambda event: event.timestamp)
