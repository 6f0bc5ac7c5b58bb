"""What Airflow's metadata say of ledgers: which a DAG has, and which runs and map indexes it had them for.

Where a ledger lies is read from the serialized DAG, where each node's task says it to its trigger; nothing of it comes from a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from airflow.api_fastapi.common.dagbag import create_dag_bag
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.serialization.serialized_objects import BaseSerialization
from airflow.utils.session import create_session
from sqlalchemy import exists, select

from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.packing import names_of
from ledger_watcher_airflow.ledger import DEFAULT_DEPLOYMENT, LedgerRef, producer_in, run_key
from ledger_watcher_airflow.policy import OPERATORS
from ledger_watcher_airflow.words import NODE_TRIGGER

if TYPE_CHECKING:
    from airflow.models.dagbag import DBDagBag
    from airflow.serialization.definitions.dag import SerializedDAG
    from sqlalchemy.orm import Session

_LOOKED_AT = 5000
"""Newest DAG runs among which those with a ledger are looked for: a deployment may have millions of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DagLedger:
    """One of the ledgers of a DAG. ``tasks`` are the nodes of each task that mirrors it."""

    ref: LedgerRef
    group: str
    producer: str
    tasks: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A ledger of a DAG run: of one map index, if it is mapped. ``state`` is that of the producer's task."""

    ledger: DagLedger
    map_index: int
    state: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A DAG run and its ledgers; ``number`` grows with each run that is created."""

    number: int
    dag_id: str
    run_id: str
    state: str
    started_at: datetime | None
    places: Sequence[Place]

    def key(self, place: Place) -> RunKey:
        """The identity of one of its ledgers."""
        ledger = place.ledger
        return run_key(
            deployment=ledger.ref.deployment, dag_id=self.dag_id, run_id=self.run_id, group=ledger.group, map_index=place.map_index
        )


def find_run(dag_id: str, run_id: str) -> Run | None:
    """A DAG run, if there is one."""
    with create_session() as session:
        found = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
        return None if found is None else _run(found, session)


def newest_runs(dag_ids: Sequence[str], limit: int, before: int | None = None) -> list[Run]:
    """The newest runs of these DAGs that have tasks of ours, newest first.

    :param before: only those created before the run of this number.
    """
    with create_session() as session:
        latest = select(DagRun.id).where(DagRun.dag_id.in_(dag_ids), *([] if before is None else [DagRun.id < before]))
        some = latest.order_by(DagRun.id.desc()).limit(_LOOKED_AT).subquery()
        ours = exists().where(
            TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id, TaskInstance.operator.in_(sorted(OPERATORS))
        )
        runs = session.scalars(select(DagRun).join(some, some.c.id == DagRun.id).where(ours).order_by(DagRun.id.desc()).limit(limit))
        return [_run(run, session) for run in runs]


def map_indexes(dag_id: str, task_id: str, run_ids: Sequence[str]) -> dict[str, list[int]]:
    """The map indexes that a task has in each of these runs."""
    where = (TaskInstance.dag_id == dag_id, TaskInstance.task_id == task_id, TaskInstance.run_id.in_(run_ids))
    found: dict[str, list[int]] = {}
    with create_session() as session:
        for run_id, index in session.execute(select(TaskInstance.run_id, TaskInstance.map_index).where(*where)):
            found.setdefault(run_id, []).append(index)
    return found


def _run(found: DagRun, session: Session) -> Run:
    # The version that the run was created with, as Airflow's own pages prefer (api_fastapi/common/dagbag.py).
    bag = _dag_bag()
    dag = bag.get_dag(found.created_dag_version_id, session=session) if found.created_dag_version_id else None
    dag = dag or bag.get_dag_for_run(found, session=session)
    ledgers = {ledger.producer: ledger for ledger in ledgers_of(dag)} if dag else {}
    where = (TaskInstance.dag_id == found.dag_id, TaskInstance.run_id == found.run_id, TaskInstance.task_id.in_(list(ledgers)))
    states = session.execute(select(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state).where(*where)).all()
    places = [Place(ledger=ledgers[task_id], map_index=index, state=state) for task_id, index, state in states]
    return Run(
        number=found.id,
        dag_id=found.dag_id,
        run_id=found.run_id,
        state=str(found.state),
        started_at=found.start_date,
        places=sorted(places, key=lambda place: (place.ledger.group, place.map_index)),
    )


_known: WeakKeyDictionary[SerializedDAG, list[DagLedger]] = WeakKeyDictionary()


def ledgers_of(dag: SerializedDAG) -> list[DagLedger]:
    """The ledgers of a DAG, by the arguments that its tasks give to their triggers. Each serialized DAG is looked through once."""
    if dag not in _known:
        _known[dag] = _ledgers_of(dag)
    return _known[dag]


def _ledgers_of(dag: SerializedDAG) -> list[DagLedger]:
    found: dict[str, tuple[Mapping[str, Any], dict[str, tuple[str, ...]]]] = {}
    for task in dag.task_dict.values():
        start = getattr(task, "start_trigger_args", None)
        if start is None or start.trigger_cls != NODE_TRIGGER:
            continue
        said = BaseSerialization.deserialize(start.trigger_kwargs)
        producer = said.get("producer") or producer_in(said.get("group", ""))
        found.setdefault(producer, (said, {}))[1][task.task_id] = names_of(said["nodes"])
    return [
        DagLedger(
            ref=LedgerRef(uri=said["ledger"], conn_id=said.get("conn_id"), deployment=said.get("deployment", DEFAULT_DEPLOYMENT)),
            group=said.get("group", ""),
            producer=producer,
            tasks=tasks,
        )
        for producer, (said, tasks) in found.items()
    ]


@cache
def _dag_bag() -> DBDagBag:
    """A bounded cache of serialized DAGs, each of its versions read once."""
    return create_dag_bag()
