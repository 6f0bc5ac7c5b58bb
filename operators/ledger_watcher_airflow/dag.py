"""A dbt project as a DAG, or as a group of tasks in one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk import DAG, BaseOperator, TaskGroup

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow.callbacks import Callbacks
from ledger_watcher_airflow.config import ExecutionConfig, ProfileConfig, ProjectConfig, RenderConfig
from ledger_watcher_airflow.config.aliases import check_names, settled
from ledger_watcher_airflow.drawing import Drawing
from ledger_watcher_airflow.flags import TEMPLATES
from ledger_watcher_airflow.late import refuse_late
from ledger_watcher_airflow.loading import load
from ledger_watcher_airflow.watched import KNOWN_ARGUMENTS, WatchedTasks

if TYPE_CHECKING:
    from ledger_watcher_airflow.local.render import LocalTasks

    Tasks: TypeAlias = LocalTasks | WatchedTasks


class DbtDag(DAG):
    """A DAG that runs one dbt project: one task per node, and the producer that runs dbt.

    :param project_config: the project.
    :param profile_config: the profile.
    :param execution_config: how dbt runs and where the ledger lies.
    :param render_config: how nodes become tasks.
    :param operator_args: dbt flags for the producer (see :class:`DbtFlags`), its ``callback`` and ``callback_args``, how the nodes' tasks wait
        (see :class:`DbtConsumerWatcherSensor`), and Airflow arguments for all tasks.
    :param on_warning_callback: the same as ``operator_args={"on_warning_callback": ...}``.
    :param kwargs: those of :class:`airflow.sdk.DAG`.
    :raises ConfigError: what is wrong and what to do about it; Airflow shows it as an import error of the DAG file.
    """

    def __init__(  # noqa: PLR0913 - one argument per configuration class, and those of Cosmos
        self,
        dag_id: str,
        *,
        project_config: ProjectConfig,
        profile_config: ProfileConfig,
        execution_config: ExecutionConfig | None = None,
        render_config: RenderConfig | None = None,
        operator_args: Mapping[str, Any] | None = None,
        on_warning_callback: Callbacks = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dag_id, **kwargs)
        given = _given(profile_config, execution_config, render_config, operator_args, on_warning_callback)
        with self:
            self.tasks_map = _drawn(project_config, given, dag=self)


class DbtTaskGroup(TaskGroup):
    """The same in a task group of a bigger DAG; several of them may stand in one DAG, each with a ledger of its own.

    Parameters as for :class:`DbtDag`; ``kwargs`` are those of :class:`airflow.sdk.TaskGroup`.
    """

    def __init__(  # noqa: PLR0913 - as above
        self,
        group_id: str = "dbt_task_group",
        *,
        project_config: ProjectConfig,
        profile_config: ProfileConfig,
        execution_config: ExecutionConfig | None = None,
        render_config: RenderConfig | None = None,
        operator_args: Mapping[str, Any] | None = None,
        on_warning_callback: Callbacks = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(group_id, **kwargs)
        given = _given(profile_config, execution_config, render_config, operator_args, on_warning_callback)
        with self:
            self.tasks_map = _drawn(project_config, given, dag=self.dag, home=self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What a user said, but for the project."""

    profile: ProfileConfig
    execution: ExecutionConfig
    render: RenderConfig
    operator_args: Mapping[str, Any]


def _given(
    profile: ProfileConfig,
    execution: ExecutionConfig | None,
    render: RenderConfig | None,
    operator_args: Mapping[str, Any] | None,
    on_warning_callback: Callbacks,
) -> _Given:
    args = dict(operator_args or {})
    if on_warning_callback is not None:
        if "on_warning_callback" in args:
            raise ConfigError("on_warning_callback=... and operator_args['on_warning_callback'] are the same; leave one of them out.")
        args["on_warning_callback"] = on_warning_callback
    return _Given(profile=profile, execution=execution or ExecutionConfig(), render=render or RenderConfig(), operator_args=args)


def _drawn(project: ProjectConfig, given: _Given, *, dag: DAG, home: TaskGroup | None = None) -> dict[str, BaseOperator | TaskGroup]:
    """Draw a project into the DAG or group that is current.

    Returns the task of each node, or its group where it has a test task beside it.
    """
    check_names(given.operator_args, KNOWN_ARGUMENTS)
    project, operator_args = settled(project, given.execution, given.operator_args)
    tasks = _tasks(project, given.profile, given.execution, operator_args, group=(home.group_id if home is not None else None) or "")
    view = load(project, given.profile, given.execution, given.render, operator_args)
    more = {
        **{one.name: getattr(given.render, one.name) for one in fields(given.render) if one.name != "node_converters"},
        "dbt_project_name": project.project_name or view.project,
        "execution_mode": given.execution.execution_mode,
        "test_indirect_selection": given.execution.test_indirect_selection,
        "on_warning_callback": operator_args.get("on_warning_callback"),
        "task_args": {"project_config": project, "profile_config": given.profile, **operator_args},
        "detached_from_parent": {},
    }
    drawing = Drawing(view=view, project=project, config=given.render, dag=dag, home=home, more=more)
    graph = drawing.graph()
    tasks.begin(graph, drawing.view, drawing.config)
    tasks.end(drawing.draw(graph, tasks))
    return drawing.tasks_map


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
