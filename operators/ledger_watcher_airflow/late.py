"""Values that are known only when a task runs: results of other tasks, and the arguments of a mapped task group.

They are objects of Airflow (``XComArg``, ``MappedArgument``), which a task resolves for itself. So they may stand where a task renders what is
given, and nowhere else: what a DAG file says of a project, a profile or a ledger is needed to draw the tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from ledger_watcher.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

_PLACES = "operator_args: vars, env (their values), select, exclude, selector or target"
"""Where such values may stand, for where dbt runs on a worker."""


def is_late(value: object) -> bool:
    """Whether a value is such an object, or holds one."""
    if isinstance(value, Mapping):
        return any(is_late(one) for one in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(is_late(one) for one in value)
    return hasattr(value, "iter_references") and hasattr(value, "resolve")  # their common base is private to Airflow


def refuse_late(where: str, values: Mapping[str, Any], advice: str = f"it may only be given in {_PLACES}") -> None:
    """See to it that none of these is known only when a task runs.

    :param where: what the names belong to, with ``{}`` for the name.
    :raises ConfigError: one of them is; names it.
    """
    for name, value in values.items():
        if is_late(value):
            raise ConfigError(
                f"{where.format(name)} is an argument of a mapped task group or the result of a task, which is known only when tasks run: {advice}."
            )


def wait_for_late(operator: BaseOperator, values: Iterable[object]) -> None:
    """Put the tasks whose results are among ``values`` before the operator, as Airflow does for its template fields."""
    for value in values:
        XComArg.apply_upstream_relationship(operator, value)
