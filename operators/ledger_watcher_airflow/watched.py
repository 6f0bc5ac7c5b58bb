"""The tasks of ``ExecutionMode.WATCHER``: the producer, one task per node that mirrors the ledger, and the task of the asset events."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import BaseOperator

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import (
    BUILDABLE,
    WITHOUT_TASK,
    ProjectView,
    SourceRenderingBehavior,
    TaskKind,
    TaskSpec,
    TestBehavior,
    below_sources,
)
from ledger_watcher_airflow.assets import asset_tasks
from ledger_watcher_airflow.compat import configuration
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
    WAITING,
    DbtBuildWatcherOperator,
    DbtConsumerWatcherSensor,
    DbtRunWatcherOperator,
    DbtSeedWatcherOperator,
    DbtSnapshotWatcherOperator,
    DbtSourceWatcherOperator,
    DbtTestWatcherOperator,
)
from ledger_watcher_airflow.flags import FLAGS, DbtCall, DbtFlags
from ledger_watcher_airflow.ledger import LedgerRef
from ledger_watcher_airflow.producer import DbtProducerWatcherOperator

_CONSUMERS: dict[TaskKind, type[DbtConsumerWatcherSensor]] = {
    TaskKind.BUILD: DbtBuildWatcherOperator,
    TaskKind.RUN: DbtRunWatcherOperator,
    TaskKind.SEED: DbtSeedWatcherOperator,
    TaskKind.SNAPSHOT: DbtSnapshotWatcherOperator,
    TaskKind.SOURCE: DbtSourceWatcherOperator,
    TaskKind.TEST: DbtTestWatcherOperator,
    TaskKind.SHARED_TEST: DbtTestWatcherOperator,
}
_VIRTUALENV = ("py_requirements", "py_system_site_packages", "pip_install_options")
_CALLBACK = ("callback", "callback_args")
_WAITING = (*WAITING, "on_warning_callback")
KNOWN_ARGUMENTS = FLAGS | {*_VIRTUALENV, *_CALLBACK, *_WAITING, "outlets", "inlets"}
"""What ``operator_args`` may hold besides the arguments that every task of Airflow has."""
_PLACE = ("queue", "executor", "executor_config")
"""What says where a task runs. A node's task is on a worker to run dbt again, which may be nowhere but where the producer is."""

_RULES = frozenset({"all_success", "none_failed"})
"""Those that nodes' tasks have if nobody says anything."""
_CAPACITY = 1000
"""Airflow's own default."""
_DEFAULT_POOL = "default_pool"
"""Airflow's own (airflow/models/pool.py), which is without ``include_deferred`` unless somebody says so."""


