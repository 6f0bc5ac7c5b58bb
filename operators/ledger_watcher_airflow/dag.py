"""A dbt project as a DAG, or as a group of tasks in one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk import DAG, BaseOperator, TaskGroup

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import ID_LIMIT, ProjectView, TaskKind, TaskSpec, build_graph, load_project
from ledger_watcher_airflow.assets import asset_task_ids, dbt_asset
from ledger_watcher_airflow.config import AssetMode, ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from ledger_watcher_airflow.flags import TEMPLATES
from ledger_watcher_airflow.late import refuse_late
from ledger_watcher_airflow.overrides import node_arguments
from ledger_watcher_airflow.producer import PRODUCER_TASK_ID
from ledger_watcher_airflow.watched import WatchedTasks

if TYPE_CHECKING:
    from ledger_watcher_airflow.local.render import LocalTasks

    Tasks: TypeAlias = LocalTasks | WatchedTasks

_TESTS = (TaskKind.TEST, TaskKind.SHARED_TEST)


class DbtDag(DAG):
    """A DAG that runs one dbt project: one task per node, and the producer that runs dbt.

    :param project_config: the project.
    :param profile_config: the profile.
    :param execution_config: how dbt runs and where the ledger lies.
    :param render_config: how nodes become tasks.
    :param operator_args: dbt flags for the producer (see :class:`DbtFlags`), its ``callback`` and ``callback_args``, how the nodes' tasks wait
        (see :class:`DbtConsumerWatcherSensor`), and Airflow arguments for all tasks.
    :param kwargs: those of :class:`airflow.sdk.DAG`.
    :raises ConfigError: what is wrong and what to do about it; Airflow shows it as an import error of the DAG file.
    """

    def __init__(
        self,
        dag_id: str,
        *,
        project_config: ProjectConfig,
        profile_config: ProfileConfig,
        execution_config: ExecutionConfig,
        render_config: RenderConfig | None = None,
        operator_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dag_id, **kwargs)
        with self:
            tasks = _tasks(project_config, profile_config, execution_config, operator_args or {})
            self.tasks_map = _draw(tasks, project_config, render_config or RenderConfig())


class DbtTaskGroup(TaskGroup):
    """The same in a task group of a bigger DAG; several of them may stand in one DAG, each with a ledger of its own.

    Parameters as for :class:`DbtDag`; ``kwargs`` are those of :class:`airflow.sdk.TaskGroup`.
    """

    def __init__(
        self,
        group_id: str = "dbt_task_group",
        *,
        project_config: ProjectConfig,
        profile_config: ProfileConfig,
        execution_config: ExecutionConfig,
        render_config: RenderConfig | None = None,
        operator_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(group_id, **kwargs)
        with self:
            path = self.group_id or ""
            tasks = _tasks(project_config, profile_config, execution_config, operator_args or {}, group=path)
            self.tasks_map = _draw(tasks, project_config, render_config or RenderConfig(), group=path)


def _tasks(
    project: ProjectConfig, profile: ProfileConfig, execution: ExecutionConfig, operator_args: Mapping[str, Any], group: str = ""
) -> Tasks:
    """What makes the tasks in this mode."""
    for config in (project, profile, execution):
        refuse_late(
            f"{type(config).__name__}({{}}=...)",
            {one.name: getattr(config, one.name) for one in fields(config) if one.name != "setup_operator_args"},
        )
    rest = {name: value for name, value in {**operator_args, **(execution.setup_operator_args or {})}.items() if name not in TEMPLATES}
    refuse_late("operator_args['{}']", rest)
    project.check()
    profile.check(elsewhere=execution.producer is not None)
    if not execution.execution_mode.node_by_node:
        return WatchedTasks(project, profile, execution, operator_args, group)
    from ledger_watcher_airflow.local.render import LocalTasks  # noqa: PLC0415 - few DAG files need it

    return LocalTasks(project, profile, execution, operator_args)


def _draw(tasks: Tasks, project: ProjectConfig, config: RenderConfig, group: str = "") -> dict[str, BaseOperator | TaskGroup]:
    """Create the tasks and their edges in the DAG or group that is current.

    Returns the task of each node, or its group where it has a test task beside it.
    """
    view = load_project(project.manifest)
    graph = build_graph(
        view,
        config.test_behavior,
        detach=config.should_detach_multiple_parents_tests,
        sources=config.source_rendering_behavior,
        reserved={PRODUCER_TASK_ID, *asset_task_ids(len(view.nodes))},
        id_limit=ID_LIMIT - len(group) - 1 if group else ID_LIMIT,
    )
    if not graph:
        raise ConfigError(f"The manifest {project.manifest} has no models, seeds or snapshots, so there is nothing to run.")
    groups = {name: TaskGroup(name) for name in dict.fromkeys(spec.group for spec in graph) if name}
    tasks.begin(graph, view, config)
    drawn = {}
    for spec in graph:
        place: dict[str, Any] = {"task_group": groups[spec.group]} if spec.group else {}
        drawn[spec.key] = tasks.task(spec, **place, **_arguments(spec, view, outlets=config.asset_mode is AssetMode.PER_NODE))
    for spec in graph:
        for parent in spec.upstream:
            drawn[spec.key].set_upstream(drawn[parent])
    tasks.end(list(drawn.values()))
    return {spec.key: groups.get(spec.group or "", drawn[spec.key]) for spec in graph if spec.kind not in _TESTS}


def _arguments(spec: TaskSpec, view: ProjectView, *, outlets: bool) -> dict[str, Any]:
    """What is said of this task alone."""
    found = node_arguments(spec, view.nodes)
    node = view.nodes.get(spec.key)
    if outlets and node is not None and node.relation and spec.kind is not TaskKind.EMPTY:
        found["asset"] = dbt_asset(node.relation)
    return found
