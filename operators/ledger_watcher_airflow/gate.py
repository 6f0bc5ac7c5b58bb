"""What Airflow's ``all_success`` would have said of a task that Airflow starts with the run, whatever becomes of those above it.

Such a task (``trigger_rule="always"``) waits for its own record like any other, and dbt itself builds nothing below a failure. The tasks above it
matter only where dbt is to run again: not for what is below a task that failed for good, and not before those that may still be tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from ledger_watcher_airflow.decision import TERMINAL, Kind, Verdict, Watcher

Above = Callable[[str], Iterable[str]]
"""The ids of the tasks directly before a task."""
Edges = Mapping[str, Collection[str]]
"""The same, of all tasks of a DAG."""
_FAILED = frozenset({"failed", "upstream_failed"})


def above_in(dag: Any) -> Above:  # noqa: ANN401 - a DAG as it is written, or as Airflow has stored it
    """The edges of a DAG."""
    return lambda task_id: dag.get_task(task_id).upstream_task_ids


def edges_of(dag: Any) -> Edges:  # noqa: ANN401 - as above
    """The edges of a DAG, without the rest of it."""
    return {task_id: task.upstream_task_ids for task_id, task in dag.task_dict.items()}


def gated(verdict: Verdict, watcher: Watcher, states: Mapping[str, str | None] | None) -> Verdict:
    """The verdict, if it is not that dbt is to run again, or if that is as it should be for the tasks above.

    :param states: of all tasks of the run, as new as the producer's; ``None``: not asked yet.
    """
    if watcher.above is None or verdict.kind is not Kind.RECOVER:
        return verdict
    if states is None:
        return Verdict(Kind.WAIT, f"{verdict.reason}; the tasks before it have not been looked at")
    failed, unfinished = look_above(watcher.task_id, watcher.above, states)
    if failed is not None:
        return Verdict(
            Kind.FAIL, f"{verdict.reason}; it is not built again, because {failed} before it {states[failed]}: clear that as well"
        )
    if unfinished is not None:
        return Verdict(Kind.WAIT, f"{verdict.reason}; {unfinished} before it is {states[unfinished] or 'not started'}")
    return verdict


def look_above(task_id: str, above: Above, states: Mapping[str, str | None]) -> tuple[str | None, str | None]:
    """A task above that failed, and one that has not ended, if there are any: directly, or through such as have not ended.

    So what is below a failure is known at once, however many tasks between have still to say so, or wait for a try of their own to say it again.
    """
    unfinished, left, seen = None, list(above(task_id)), set[str]()
    while left:
        one = left.pop()
        state = states.get(one, "removed")
        if state in _FAILED:
            return one, unfinished
        if one not in seen and state not in TERMINAL:
            unfinished = unfinished or one
            left += above(one)
        seen.add(one)
    return None, unfinished
