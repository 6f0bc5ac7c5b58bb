"""A dbt project as a DAG, or as a group of tasks in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseOperator, TaskGroup

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import (
    BUILDABLE,
    ID_LIMIT,
    WITHOUT_TASK,
    ProjectView,
    TaskKind,
    TaskSpec,
    TestBehavior,
    build_graph,
    load_project,
)
from ledger_watcher_airflow.assets import asset_task_ids, asset_tasks, dbt_asset
from ledger_watcher_airflow.config import (
    AssetMode,
    ExecutionConfig,
    ExecutionMode,
    ProducerRetryOn,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
)
from ledger_watcher_airflow.consumer import (
    DbtConsumerWatcherSensor,
    DbtRunWatcherOperator,
    DbtSeedWatcherOperator,
    DbtSnapshotWatcherOperator,
    DbtTestWatcherOperator,
)
from ledger_watcher_airflow.flags import DbtBuild, DbtFlags
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.overrides import node_arguments
from ledger_watcher_airflow.producer import PRODUCER_TASK_ID, DbtProducerWatcherOperator

_CONSUMERS: dict[TaskKind, type[DbtConsumerWatcherSensor]] = {
    TaskKind.RUN: DbtRunWatcherOperator,
    TaskKind.SEED: DbtSeedWatcherOperator,
    TaskKind.SNAPSHOT: DbtSnapshotWatcherOperator,
    TaskKind.TEST: DbtTestWatcherOperator,
    TaskKind.SHARED_TEST: DbtTestWatcherOperator,
}
_TESTS = (TaskKind.TEST, TaskKind.SHARED_TEST)
_VIRTUALENV = ("py_requirements", "py_system_site_packages", "pip_install_options")
_CALLBACK = ("callback", "callback_args")
_WAITING = (
    "deferrable",
    "mode",
    "poke_interval",
    "timeout",
    "soft_fail",
    "never_fail",
    "silent_fail",
    "exponential_backoff",
    "max_wait",
    "on_warning_callback",
)
"""What is said of the nodes' tasks only."""


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
        self._ledger: LedgerRef = execution.ledger()
        setup = execution.setup_operator_args or {}
        odd = next((name for name in setup if name in _WAITING), None)
        if odd is not None:
            raise ConfigError(
                f"ExecutionConfig(setup_operator_args={{{odd!r}: ...}}) is for the producer, {odd} for tasks that wait: use operator_args."
            )
        self._flags, task_args = DbtFlags.split({**operator_args, **setup})
        self._virtualenv = _taken(task_args, _VIRTUALENV)
        if self._virtualenv and execution.execution_mode is not ExecutionMode.WATCHER_VIRTUALENV:
            raise ConfigError(
                f"operator_args[{next(iter(self._virtualenv))!r}] is for ExecutionMode.WATCHER_VIRTUALENV; set that too, or leave it out."
            )
        self._callback = _taken(task_args, _CALLBACK)
        if self._callback and execution.producer is not None:
            raise ConfigError(
                "operator_args['callback'] needs dbt's artifacts on the worker, but ExecutionConfig(producer=...) runs dbt elsewhere: leave it out; "
                "the artifacts are in the ledger (`ledger-watcher export`)."
            )
        self._waiting = _taken(task_args, _WAITING)
        self._setup_args = {name: value for name, value in task_args.items() if name in setup}
        self._task_args = {name: operator_args[name] for name in task_args if name in operator_args}

    def render(self, config: RenderConfig) -> dict[str, BaseOperator | TaskGroup]:
        """Create producer, consumers and edges; returns the task of each node, or its group where it has a test task beside it."""
        view = load_project(self._project.manifest)
        room = ID_LIMIT - len(self._group) - 1 if self._group else ID_LIMIT
        graph = build_graph(
            view,
            config.test_behavior,
            detach=config.should_detach_multiple_parents_tests,
            reserved={PRODUCER_TASK_ID, *asset_task_ids(len(view.nodes))},
            id_limit=room,
        )
        if not graph:
            raise ConfigError(f"The manifest {self._project.manifest} has no models, seeds or snapshots, so there is nothing to run.")
        producer = self._producer(
            sorted({unique_id for spec in graph for unique_id in spec.nodes}),
            sorted(node.unique_id for node in view.nodes.values() if node.resource_type in WITHOUT_TASK),
            ("test", "unit_test") if config.test_behavior is TestBehavior.NONE else (),
        )
        groups = {name: TaskGroup(name) for name in dict.fromkeys(spec.group for spec in graph) if name}
        own_assets = config.asset_mode is AssetMode.PER_NODE
        tasks = {
            spec.key: self._task(spec, groups.get(spec.group or ""), producer.task_id, self._arguments(spec, view, own_asset=own_assets))
            for spec in graph
        }
        for spec in graph:
            for parent in spec.upstream:
                tasks[spec.key].set_upstream(tasks[parent])
        if config.emit_datasets and not own_assets:
            nodes = [node.unique_id for node in view.of_type(BUILDABLE) if not node.ephemeral]
            asset_tasks(nodes, [producer, *tasks.values()], ledger=self._ledger, ledger_group=self._group, task_args=self._task_args)
        return {spec.key: groups.get(spec.group or "", tasks[spec.key]) for spec in graph if spec.kind not in _TESTS}

    def _arguments(self, spec: TaskSpec, view: ProjectView, *, own_asset: bool) -> dict[str, Any]:
        found = node_arguments(spec, view.nodes)
        node = view.nodes.get(spec.key)
        if own_asset and node is not None and node.relation and spec.kind is not TaskKind.EMPTY:
            found["asset"] = dbt_asset(node.relation)
        return found

    def _producer(self, nodes: list[str], without_task: list[str], excluded_types: tuple[str, ...]) -> BaseOperator:
        execution = self._execution
        # A priority for all tasks is not meant to put the producer among those that wait for it.
        shared = {name: value for name, value in self._task_args.items() if name not in ("priority_weight", "weight_rule")}
        task_args = {**shared, **self._setup_args}
        if execution.producer is not None:
            from ledger_watcher_airflow.producers.command import make_producer, producer_command  # noqa: PLC0415 - few DAG files need it

            build = DbtBuild(project=self._project, profile=self._profile, flags=self._flags, excluded_types=excluded_types)
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
            "ledger_group": self._group,
            **self._callback,
            **task_args,
        }
        if execution.execution_mode is ExecutionMode.WATCHER_VIRTUALENV:
            from ledger_watcher_airflow.producers.virtualenv import DbtProducerWatcherVirtualenvOperator  # noqa: PLC0415

            return DbtProducerWatcherVirtualenvOperator(**{"py_requirements": (), **self._virtualenv}, **arguments)
        return DbtProducerWatcherOperator(**arguments)

    def _task(self, spec: TaskSpec, group: TaskGroup | None, producer: str, arguments: Mapping[str, Any]) -> BaseOperator:
        """``arguments``: those of this task alone, over those of all."""
        place: dict[str, Any] = {"task_group": group} if group is not None else {}
        if spec.kind is TaskKind.EMPTY:
            return EmptyOperator(task_id=spec.task_id, **{**place, **self._task_args, **arguments})
        return _CONSUMERS[spec.kind](
            task_id=spec.task_id,
            nodes=spec.nodes,
            ledger=self._ledger,
            producer_task_id=producer,
            ledger_group=self._group,
            poll_interval=self._execution.poll_interval,
            patient=self._execution.producer_retry_on is ProducerRetryOn.NODE_ERRORS,
            **{**place, **self._waiting, **self._task_args, **arguments},
        )


def _taken(arguments: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Take these out of ``arguments``."""
    return {name: arguments.pop(name) for name in names if name in arguments}
