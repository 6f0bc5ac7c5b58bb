"""The trigger in which a node's task begins and, nearly always, ends."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger, TaskFailedEvent, TaskSkippedEvent, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from ledger_watcher.packing import names_of
from ledger_watcher.records import NodeFinished, Outcome
from ledger_watcher.state import RunState
from ledger_watcher_airflow.built import built_of
from ledger_watcher_airflow.callbacks import Warnings, warnings_of
from ledger_watcher_airflow.compat import TRIES_COUNT_IN_TRIGGER
from ledger_watcher_airflow.decision import Kind, Verdict, Watcher, fresh_record
from ledger_watcher_airflow.gate import edges_of
from ledger_watcher_airflow.ledger import DEFAULT_DEPLOYMENT, LedgerRef, producer_in, run_key
from ledger_watcher_airflow.states import states_in
from ledger_watcher_airflow.tail import TailKey, say, tail_for
from ledger_watcher_airflow.words import BUILT, MANY, NODE_TRIGGER, ON_BUILD, ON_SUCCESS, RECOVER, WARNED


class NodeTrigger(BaseTrigger):
    """Waits for the records of ``nodes`` in a run's ledger, replays their log lines and ends the task as dbt ended them.

    :param ledger: root URI of the ledger.
    :param nodes: unique_ids of the nodes that the task mirrors, as a list or (many) as one word, see :mod:`ledger_watcher.packing`.
    :param producer: task id of the producer, if that is not the one of ``group``.
    :param conn_id: Airflow connection of the storage.
    :param group: task group path of the producer, part of the ledger's identity.
    :param poll: seconds between two polls of the run's tail.
    :param patient: the producer's retries are for failed nodes too.
    :param lenient: the task runs below skipped ones, too.
    :param early: Airflow started it without waiting for the tasks before it.
    :param worker: what is left to a worker, so that Airflow or the operator can call a user's functions or tell of assets there: nothing,
        :data:`ON_BUILD`, :data:`ON_SUCCESS` or :data:`ON_WARNING`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - Airflow stores each argument by name; all but two have defaults and are then left out
        self,
        ledger: str,
        nodes: Sequence[str] | str,
        producer: str = "",
        conn_id: str | None = None,
        group: str = "",
        deployment: str = DEFAULT_DEPLOYMENT,
        poll: float = 1.0,
        patient: bool = False,
        lenient: bool = False,
        worker: str = "",
        early: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = ledger
        self.nodes = nodes if isinstance(nodes, str) else list(nodes)
        self.producer = producer or producer_in(group)
        self.conn_id = conn_id
        self.group = group
        self.deployment = deployment
        self.poll = poll
        self.patient = patient
        self.lenient = lenient
        self.worker = worker
        self.early = early
        self._context: Any = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for another triggerer to take over."""
        names = ("ledger", "nodes", "producer", "conn_id", "group", "deployment", "poll", "patient", "lenient", "worker", "early")
        return NODE_TRIGGER, {name: getattr(self, name) for name in names}

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:  # noqa: ANN401, ARG002 - Airflow's
        """Nothing is a template. But Airflow itself keeps the context for as long as the trigger waits, and the whole DAG hangs on it."""
        self._context = context

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: success or failure of the task, or (plain) the request to run dbt for it on a worker."""
        ti = self.task_instance
        if ti is None:
            raise RuntimeError("NodeTrigger works for tasks only")
        try:
            event = await self._watch(ti)
        except Exception as error:  # noqa: BLE001 - raised, it would start a worker for each waiting task, only to fail it
            await say(
                self.log.error,
                "ledger-watcher failed here, which is a mistake in it: please report it. Clear this task to watch again.",
                exc_info=error,
            )
            event = failed()
        yield event

    async def _watch(self, ti: Any) -> TriggerEvent:  # noqa: ANN401 - Airflow's RuntimeTaskInstance or its like
        key = TailKey(
            LedgerRef(uri=self.ledger, conn_id=self.conn_id, deployment=self.deployment),
            run_key(deployment=self.deployment, dag_id=ti.dag_id, run_id=ti.run_id, group=self.group, map_index=ti.map_index),
            self.producer,
        )
        tail = tail_for(key, poll=self.poll, producer_state=producer_state, run_states=run_states)
        nodes = names_of(self.nodes)
        above = tail.shared(edges_of(ti.task.dag)).__getitem__ if self.early else None
        self._let_go(ti)
        watcher = Watcher(
            nodes=nodes,
            born=born_at(ti.id),
            try_number=ti.try_number,
            task_id=ti.task_id,
            patient=self.patient,
            lenient=self.lenient,
            above=above,
        )
        folder = key.ledger.folder(key.run)
        verdict = await tail.wait(watcher, lambda text: say(self.log.info, "%s. Ledger: %s", text, folder))
        if verdict.kind is Kind.RECOVER:
            await say(self.log.info, "%s. A worker runs dbt again, for this task and whatever else waits.", verdict.reason)
            return TriggerEvent({RECOVER: verdict.reason})
        lines, event = replayed(tail.state, watcher), self._event(verdict, watcher, tail.state, folder)
        if verdict.kind is not Kind.SUCCEED:
            lines.append((logging.INFO if verdict.kind is Kind.SKIP else logging.ERROR, verdict.reason))
        await say(write, self.log, [*lines[:-1], *((level, f"{text}, ledger {folder}") for level, text in lines[-1:])])
        return event

    def _let_go(self, ti: Any) -> None:  # noqa: ANN401 - as above
        """Forget the DAG. Each trigger gets a copy of the whole one (6 MB with 1,500 tasks), so what waits would take memory with the square of it."""
        if self._context is not None:
            self._context.clear()
            ti.task = None

    def _event(self, verdict: Verdict, watcher: Watcher, state: RunState, folder: str) -> TriggerEvent:
        if verdict.kind is Kind.SUCCEED:
            return self._succeeded(warnings_of(state, watcher), state, folder)
        return TaskSkippedEvent() if verdict.kind is Kind.SKIP else failed()

    def _succeeded(self, warnings: Warnings, state: RunState, folder: str) -> TriggerEvent:
        told: dict[str, Any] = {WARNED: warnings} if self.worker and warnings else {}
        if self.worker == ON_BUILD:
            told[BUILT] = [one.told for one in built_of(state, names_of(self.nodes), folder)]
        if told:
            return TriggerEvent(told)
        return TriggerEvent("success") if self.worker == ON_SUCCESS else TaskSuccessEvent()


