"""The tasks of ``ExecutionMode.LOCAL`` and ``VIRTUALENV``: the same graph, each task with a dbt of its own for exactly its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Asset, BaseOperator

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import SOURCES, TESTS, WITHOUT_TASK, ProjectView, TaskSpec, TestBehavior, below_sources
from ledger_watcher_airflow.assets import dbt_asset
from ledger_watcher_airflow.commands import COMMANDS, LIMITED, SELECTION
from ledger_watcher_airflow.config import ExecutionConfig, ExecutionMode, ProfileConfig, ProjectConfig, RenderConfig
from ledger_watcher_airflow.consumer import WAITING
from ledger_watcher_airflow.flags import DbtFlags
from ledger_watcher_airflow.local.classes import OPERATORS

_OF_TYPE = {"model": "Run", "seed": "Seed", "snapshot": "Snapshot", "test": "Test", "unit_test": "Test"}
_OURS = ("callback", "callback_args", "on_warning_callback")
_VIRTUALENV = ("py_requirements", "py_system_site_packages", "pip_install_options")


class LocalTasks:
    """Creates the task of each node in the DAG or group that is current.

    :raises ConfigError: in ``operator_args``, what is for tasks that mirror a ledger, or says which nodes.
    """

    def __init__(
        self, project: ProjectConfig, profile: ProfileConfig, execution: ExecutionConfig, operator_args: Mapping[str, Any]
    ) -> None:
        flags, rest = DbtFlags.split(operator_args)
        mode = execution.execution_mode
        for name in (*flags.given(SELECTION), *(name for name in WAITING if name in rest)):
            why = "each task builds exactly its own nodes" if name in SELECTION else "it is for tasks that wait for a producer"
            raise ConfigError(f"operator_args[{name!r}] has no meaning with ExecutionMode.{mode.name}: {why}; leave it out.")
        in_virtualenv = mode is ExecutionMode.VIRTUALENV
        if not in_virtualenv and (odd := [name for name in _VIRTUALENV if name in rest]):
            raise ConfigError(f"operator_args[{odd[0]!r}] is for ExecutionMode.VIRTUALENV; set that, or leave it out.")
        self._mode = "Virtualenv" if in_virtualenv else "Local"
        ours = (*_OURS, *(_VIRTUALENV if in_virtualenv else ()))
        self._task_args = {name: value for name, value in rest.items() if name not in ours}
        self._flags = {name: value for name, value in operator_args.items() if name not in rest}
        self._own = {
            "project_config": project,
            "profile_config": profile,
            "invocation_mode": execution.invocation_mode,
            "dbt_executable_path": execution.dbt_executable_path,
            "virtualenv_dir": execution.virtualenv_dir,
            **({"py_requirements": ()} if in_virtualenv else {}),
            **{name: value for name, value in rest.items() if name in ours},
        }

    def begin(self, graph: Sequence[TaskSpec], view: ProjectView, config: RenderConfig) -> None:
        """Learn what the tasks are of. If there are none, create one that does nothing: in a bigger DAG something may wait for the group."""
        if not graph:
            EmptyOperator(task_id="nothing_selected", **self._task_args)
        self._view, self._behavior = view, config.test_behavior
        self._emits = config.emit_datasets
        self._below_sources = below_sources(graph)

    def task(self, spec: TaskSpec, *, asset: Asset | None = None, **arguments: Any) -> BaseOperator:
        """The task of a node; ``arguments`` are those of this task alone, over those of all."""
        # What has nothing but skipped tasks above it is skipped, too; a stale source beside a fresh one holds nothing up.
        rule = {"trigger_rule": "none_failed_min_one_success"} if spec.key in self._below_sources else {}
        arguments = {**rule, **self._task_args, **arguments}
        if not spec.nodes:
            return EmptyOperator(**{"task_id": spec.task_id, **arguments})
        relations = [self._view.nodes[name].relation for name in spec.members or (spec.key,) if name in self._view.nodes]
        built = [asset] if asset is not None else [dbt_asset(relation) for relation in relations if relation and self._emits]
        if built:
            arguments["outlets"] = [*arguments.get("outlets", ()), *built]
        nodes = (*spec.nodes, *_without_task(spec.nodes, self._view))
        stem = command_for(nodes, self._behavior)
        missing = LIMITED - COMMANDS[stem].takes  # said of all tasks, meant for those that can
        flags = {name: value for name, value in self._flags.items() if name not in missing}
        own = {"task_id": spec.task_id, **self._own, **flags, **arguments}
        return OPERATORS[f"Dbt{stem}{self._mode}Operator"](nodes=nodes, **own)

    def end(self, tasks: Sequence[BaseOperator]) -> None:
        """Nothing comes after them: each task tells of its own asset."""


def command_for(nodes: Iterable[str], behavior: TestBehavior) -> str:
    """The command that builds, tests or checks these unique_ids: that of their type, ``dbt build`` for several, or where tests are part of a node."""
    types = {unique_id.split(".", 1)[0] for unique_id in nodes}
    if types <= TESTS:
        return "Test"
    if types <= SOURCES:
        return "Source"
    found = {_OF_TYPE.get(one, "Build") for one in types}
    return found.pop() if len(found) == 1 and behavior is not TestBehavior.BUILD else "Build"


def _without_task(nodes: Iterable[str], view: ProjectView) -> list[str]:
    """What these nodes need and what has no task of its own (functions): it is made together with each node that needs it."""
    found: set[str] = set()
    left, made = list(nodes), {node.unique_id for node in view.of_type(WITHOUT_TASK)}
    while left:
        node = view.nodes.get(left.pop())
        parents = [view.nodes[parent] for parent in (node.parents if node is not None else ()) if parent in view.nodes]
        more = [parent.unique_id for parent in parents if parent.unique_id in made and parent.unique_id not in found]
        found.update(more)
        left += more
    return sorted(found)
