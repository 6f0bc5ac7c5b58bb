"""A dbt project as a DAG, or as a group of tasks in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator, TaskGroup

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import (
    ID_LIMIT,
    WITHOUT_TASK,
    SourceRenderingBehavior,
    TaskKind,
    TaskSpec,
    TestBehavior,
    below_sources,
    build_graph,
    load_project,
)
from ledger_watcher_airflow.config import ExecutionConfig, ExecutionMode, ProducerRetryOn, ProfileConfig, ProjectConfig, RenderConfig
from ledger_watcher_airflow.consumer import (
    WAITING,
    DbtConsumerWatcherSensor,
    DbtRunWatcherOperator,
    DbtSeedWatcherOperator,
    DbtSnapshotWatcherOperator,
    DbtSourceWatcherOperator,
    DbtTestWatcherOperator,
)
from ledger_watcher_airflow.flags import DbtCall, DbtFlags
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.producer import PRODUCER_TASK_ID, DbtProducerWatcherOperator

if TYPE_CHECKING:
    from ledger_watcher_airflow.local.render import LocalTasks

_CONSUMERS: dict[TaskKind, type[DbtConsumerWatcherSensor]] = {
    TaskKind.RUN: DbtRunWatcherOperator,
    TaskKind.SEED: DbtSeedWatcherOperator,
    TaskKind.SNAPSHOT: DbtSnapshotWatcherOperator,
    TaskKind.SOURCE: DbtSourceWatcherOperator,
    TaskKind.TEST: DbtTestWatcherOperator,
}
_VIRTUALENV = ("py_requirements", "py_system_site_packages", "pip_install_options")
_CALLBACK = ("callback", "callback_args")


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
            self.tasks_map = _Renderer(project_config, profile_config, execution_config, operator_args or {}).render(
                render_config or RenderConfig()
            )


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
            renderer = _Renderer(project_config, profile_config, execution_config, operator_args or {}, group=self.group_id or "")
            self.tasks_map = renderer.render(render_config or RenderConfig())


class _Renderer:
    """Creates the tasks in the DAG or group that is current."""

    def __init__(
        self, project: ProjectConfig, profile: ProfileConfig, execution: ExecutionConfig, operator_args: Mapping[str, Any], group: str = ""
    ) -> None:
        project.check()
        profile.check(elsewhere=execution.producer is not None)
        self._project = project
        self._profile = profile
        self._execution = execution
        self._group = group
        self._local: LocalTasks | None = None
        if execution.execution_mode.node_by_node:
            from ledger_watcher_airflow.local import render  # noqa: PLC0415 - few DAG files need it

            self._local = render.LocalTasks(project, profile, execution, operator_args)
            return
        self._ledger: LedgerRef = execution.ledger()
        self._flags, task_args = DbtFlags.split(operator_args)
        self._virtualenv = _taken(task_args, _VIRTUALENV)
        if self._virtualenv and execution.execution_mode is not ExecutionMode.WATCHER_VIRTUALENV:
            raise ConfigError(
                f"operator_args[{next(iter(self._virtualenv))!r}] is for ExecutionMode.WATCHER_VIRTUALENV or VIRTUALENV; set one of them, or leave it out."
            )
        self._callback = _taken(task_args, _CALLBACK)
        if self._callback and execution.producer is not None:
            raise ConfigError(
                "operator_args['callback'] needs dbt's artifacts on the worker, but ExecutionConfig(producer=...) runs dbt elsewhere: leave it out; "
                "the artifacts are in the ledger (`ledger-watcher export`)."
            )
        self._waiting = _taken(task_args, (*WAITING, "on_warning_callback"))
        self._task_args = task_args

    def render(self, config: RenderConfig) -> dict[str, BaseOperator | TaskGroup]:
        """Create the tasks and their edges; returns the task of each node, or its group where it has a test task beside it."""
        view = load_project(self._project.manifest)
        room = ID_LIMIT - len(self._group) - 1 if self._group else ID_LIMIT
        sources = config.source_rendering_behavior
        if sources is not SourceRenderingBehavior.NONE and self._local is not None:
            raise ConfigError(
                f"RenderConfig(source_rendering_behavior=...) is for one run of dbt that checks all sources; with ExecutionMode."
                f"{self._execution.execution_mode.name} leave it out, or use DbtSourceLocalOperator in a task of your own."
            )
        if sources is SourceRenderingBehavior.NONE and self._execution.source_freshness_skip is not None:
            raise ConfigError(
                "ExecutionConfig(source_freshness_skip=...) decides what stale sources hold back, but no source is checked: give "
                "RenderConfig(source_rendering_behavior=SourceRenderingBehavior.ALL), or leave it out."
            )
        graph = build_graph(view, config.test_behavior, sources=sources, reserved={PRODUCER_TASK_ID}, id_limit=room)
        if not graph:
            raise ConfigError(f"The manifest {self._project.manifest} has no models, seeds or snapshots, so there is nothing to run.")
        lenient = below_sources(graph)
        groups = {name: TaskGroup(name) for name in dict.fromkeys(spec.group for spec in graph) if name}
        places = {spec.key: {"task_group": groups[spec.group]} if spec.group else {} for spec in graph}
        if self._local is not None:
            tasks = {spec.key: self._local.task(spec, view, config.test_behavior, **places[spec.key]) for spec in graph}
        else:
            producer = self._producer(
                sorted({unique_id for spec in graph for unique_id in spec.nodes}),
                sorted(node.unique_id for node in view.nodes.values() if node.resource_type in WITHOUT_TASK),
                config.test_behavior,
            )
            tasks = {spec.key: self._task(spec, producer.task_id, places[spec.key], lenient=spec.key in lenient) for spec in graph}
        for spec in graph:
            for parent in spec.upstream:
                tasks[spec.key].set_upstream(tasks[parent])
        return {spec.key: groups.get(spec.group or "", tasks[spec.key]) for spec in graph if spec.kind is not TaskKind.TEST}

    def _producer(self, nodes: list[str], without_task: list[str], behavior: TestBehavior) -> BaseOperator:
        execution, tests_last = self._execution, behavior is TestBehavior.AFTER_ALL
        excluded_types = ("test", "unit_test") if behavior is TestBehavior.NONE else ()
        # A priority for all tasks is not meant to put the producer among those that wait for it.
        task_args = {name: value for name, value in self._task_args.items() if name not in ("priority_weight", "weight_rule")}
        if execution.producer is not None:
            from ledger_watcher_airflow.producers.command import make_producer, producer_command  # noqa: PLC0415 - few DAG files need it

            build = DbtCall(
                project=self._project, profile=self._profile, flags=self._flags, excluded_types=excluded_types, tests_last=tests_last
            )
            dbt = str(execution.dbt_executable_path or "dbt")
            command = producer_command(build, self._ledger, nodes, executable=dbt, ledger_group=self._group, task_args=task_args)
            return make_producer(execution.producer, command)
        arguments: dict[str, Any] = {
            "project_config": self._project,
            "profile_config": self._profile,
            "execution_config": execution,
            "ledger": self._ledger,
            "nodes": nodes,
            "without_task": without_task,
            "flags": self._flags,
            "excluded_types": excluded_types,
            "tests_last": tests_last,
            "ledger_group": self._group,
            **self._callback,
            **task_args,
        }
        if execution.execution_mode is ExecutionMode.WATCHER_VIRTUALENV:
            from ledger_watcher_airflow.producers.virtualenv import DbtProducerWatcherVirtualenvOperator  # noqa: PLC0415

            return DbtProducerWatcherVirtualenvOperator(**{"py_requirements": (), **self._virtualenv}, **arguments)
        return DbtProducerWatcherOperator(**arguments)

    def _task(self, spec: TaskSpec, producer: str, place: Mapping[str, Any], *, lenient: bool) -> BaseOperator:
        """``lenient``: what is skipped above it is skipped by choice, and whether this is, too, the ledger says."""
        task_args = {**({"trigger_rule": "none_failed"} if lenient else {}), **self._task_args}
        if spec.kind is TaskKind.EMPTY:
            return EmptyOperator(task_id=spec.task_id, **place, **task_args)
        return _CONSUMERS[spec.kind](
            task_id=spec.task_id,
            nodes=spec.nodes,
            ledger=self._ledger,
            producer_task_id=producer,
            ledger_group=self._group,
            poll_interval=self._execution.poll_interval,
            patient=self._execution.producer_retry_on is ProducerRetryOn.NODE_ERRORS,
            **place,
            **self._waiting,
            **task_args,
        )


def _taken(arguments: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Take these out of ``arguments``."""
    return {name: arguments.pop(name) for name in names if name in arguments}
