"""What a dbt project says of single tasks: ``meta.cosmos.operator_kwargs`` of a node becomes arguments of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import NodeView, TaskSpec

_TRIGGER_RULES = frozenset(
    {
        "all_success",
        "all_failed",
        "all_done",
        "all_done_min_one_success",
        "all_skipped",
        "one_success",
        "one_failed",
        "one_done",
        "none_failed",
        "none_skipped",
        "none_failed_min_one_success",
        "always",
    }
)
"""Those of Airflow's ``TriggerRule`` that are for every task, as words: the enum's home differs between Airflow's versions."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 - one kind of error for all of them
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number, 0 or more")
    return value


def _positive(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError("a whole number, 1 or more")
    return value


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a whole number")  # noqa: TRY004 - as above
    return value


def _seconds(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError("a number of seconds")
    return timedelta(seconds=value)


def _backoff(value: object) -> float:
    if not isinstance(value, (bool, int, float)) or value < 0:
        raise ValueError("true, false or a factor")
    return float(value)


def _one_of(*words: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(value)

    return check


_CHECKS: dict[str, Callable[[object], Any]] = {
    "depends_on_past": _flag,
    "doc_md": _text,
    "execution_timeout": _seconds,
    "executor": _text,
    "ignore_first_depends_on_past": _flag,
    "max_active_tis_per_dag": _positive,
    "max_active_tis_per_dagrun": _positive,
    "max_retry_delay": _seconds,
    "owner": _text,
    "pool": _text,
    "pool_slots": _positive,
    "priority_weight": _number,
    "queue": _text,
    "retries": _count,
    "retry_delay": _seconds,
    "retry_exponential_backoff": _backoff,
    "task_display_name": _text,
    "trigger_rule": _one_of(*sorted(_TRIGGER_RULES)),
    "wait_for_downstream": _flag,
    "weight_rule": _one_of("absolute", "downstream", "upstream"),
}
_WAITING: dict[str, Callable[[object], Any]] = {
    "deferrable": _flag,
    "mode": _one_of("poke", "reschedule"),
    "poke_interval": _seconds,
    "soft_fail": _flag,
    "timeout": _seconds,
}
"""What is for tasks that mirror the ledger, which an ephemeral model's task does not."""

_OF_ONE_TASK = ("doc_md", "task_display_name", "trigger_rule")
"""What is said of a node and not of the task of its tests: that follows the node's own in any case."""


def node_arguments(spec: TaskSpec, nodes: Mapping[str, NodeView]) -> dict[str, Any]:
    """The arguments that the project gives to a task: those of its node, also for the task of the node's tests.

    A test's own count where it has a task of its own. Durations are seconds.

    :raises ConfigError: an argument that is not one of a task, or a value that cannot be one; names the node and its file.
    """
    own = spec.key in nodes
    node = nodes.get(spec.key) or nodes.get(spec.owner or "")
    if node is None or not node.operator_kwargs:
        return {}
    checks = _CHECKS | _WAITING
    found = {name: _checked(node, name, value, checks) for name, value in node.operator_kwargs.items()}
    unfit = (*(() if own else _OF_ONE_TASK), *(() if spec.nodes else _WAITING))
    return {name: value for name, value in found.items() if name not in unfit}


def _checked(node: NodeView, name: str, value: object, checks: Mapping[str, Callable[[object], Any]]) -> object:
    where = f"operator_kwargs in the meta of {node.unique_id} ({node.path or 'dbt_project.yml'})"
    if name not in checks:
        raise ConfigError(
            f"{name!r} in {where} is no argument of a single task. Known are {', '.join(sorted(checks))}; flags of dbt are for the whole run: write "
            "them into operator_args of the DAG or task group, or leave it out."
        )
    try:
        return checks[name](value)
    except ValueError as error:
        raise ConfigError(f"{name}={value!r} in {where} is wrong: write {error}.") from error
