"""The task of a node: mirrors the ledger, and holds no worker unless it is asked to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseSensorOperator
from airflow.triggers.base import StartTriggerArgs

from ledger_watcher.errors import ConfigError
from ledger_watcher.packing import pack
from ledger_watcher_airflow.assets import tell_outlet
from ledger_watcher_airflow.callbacks import Callbacks, Warnings, checked, tell_of_warnings, warnings_of
from ledger_watcher_airflow.compat import TRIES_COUNT_IN_TRIGGER, AirflowException, AirflowRescheduleException, AirflowSkipException
from ledger_watcher_airflow.ledger import DEFAULT_DEPLOYMENT, LedgerRef, producer_in, run_key
from ledger_watcher_airflow.stored import StoredFields
from ledger_watcher_airflow.words import BUILT, MANY, NODE_TRIGGER, ON_BUILD, ON_SUCCESS, ON_WARNING, RECOVER, WARNED

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

    from ledger_watcher.ledger import RunKey
    from ledger_watcher.state import RunState
    from ledger_watcher_airflow.decision import Verdict, Watcher
    from ledger_watcher_airflow.gate import Above
    from ledger_watcher_airflow.poke import RunWatch
    from ledger_watcher_airflow.recovery import Recovery

WAITING = (
    "deferrable",
    "mode",
    "poke_interval",
    "timeout",
    "soft_fail",
    "never_fail",
    "silent_fail",
    "exponential_backoff",
    "max_wait",
)
"""What a user may say of how these tasks wait."""
_EARLY = "always"
"""Airflow's rule for a task that waits for none of those before it."""
_TIMEOUT = 7 * 86400.0
"""Airflow's own default, which Airflow would look up in its configuration for every task of every parse."""
_RESCHEDULE_INTERVAL = 60.0
"""Airflow's own default, too: in mode ``reschedule`` each look starts a process on a worker."""
_SENSOR_ONLY = {
    "mode": "poke",
    "soft_fail": False,
    "never_fail": False,
    "silent_fail": False,
    "exponential_backoff": False,
    "max_wait": None,
}
"""What means nothing to a task that waits in the triggerer, with its defaults."""


