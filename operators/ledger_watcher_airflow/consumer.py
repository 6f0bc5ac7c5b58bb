"""The task of a node: mirrors the ledger, holds no worker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowException, AirflowRescheduleException
from airflow.sdk.execution_time.timeout import timeout
from airflow.triggers.base import StartTriggerArgs

from ledger_watcher.records import utcnow
from ledger_watcher_airflow.decision import Kind, Watcher
from ledger_watcher_airflow.ledger import DEFAULT_DEPLOYMENT, LedgerRef, run_key
from ledger_watcher_airflow.states import nodes_of_tasks
from ledger_watcher_airflow.trigger import RECOVER, NodeTrigger, born_at, replay

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ledger_watcher_airflow.recovery import Recovery

_TIMEOUT = 7 * 86400.0
"""Airflow's own default. Nothing here uses it, but Airflow would look it up in its configuration for every task of every parse."""


class DbtConsumerWatcherSensor(BaseSensorOperator):
    """Shows what became of one dbt node (or of a few, such as the tests of a model) in the run's ledger.

    It starts in the triggerer and ends there: no worker, no pool slot, no XCom. ``execute`` runs only where Airflow does not know how to
    start a task in the triggerer (before 3.3.1, and in ``dag.test()``).

    :param nodes: unique_ids of the nodes that this task mirrors.
    :param ledger: the ledger's root.
    :param producer_task_id: task id of the producer, whose state decides once the ledger has no more to say.
    :param ledger_group: task group path of the producer, part of the ledger's identity.
    :param patient: wait for the producer's last try before a failure counts.
    """

    ui_color = "#f4efe6"

    def __init__(
        self,
        *,
        nodes: Sequence[str],
        ledger: LedgerRef,
        producer_task_id: str,
        ledger_group: str = "",
        poll_interval: float = 1.0,
        patient: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("timeout", _TIMEOUT)
        super().__init__(poke_interval=poll_interval, **kwargs)
        self.recovery_timeout = self.execution_timeout
        self.execution_timeout = None  # Airflow counts the waiting for dbt too, which is no execution of this task
        self._recovery: Recovery | None = None
        self.start_from_trigger = True
        # Only what differs from the trigger's own defaults: this is stored in the serialized DAG once per task.
        optional = {
            "conn_id": (ledger.conn_id, None),
            "group": (ledger_group, ""),
            "deployment": (ledger.deployment, DEFAULT_DEPLOYMENT),
            "poll": (poll_interval, 1.0),
            "patient": (patient, False),
        }
        self.producer_task_id = producer_task_id
        self.ledger = ledger
        self.ledger_group = ledger_group
        self.trigger_arguments: dict[str, Any] = {
            "ledger": ledger.uri,
            "nodes": list(nodes),
            "producer": producer_task_id,
            **{name: value for name, (value, default) in optional.items() if value != default},
        }
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=f"{NodeTrigger.__module__}.{NodeTrigger.__qualname__}",
            trigger_kwargs=self.trigger_arguments,
            next_method="resume",
        )

    def execute(self, context: Context) -> None:
        """Defer to the trigger; in ``dag.test()``, where tasks run one after another, step back until the producer has run."""
        if _in_dag_test() and not _producer_ended(context, self.producer_task_id):
            raise AirflowRescheduleException(utcnow() + timedelta(seconds=1))
        self.defer(trigger=NodeTrigger(**self.trigger_arguments), method_name="resume")

    def resume(self, context: Context, event: Any) -> None:  # noqa: ANN401 - whatever the trigger yielded
        """Run dbt for everything that waits, if the trigger asked for it; else end the task as the trigger said, where Airflow could not."""
        if isinstance(event, dict) and RECOVER in event:
            self._recover(context)
        elif event != "success":
            raise AirflowException("dbt did not build what this task stands for; the cause is in the log lines above.")

    def on_kill(self) -> None:
        """Interrupt the dbt of a recovery."""
        if self._recovery is not None:
            self._recovery.interrupt()

    def _recover(self, context: Context) -> None:
        """Recover, and end as dbt ended the nodes of this task; back to waiting if another attempt began.

        ``execution_timeout`` is that of this run of dbt.
        """
        from ledger_watcher_airflow.recovery import Recovery  # noqa: PLC0415 - a DAG file's parse needs none of it

        ti, dag = context["ti"], self.get_dag()
        if dag is None:
            raise RuntimeError("a task that runs has a DAG")
        arguments = self.trigger_arguments
        watcher = Watcher(nodes=tuple(arguments["nodes"]), born=born_at(ti.id), try_number=ti.try_number, task_id=self.task_id)
        self._recovery = Recovery(
            ledger=self.ledger,
            run=run_key(
                deployment=self.ledger.deployment,
                dag_id=ti.dag_id,
                run_id=ti.run_id,
                group=self.ledger_group,
                map_index=-1 if ti.map_index is None else ti.map_index,
            ),
            watcher=watcher,
            producer=dag.get_task(self.producer_task_id),
            tasks=nodes_of_tasks(dag, self.producer_task_id),
        )
        with timeout(self.recovery_timeout.total_seconds()) if self.recovery_timeout else nullcontext():
            verdict, state = self._recovery.run_dbt(context, self.log)
        if verdict.kind is Kind.WAIT:
            self.defer(trigger=NodeTrigger(**arguments), method_name="resume")
        replay(state, watcher, self.log)
        if verdict.kind is not Kind.SUCCEED:
            raise AirflowException(verdict.reason)


class DbtRunWatcherOperator(DbtConsumerWatcherSensor):
    """The task of a model."""

    ui_color = "#e3eefb"


class DbtSeedWatcherOperator(DbtConsumerWatcherSensor):
    """The task of a seed."""

    ui_color = "#e6f4e1"


class DbtSnapshotWatcherOperator(DbtConsumerWatcherSensor):
    """The task of a snapshot."""

    ui_color = "#efe6f7"


class DbtTestWatcherOperator(DbtConsumerWatcherSensor):
    """The task of the tests of a node, or of a test of several nodes."""

    ui_color = "#fdf3d1"


def _in_dag_test() -> bool:
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__.startswith("InProcess")


def _producer_ended(context: Context, producer: str) -> bool:
    from ledger_watcher_airflow.decision import TERMINAL  # noqa: PLC0415

    ti = context["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[producer], run_ids=[ti.run_id])
    return any(getattr(state, "value", state) in TERMINAL for state in (states.get(ti.run_id) or {}).values())
