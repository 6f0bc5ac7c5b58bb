"""The trigger in which ``dbt_assets`` begins where the producer tells of what it builds: it ends there, unless something else built, too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from ledger_watcher.ledger import RunFollower
from ledger_watcher.records import EndedBy
from ledger_watcher.state import RunState
from ledger_watcher_airflow import trigger
from ledger_watcher_airflow.ledger import LedgerRef, run_of
from ledger_watcher_airflow.tail import TailKey, say


class UntoldTrigger(BaseTrigger):
    """Ends the task if the newest attempt of the run is the producer's and it ended well, so that it told; else a worker looks closer.

    :param ledger: root URI of the ledger.
    :param producer: task id of the producer.
    :param conn_id: Airflow connection of the storage.
    :param group: task group path of the producer, part of the ledger's identity, as is ``deployment``.
    """

    def __init__(self, ledger: str, producer: str, conn_id: str | None, group: str, deployment: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments = {"ledger": ledger, "producer": producer, "conn_id": conn_id, "group": group, "deployment": deployment}
        self.ledger = LedgerRef(uri=ledger, conn_id=conn_id, deployment=deployment)
        self.producer = producer
        self.group = group

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for another triggerer to take over."""
        return f"{type(self).__module__}.{type(self).__qualname__}", dict(self.arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: the task has ended well, or (plain) a worker is to go on."""
        try:
            told = await self._told()
        except Exception as error:  # noqa: BLE001 - a worker tries again, and says what is wrong as tasks do
            await say(self.log.warning, "It cannot be seen here whether the producer has told of all that was built: %s", error)
            told = False
        if told:
            await say(self.log.info, "The producer has told Airflow of what was built, and nothing else was.")
        yield TaskSuccessEvent() if told else TriggerEvent("tell")

    async def _told(self) -> bool:
        ti = self.task_instance
        if ti is None:
            raise RuntimeError("UntoldTrigger works for tasks only")
        run = run_of(ti, self.ledger, self.group)
        if await trigger.producer_state(TailKey(self.ledger, run, self.producer)) != "success":
            return False
        state: RunState = await sync_to_async(lambda: RunFollower(self.ledger.store(), run).snapshot(), thread_sensitive=False)()
        newest = state.attempt
        return (
            newest is not None
            and newest.started is not None
            and newest.started.task_id is None  # a recovery names its task
            and newest.finished is not None
            and newest.finished.ended_by is EndedBy.EXIT
        )