def failed() -> TriggerEvent:
    """The event that fails the task: here, or on a worker where Airflow would pass over the tries that are left."""
    return TaskFailedEvent() if TRIES_COUNT_IN_TRIGGER else TriggerEvent("failed")


def replayed(state: RunState, watcher: Watcher) -> list[tuple[int, str]]:
    """dbt's lines about the watcher's nodes for the task's log, with their levels, and one line each that says what became of them.

    Of many nodes, dbt's lines are only shown of those that did not end well: each line goes through a pipe of Airflow's triggerer.
    """
    many = len(watcher.nodes) > MANY
    lines = []
    for unique_id in watcher.nodes:
        record = fresh_record(state, unique_id, watcher.born)
        if record is None:
            continue
        for entry in () if many and record.outcome.ok and record.outcome is not Outcome.WARN else state.nodes[unique_id].logs:
            lines += [(logging.INFO, line) for line in entry.lines]
            if entry.dropped:
                lines.append((logging.INFO, f"[{entry.dropped} more lines of dbt were not kept]"))
        lines.append((logging.WARNING if record.outcome is Outcome.WARN else logging.INFO, describe(record, state)))
    return lines


def write(log: Any, lines: Iterable[tuple[int, str]]) -> None:  # noqa: ANN401 - Airflow's loggers are of several kinds
    """Write such lines."""
    for level, line in lines:
        log.log(level, "%s", line)


def describe(record: NodeFinished, state: RunState) -> str:
    """One line that says what became of a node."""
    parts = [f"{record.unique_id}: {record.status}"]
    if record.execution_time is not None:
        parts.append(f"in {record.execution_time:.2f} s")
    if record.rows_affected is not None:
        parts.append(f"{record.rows_affected} rows")
    if record.failures is not None:
        parts.append(f"{record.failures} failures")
    if record.relation:
        parts.append(f"relation {record.relation}")
    if record.query_id:
        parts.append(f"query {record.query_id}")
    if record.skip_cause:
        parts.append(f"because of {', '.join(record.skip_cause)}")
    if record.message and (record.outcome is Outcome.WARN or record.resource_type == "source"):
        parts.append(record.message)
    dbt = state.attempts[state.nodes[record.unique_id].epoch].dbt
    if dbt is not None and dbt.invocation_id:
        parts.append(f"dbt invocation {dbt.invocation_id}")
    return ", ".join(parts)


def born_at(task_instance_id: object) -> datetime:
    """When a try of a task was created: the milliseconds in its uuid7 (RFC 9562); every retry and clear gets a new one."""
    milliseconds = uuid.UUID(str(task_instance_id)).int >> 80
    return datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc)


async def producer_state(key: TailKey) -> str | None:
    """State of the producer's task, ``removed`` if the run no longer has it, ``None`` if it was not started."""
    return (await _states(key, [key.producer])).get(key.producer, "removed")


async def run_states(key: TailKey) -> dict[str, str | None]:
    """State of every task of the run, of the same map index: not those that the run no longer has."""
    return await _states(key)


async def _states(key: TailKey, task_ids: Sequence[str] | None = None) -> dict[str, str | None]:
    return await sync_to_async(states_in)(
        RuntimeTaskInstance.get_task_states,
        dag_id=key.run.dag_id,
        run_id=key.run.run_id,
        map_index=key.run.map_index,
        task_ids=task_ids,
    )