class DbtConsumerWatcherSensor(BaseSensorOperator):
    """Shows what became of one dbt node (or of a few, such as the tests of a model) in the run's ledger.

    It starts in the triggerer and ends there: no worker, no pool slot, no XCom. ``execute`` runs only where Airflow does not know how to
    start a task in the triggerer (before 3.3.1, and in ``dag.test()``). It ends on a worker where Airflow needs one: a success with an
    ``on_success_callback``, an ``on_execute_callback`` or outlets, and a warning with an ``on_warning_callback``.

    With ``trigger_rule="always"`` it starts with the run, and ends when dbt has built its node, whatever Airflow shows above it. What dbt skipped
    below a failure fails then, as ``all_success`` would have it, when the task that failed has no try left.

    ``execution_timeout`` is that of a run of dbt in this task, and does not count the waiting.

    :param nodes: unique_ids of the nodes that this task mirrors.
    :param ledger: the ledger's root.
    :param producer_task_id: task id of the producer, whose state decides once the ledger has no more to say.
    :param ledger_group: task group path of the producer, part of the ledger's identity.
    :param poll_interval: seconds between two looks into the ledger.
    :param patient: wait for the producer's last try before a failure counts.
    :param deferrable: ``False``: wait on a worker, for deployments without a triggerer. ``mode``, ``soft_fail`` and their like then mean what
        they mean for every sensor.
    :param poke_interval: instead of ``poll_interval``; in mode ``reschedule`` it is 60 s if not given.
    :param timeout: for the whole waiting, as for every sensor: then the task fails and is not retried.
    :param asset: an outlet for what the node becomes in the warehouse: its event is emitted if this was built now, with what is known of the build.
    :param on_warning_callback: called with the context and, in it, ``test_names`` and ``test_results`` (messages) of the nodes that warned.
    :raises ConfigError: arguments that do not go together.
    """

    # Airflow's defaults, so that neither is stored. Its UI shows no colors of operators any more, and nothing here is a template.
    ui_color = "#fff"
    template_fields: Collection[str] = []
    get_serialized_fields = StoredFields()

    def __init__(  # noqa: PLR0913 - Airflow applies a DAG's default_args by name
        self,
        *,
        nodes: Sequence[str],
        ledger: LedgerRef,
        producer_task_id: str,
        ledger_group: str = "",
        poll_interval: float = 1.0,
        patient: bool = False,
        deferrable: bool = True,
        poke_interval: timedelta | float | None = None,
        timeout: timedelta | float | None = None,
        on_warning_callback: Callbacks = None,
        asset: Asset | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            poke_interval=poll_interval if poke_interval is None else poke_interval,
            timeout=_TIMEOUT if timeout is None else timeout,
            **kwargs,
        )
        self.recovery_timeout = self.execution_timeout
        self.execution_timeout = None  # Airflow counts the waiting for dbt too, which is no execution of this task
        self.nodes = tuple(nodes)
        self._recovery: Recovery | None = None
        self._watch: RunWatch | None = None
        self._waits_for = ""
        self._warning_callbacks = checked("on_warning_callback", on_warning_callback)
        self._asset = asset
        if asset is not None:
            self.outlets = [*self.outlets, asset]
        self.deferrable = deferrable
        self.producer_task_id = producer_task_id
        self.ledger = ledger
        self.ledger_group = ledger_group
        # Only what differs from the trigger's own defaults: this is stored in the serialized DAG once per task.
        optional = {
            "producer": (producer_task_id, producer_in(ledger_group)),
            "conn_id": (ledger.conn_id, None),
            "group": (ledger_group, ""),
            "deployment": (ledger.deployment, DEFAULT_DEPLOYMENT),
            "poll": (poll_interval if poke_interval is None else self.poke_interval, 1.0),
            "patient": (patient, False),
            "lenient": (self.trigger_rule in {"none_failed", _EARLY}, False),
            "early": (self.trigger_rule == _EARLY and TRIES_COUNT_IN_TRIGGER, False),
            "worker": (self._ends_on_a_worker(), ""),
        }
        self.trigger_arguments: dict[str, Any] = {
            "ledger": ledger.uri,
            "nodes": list(nodes) if len(nodes) <= MANY else pack(nodes),
            **{name: value for name, (value, default) in optional.items() if value != default},
        }
        self._trigger_timeout = None if timeout is None else timedelta(seconds=self.timeout)
        if poke_interval is None and not deferrable and self.mode == "reschedule":
            self.poke_interval = _RESCHEDULE_INTERVAL
        self._check_sensor()
        # Said of a task that waits on a worker, too: it is how the UI finds the ledger in the serialized DAG.
        self.start_from_trigger = deferrable
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=NODE_TRIGGER,
            trigger_kwargs=self.trigger_arguments,
            next_method="resume",
            timeout=self._trigger_timeout,
        )

    def start_with_run(self) -> None:
        """From now on, its ``trigger_rule`` is ``always``.

        :raises ConfigError: it would hold a worker all the while, or Airflow cannot have it.
        """
        if not self.deferrable:
            raise ConfigError(
                "ExecutionConfig(start_with_run=True) has tasks wait from the beginning of the run, with deferrable=False each of them on a worker: "
                "leave one of the two out."
            )
        if not TRIES_COUNT_IN_TRIGGER:
            raise ConfigError(
                "ExecutionConfig(start_with_run=True) is for tasks that start in the triggerer: Airflow has them from 3.3.1 on."
            )
        if any(True for _ in self.iter_mapped_task_groups()):
            raise ConfigError(
                "ExecutionConfig(start_with_run=True) is not for mapped task groups, in which Airflow takes no task that starts whatever becomes of those "
                "before it: leave it out."
            )
        self.trigger_rule = type(self.trigger_rule)(_EARLY)
        self.trigger_arguments |= {"lenient": True, "early": True}

    def execute(self, context: Context) -> None:
        """Wait: in the trigger, or here if ``deferrable=False``.

        In ``dag.test()``, where tasks run one by one and triggers know of no task, let the producer run first, then look here.
        """
        if _in_dag_test():
            early = self.trigger_rule == _EARLY  # a task before it may still have its turn, so this one must not wait here
            if not _producer_ended(context, self.producer_task_id) or (early and not self.poke(context)):
                raise AirflowRescheduleException(datetime.now(timezone.utc) + timedelta(seconds=1))
            if early:
                return
        elif self.deferrable:
            self._defer()
        super().execute(context)

    def poke(self, context: Context) -> bool:
        """One look; whether the task has ended well.

        :raises AirflowException: it has ended, and not well.
        :raises AirflowSkipException: all that it mirrors is skipped by choice.
        """
        from ledger_watcher_airflow.decision import Kind  # noqa: PLC0415 - a DAG file's parse needs none of it
        from ledger_watcher_airflow.poke import RunWatch  # noqa: PLC0415

        ti = context["ti"]
        watcher = self._watcher(ti)
        if self._watch is None:
            self._watch = RunWatch(ledger=self.ledger, run=self._run(ti), producer=self.producer_task_id)
        verdict, state = self._watch.look(watcher, ti), self._watch.state
        if verdict.kind is Kind.RECOVER:
            self.log.info("%s. This task runs dbt again, for itself and whatever else waits.", verdict.reason)
            verdict, state = self._recover(context, watcher)
        if verdict.kind is Kind.WAIT:
            if verdict.reason != self._waits_for:
                self.log.info("Waiting: %s", verdict.reason)
                self._waits_for = verdict.reason
            return False
        self._end(context, watcher, verdict, state)
        return True

    def resume(self, context: Context, event: Any) -> None:  # noqa: ANN401 - whatever the trigger yielded
        """Run dbt for everything that waits, if the trigger asked for it; else end the task as the trigger said, where Airflow could not."""
        from ledger_watcher_airflow.decision import Kind  # noqa: PLC0415 - as above

        if isinstance(event, dict) and RECOVER in event:
            watcher = self._watcher(context["ti"])
            verdict, state = self._recover(context, watcher)
            if verdict.kind is Kind.WAIT:
                self._defer()
            self._end(context, watcher, verdict, state)
        elif isinstance(event, dict) and (WARNED in event or BUILT in event):
            self._tell(context, event.get(WARNED, []), event.get(BUILT, []))
        elif event == "skipped":
            raise AirflowSkipException("All that this task stands for is skipped by choice; the cause is in the log lines above.")
        elif event != "success":
            raise AirflowException("dbt did not build what this task stands for; the cause is in the log lines above.")

    def on_kill(self) -> None:
        """Interrupt the dbt of a recovery."""
        if self._recovery is not None:
            self._recovery.interrupt()

    def _defer(self) -> NoReturn:
        from ledger_watcher_airflow.trigger import NodeTrigger  # noqa: PLC0415 - as above

        self.defer(trigger=NodeTrigger(**self.trigger_arguments), method_name="resume", timeout=self._trigger_timeout)

    def _recover(self, context: Context, watcher: Watcher) -> tuple[Verdict, RunState]:
        """Run dbt, within ``execution_timeout``, and say how it ended for the nodes of this task; ``WAIT`` if another attempt began."""
        from airflow.sdk.execution_time.timeout import timeout as time_limit  # noqa: PLC0415 - as above

        from ledger_watcher_airflow.gate import above_in  # noqa: PLC0415
        from ledger_watcher_airflow.recovery import Recovery  # noqa: PLC0415
        from ledger_watcher_airflow.states import nodes_of_tasks  # noqa: PLC0415

        dag = self.get_dag()
        if dag is None:
            raise RuntimeError("a task that runs has a DAG")
        self._recovery = Recovery(
            ledger=self.ledger,
            run=self._run(context["ti"]),
            watcher=watcher,
            producer=dag.get_task(self.producer_task_id),
            tasks=nodes_of_tasks(dag, self.producer_task_id),
            above=above_in(dag),
        )
        with time_limit(self.recovery_timeout.total_seconds()) if self.recovery_timeout else nullcontext():
            return self._recovery.run_dbt(context, self.log)

    def _end(self, context: Context, watcher: Watcher, verdict: Verdict, state: RunState) -> None:
        from ledger_watcher_airflow.built import built_of  # noqa: PLC0415 - as above
        from ledger_watcher_airflow.decision import Kind  # noqa: PLC0415
        from ledger_watcher_airflow.trigger import replayed, write  # noqa: PLC0415

        write(self.log, replayed(state, watcher))
        if verdict.kind is Kind.SKIP:
            raise AirflowSkipException(verdict.reason)
        if verdict.kind is not Kind.SUCCEED:
            raise AirflowException(verdict.reason)
        built = built_of(state, watcher.nodes, self.ledger.folder(self._run(context["ti"])))
        self._tell(context, warnings_of(state, watcher), [one.told for one in built])

    def _tell(self, context: Context, warnings: Warnings, built: Sequence[Mapping[str, Any]]) -> None:
        """Tell the user's functions of warnings, and Airflow of what was built."""
        if warnings:
            tell_of_warnings(self._warning_callbacks, context, warnings, self.log)
        if self._asset is not None:
            self.outlets = tell_outlet(self.outlets, self._asset, context, built, self.log)

    def _watcher(self, ti: Any) -> Watcher:  # noqa: ANN401 - Airflow's RuntimeTaskInstance
        from ledger_watcher_airflow.decision import Watcher  # noqa: PLC0415 - as above
        from ledger_watcher_airflow.trigger import born_at  # noqa: PLC0415

        return Watcher(
            nodes=self.nodes,
            born=born_at(ti.id),
            try_number=ti.try_number,
            task_id=self.task_id,
            patient=self.trigger_arguments.get("patient", False),
            lenient=self.trigger_arguments.get("lenient", False),
            above=self._above(),
        )

    def _above(self) -> Above | None:
        from ledger_watcher_airflow.gate import above_in  # noqa: PLC0415 - as above

        dag = self.get_dag() if self.trigger_rule == _EARLY else None
        return above_in(dag) if dag is not None else None

    def _run(self, ti: Any) -> RunKey:  # noqa: ANN401 - as above
        return run_key(
            deployment=self.ledger.deployment,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            group=self.ledger_group,
            map_index=-1 if ti.map_index is None else ti.map_index,
        )

    def _ends_on_a_worker(self) -> str:
        """When the trigger has to leave the end of the task to a worker, because Airflow calls nothing there."""
        if self.outlets:
            return ON_BUILD
        if self.on_success_callback or self.on_execute_callback:
            return ON_SUCCESS
        return ON_WARNING if self._warning_callbacks else ""

    def _check_sensor(self) -> None:
        if not self.poke_interval > 0:
            raise ConfigError(f"poke_interval={self.poke_interval} must be more than 0 seconds.")
        given = [name for name, default in _SENSOR_ONLY.items() if getattr(self, name) != default]
        if self.deferrable and given:
            raise ConfigError(
                f"{given[0]}={getattr(self, given[0])!r} is for tasks that wait on a worker; give deferrable=False, or leave it out."
            )


class DbtBuildWatcherOperator(DbtConsumerWatcherSensor):
    """The task of a group of nodes with their tests."""


class DbtRunWatcherOperator(DbtConsumerWatcherSensor):
    """The task of a model."""


class DbtSeedWatcherOperator(DbtConsumerWatcherSensor):
    """The task of a seed."""


class DbtSnapshotWatcherOperator(DbtConsumerWatcherSensor):
    """The task of a snapshot."""


class DbtSourceWatcherOperator(DbtConsumerWatcherSensor):
    """The task of a source: how fresh it is. Skipped if it is stale."""


class DbtTestWatcherOperator(DbtConsumerWatcherSensor):
    """The task of the tests of a node, or of a test of several nodes."""


def _in_dag_test() -> bool:
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    return type(getattr(task_runner, "SUPERVISOR_COMMS", None)).__name__.startswith("InProcess")


def _producer_ended(context: Context, producer: str) -> bool:
    from ledger_watcher_airflow.decision import TERMINAL  # noqa: PLC0415 - as above
    from ledger_watcher_airflow.states import task_states  # noqa: PLC0415

    return task_states(context["ti"], [producer]).get(producer) in TERMINAL
