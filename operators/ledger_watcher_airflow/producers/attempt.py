"""What one attempt of a command builds, and the recovery through any operator that runs one.

Both are attributes of the operator. The templates of its command ask the first one when the task runs; a recovery runs a copy of the
operator in which that says something else. So whatever makes a task's command out of templates can recover, and what a DAG or a user
has set on the operator holds then, too.
"""

from __future__ import annotations

import contextvars
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.bases.operator import ExecutorSafeguard

from ledger_watcher.errors import ConfigError, Fenced, Overtaken
from ledger_watcher_airflow.compat import AirflowException, AirflowTaskTimeout, TaskDeferred
from ledger_watcher_airflow.ledger import LedgerRef, run_key
from ledger_watcher_airflow.states import done_nodes

if TYPE_CHECKING:
    from airflow.sdk import Context

ATTRIBUTE = "dbt_attempt"
"""Name of the :class:`CommandAttempt` in the operator."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAttempt:
    """What the templates of the command ask for: by default, an attempt of the producer. An empty text is an option that is not given.

    :param only: the nodes to build, if it is a recovery; ``after`` and ``task_id`` are then given, too.
    """

    only: frozenset[str] | None = None
    after: int | str = ""
    task_id: str = ""

    def started_at(self, ti: Any) -> str:  # noqa: ANN401 - Airflow's RuntimeTaskInstance
        """When the producer's task started; nothing for a recovery: its task may have begun to wait long before."""
        return str(ti.start_date.isoformat()) if self.only is None else ""

    def done(self, ti: Any, task: BaseOperator, limit: int) -> str:  # noqa: ANN401 - as above
        """The nodes whose tasks are ``success`` now, packed; with a warning nothing, if that has more than ``limit`` characters."""
        from ledger_watcher.packing import pack  # noqa: PLC0415 - a DAG file's parse needs none of it

        nodes = frozenset() if self.only is not None else done_nodes(ti, task.get_dag(), task.task_id)
        packed = pack(nodes)
        if len(packed) <= limit:
            return packed
        log.warning(
            "Airflow shows %d nodes as done. Their names take %d characters, more than the %d that fit into the command: what dbt has not built "
            "since the last clear is built again.",
            len(nodes),
            len(packed),
            limit,
        )
        return ""

    def packed_only(self, limit: int) -> str:
        """The nodes to build, packed.

        :raises ConfigError: that has more than ``limit`` characters.
        """
        from ledger_watcher.packing import pack  # noqa: PLC0415

        packed = pack(self.only or ())
        if len(packed) > limit:
            raise ConfigError(
                f"The names of the {len(self.only or ())} nodes that wait take {len(packed)} characters, more than the {limit} that fit into the "
                "command of the producer: clear the producer together with this task, which builds everything."
            )
        return packed


@dataclass(frozen=True, slots=True)
class CommandRecovery:
    """The recovery through ``operator``, see :class:`~ledger_watcher_airflow.recovery.Recovers`."""

    operator: BaseOperator
    ledger: LedgerRef
    ledger_group: str

    def recover(self, context: Context, *, only: frozenset[str], after: int) -> None:
        """Run a copy of the operator for the nodes ``only``, in the task that ``context`` is of; a deferrable one waits there.

        How the operator ends says nothing of the nodes: the ledger does. If there was no attempt, its error is the answer.

        :raises Overtaken: another attempt began first.
        :raises Fenced: another attempt took the run over.
        :raises AirflowException: the command began no attempt.
        """
        ti = context["ti"]
        copy = self.operator.prepare_for_execution()
        vars(copy)[ATTRIBUTE] = CommandAttempt(only=only, after=after, task_id=ti.task_id)
        vars(copy).update(do_xcom_push=False, **({"deferrable": False} if hasattr(copy, "deferrable") else {}))
        vars(self.operator)["on_kill"] = copy.on_kill  # whoever kills the recovery kills what runs for it
        context = {**context, "task": copy}
        error: Exception | None = None
        try:
            _execute(copy, context)
        except ConfigError:
            raise
        except Exception as raised:  # noqa: BLE001 - whatever an operator raises when its command fails
            error = raised
        self._judge(ti, after, error)

    def _judge(self, ti: Any, after: int, error: Exception | None) -> None:  # noqa: ANN401 - Airflow's RuntimeTaskInstance
        from ledger_watcher.ledger import RunFollower  # noqa: PLC0415

        run = run_key(
            deployment=self.ledger.deployment,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            group=self.ledger_group,
            map_index=-1 if ti.map_index is None else ti.map_index,
        )
        state = RunFollower(self.ledger.store(), run).snapshot()
        newest = max(state.attempts, default=0)
        if newest <= after:
            why = f"{type(error).__name__}: {error}" if error is not None else "it ended as if all were well; its output is above"
            raise AirflowException(
                f"The recovery through {type(self.operator).__name__} did not begin an attempt in the ledger: {why}"
            ) from error
        started = state.attempts[after + 1].started if after + 1 in state.attempts else None
        if started is None or (started.task_id, started.try_number) != (ti.task_id, ti.try_number):
            raise Overtaken(run.prefix, newest, after) from error
        if newest > after + 1:
            raise Fenced(run.prefix, newest, f"attempt {newest}") from error
        if error is not None:
            log.info("The operator of the recovery failed, the ledger says what dbt did: %s", error)


def _execute(operator: BaseOperator, context: Context) -> None:
    """Render and execute an operator as Airflow's task runner does."""
    operator.render_template_fields(context)
    hook = operator._pre_execute_hook  # noqa: SLF001 - as the runner does
    if hook is not None:
        hook(context)
    operator.pre_execute(context)
    own = contextvars.copy_context()
    own.run(ExecutorSafeguard.tracker.set, operator)  # else it warns that it is not the task's own operator
    try:
        own.run(operator.execute, context)
    except AirflowTaskTimeout:
        operator.on_kill()
        raise
    except TaskDeferred as deferred:
        operator.on_kill()
        raise AirflowException(
            f"{type(operator).__name__} defers although it was asked not to, so that it cannot recover nodes from the task of one: clear the "
            "producer together with this task."
        ) from deferred