class WatchedTasks:
    """Creates the tasks in the DAG or group that is current: :meth:`begin`, then :meth:`task` for each node, then :meth:`end`.

    :param group: task group path, part of the ledger's identity.
    :raises ConfigError: arguments that do not go together.
    """

    def __init__(
        self, project: ProjectConfig, profile: ProfileConfig, execution: ExecutionConfig, operator_args: Mapping[str, Any], group: str
    ) -> None:
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
                f"operator_args[{next(iter(self._virtualenv))!r}] is for ExecutionMode.WATCHER_VIRTUALENV or VIRTUALENV; set one of them, or leave it out."
            )
        self._callback = _taken(task_args, _CALLBACK)
        if self._callback and execution.producer is not None:
            raise ConfigError(
                "operator_args['callback'] needs dbt's artifacts on the worker, but ExecutionConfig(producer=...) runs dbt elsewhere: leave it out; "
                "the artifacts are in the ledger (`ledger-watcher export`)."
            )
        self._setup_args = {name: value for name, value in task_args.items() if name in setup}
        shared = {name: operator_args[name] for name in task_args if name in operator_args}
        waiting = _taken(shared, _WAITING)
        self._task_args = shared
        self._consumer_args: dict[str, Any] = {
            "ledger": self._ledger,
            "ledger_group": group,
            "poll_interval": execution.poll_interval,
            "patient": execution.producer_retry_on is ProducerRetryOn.NODE_ERRORS,
            **waiting,
            **shared,
        }
        self._told: list[str] = []

    def begin(self, graph: Sequence[TaskSpec], view: ProjectView, config: RenderConfig) -> None:
        """Create the producer, which builds what is drawn and nothing else."""
        if config.source_rendering_behavior is SourceRenderingBehavior.NONE and self._execution.source_freshness_skip is not None:
            raise ConfigError(
                "ExecutionConfig(source_freshness_skip=...) decides what stale sources hold back, but no source is checked: give "
                "RenderConfig(source_rendering_behavior=SourceRenderingBehavior.ALL), or leave it out."
            )
        self._flags = self._flags.selecting(view.selection)
        self._selection = view.selection
        self._exactly = sorted({uid for spec in graph for uid in spec.nodes} | {node.unique_id for node in view.of_type(WITHOUT_TASK)})
        self._lenient = below_sources(graph)
        if config.emit_datasets and config.asset_mode is AssetMode.PER_RUN:
            self._told = [node.unique_id for node in view.of_type(BUILDABLE) if not node.ephemeral]
        self._producer = self._create_producer(
            sorted({unique_id for spec in graph if not self._may_be_converted(spec, config) for unique_id in spec.nodes}),
            [node.unique_id for node in view.of_type(WITHOUT_TASK)],
            config.test_behavior,
        )
        self._consumer_args = {**{name: getattr(self._producer, name) for name in _PLACE}, **self._consumer_args}

    def task(self, spec: TaskSpec, **arguments: Any) -> BaseOperator:
        """The task of a node; ``arguments`` are those of this task alone, over those of all."""
        # What is skipped above it is skipped by choice, and whether this is, too, the ledger says.
        lenient = {"trigger_rule": "none_failed"} if spec.key in self._lenient else {}
        if not spec.nodes:
            return EmptyOperator(**{"task_id": spec.task_id, **lenient, **self._task_args, **arguments})
        own = {"task_id": spec.task_id, **lenient, **self._consumer_args, **arguments}
        return _CONSUMERS[spec.kind](nodes=spec.nodes, producer_task_id=self._producer.task_id, **own)

    def end(self, tasks: Sequence[BaseOperator]) -> None:
        """Create what comes after all of ``tasks``, and have the producer answer for nodes that none of them mirrors."""
        waiting = [task for task in tasks if isinstance(task, DbtConsumerWatcherSensor)]
        self._warn_of_pool(waiting)
        if self._execution.start_with_run:
            self._start_with_run(waiting)
        if isinstance(self._producer, DbtProducerWatcherOperator):
            mirrored = {unique_id for task in waiting for unique_id in task.nodes}
            self._producer.answer_for(set(self._producer.nodes) - mirrored)
        if self._told:
            asset_tasks(self._told, [self._producer, *tasks], ledger=self._ledger, ledger_group=self._group, task_args=self._task_args)

    def _start_with_run(self, waiting: Sequence[DbtConsumerWatcherSensor]) -> None:
        """All that have others of ours before them, and none else; and no rule of their own."""
        if "trigger_rule" in self._task_args:
            raise ConfigError(
                f"operator_args['trigger_rule'] is {self._task_args['trigger_rule']!r}, and ExecutionConfig(start_with_run=True) has a rule for the same "
                "tasks: leave one of the two out."
            )
        for task in waiting:
            before = task.upstream_list
            if before and task.trigger_rule in _RULES and all(isinstance(one, (DbtConsumerWatcherSensor, EmptyOperator)) for one in before):
                task.start_with_run()
        capacity = configuration().getint("triggerer", "capacity", fallback=_CAPACITY)
        if len(waiting) > capacity:
            warnings.warn(
                f"ExecutionConfig(start_with_run=True): {len(waiting)} tasks wait at once, and a triggerer takes {capacity}. If they fill all that there are, "
                "none comes to the retry of a task that the others wait for: have enough triggerers, raise [triggerer] capacity, or draw groups of nodes, "
                "RenderConfig(granularity=...).",
                stacklevel=5,  # the DAG file
            )

    def _warn_of_pool(self, waiting: Sequence[DbtConsumerWatcherSensor]) -> None:
        """Say that these may keep the producer from starting, where they share a pool that somebody chose: what it counts is not known here."""
        pool = self._producer.pool
        sharing = [task for task in waiting if task.pool == pool and (task.deferrable or task.mode == "poke")]
        if pool == _DEFAULT_POOL or not sharing:
            return
        hold = "with include_deferred, it counts them while they wait" if sharing[0].deferrable else "they hold its slots while they wait"
        others = f" and {len(sharing) - 1} more" if len(sharing) > 1 else ""
        warnings.warn(
            f"The producer {self._producer.task_id} waits for a slot of the pool {pool!r}, and {sharing[0].task_id}{others}, which wait for the "
            f"producer, are in it, too: {hold}, and if they fill it, none of them ever ends. Give the producer a pool of its own, "
            "ExecutionConfig(setup_operator_args={'pool': ...}), or leave include_deferred off.",
            stacklevel=5,  # the DAG file
        )

    def _may_be_converted(self, spec: TaskSpec, config: RenderConfig) -> bool:
        """A task that may be a user's own, so that a command, which is made before, has to answer for its nodes."""
        return self._execution.producer is not None and bool(config.node_converters) and spec.kind is not TaskKind.BUILD

    def _create_producer(self, nodes: list[str], without_task: list[str], behavior: TestBehavior) -> BaseOperator:
        execution, tests_last = self._execution, behavior is TestBehavior.AFTER_ALL
        excluded_types = ("test", "unit_test") if behavior is TestBehavior.NONE else ()
        # A priority for all tasks is not meant to put the producer among those that wait for it.
        shared = {name: value for name, value in self._task_args.items() if name not in ("priority_weight", "weight_rule")}
        task_args = {**shared, **self._setup_args}
        if execution.producer is not None:
            from ledger_watcher_airflow.producers.command import make_producer, producer_command  # noqa: PLC0415 - few DAG files need it

            build = DbtCall(
                project=self._project,
                profile=self._profile,
                flags=self._flags,
                excluded_types=excluded_types,
                tests_last=tests_last,
                exactly=tuple(self._exactly) if self._selection.exactly else (),
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
            "drawn": bool(self._selection),
            "exactly": self._selection.exactly,
            "ledger_group": self._group,
            **self._callback,
            **task_args,
        }
        if execution.execution_mode is ExecutionMode.WATCHER_VIRTUALENV:
            from ledger_watcher_airflow.producers.virtualenv import DbtProducerWatcherVirtualenvOperator  # noqa: PLC0415

            return DbtProducerWatcherVirtualenvOperator(**{"py_requirements": (), **self._virtualenv}, **arguments)
        return DbtProducerWatcherOperator(**arguments)


def _taken(arguments: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Take these out of ``arguments``."""
    return {name: arguments.pop(name) for name in names if name in arguments}
