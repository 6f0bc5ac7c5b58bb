"""Asset events: what dbt built, told to Airflow, so that other DAGs start by it.

A producer that is our own tells of them when it ends well. The rest of a run's events (a recovery's, a failed producer's, those of any other producer)
come from one small task at its end (``dbt_assets``), which reads them from the ledger. Airflow writes a task's events in the same transaction that
makes it ``success``; whatever the task does before has no effect outside. What is in Airflow's own record of the run's events already is not
told again: so each build is told once by whatever tries of these tasks succeed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import quote

from airflow.sdk import Asset, AssetAlias, BaseOperator
from airflow.triggers.base import StartTriggerArgs

from ledger_watcher.errors import ConfigError
from ledger_watcher.project.relation import relation_parts
from ledger_watcher_airflow.compat import events_after
from ledger_watcher_airflow.edges import put_behind
from ledger_watcher_airflow.ledger import LedgerRef, run_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ledger_watcher_airflow.built import Built

ASSETS_TASK_ID = "dbt_assets"
SCHEME = "x-dbt"
"""RFC 3986 and Airflow's AIP-60 leave ``x-`` to users: Airflow takes such a URI as it is, and asks no provider about it."""
MOST_EVENTS = 250
"""Nodes per task. Airflow writes a task's events in one request, at about 6 ms each (SQLite), and its client repeats a request that takes 5 s."""
_PAGE = 1000
"""Events per request when Airflow's record is read; about 430 KB."""
_SLACK = timedelta(minutes=5)
"""A build's time is by the clock of its producer, an event's by that of Airflow's API server."""
_NEVER = datetime.max.replace(tzinfo=timezone.utc)


def asset_uri(relation: str) -> str:
    """The URI of a relation: ``x-dbt://database/schema/name``, each part percent-encoded, its case kept.

    :param relation: as dbt writes it, quoted in any warehouse's way or not at all: ``"shop"."main"."orders"``, ``shop.main.orders``.
    :raises ConfigError: it is no such name.
    """
    try:
        parts = relation_parts(relation)
    except ValueError as error:
        raise ConfigError(f"{error}; write it as dbt does: database.schema.name.") from error
    return f"{SCHEME}://{'/'.join(quote(part, safe='') for part in parts)}"


def dbt_asset(relation: str) -> Asset:
    """The asset that stands for what dbt builds as ``relation``, for ``schedule=`` and ``inlets=`` of other DAGs.

    :param relation: ``database.schema.name``, as the warehouse and the task's log show it; quotes are not needed unless a part has a dot.
    :raises ConfigError: it is no such name.

    >>> dbt_asset("analytics.marts.orders").uri
    'x-dbt://analytics/marts/orders'
    >>> dbt_asset('"analytics"."marts"."v1.0"').uri
    'x-dbt://analytics/marts/v1.0'
    """
    return Asset(asset_uri(relation))


def _uri_or_none(relation: str) -> str | None:
    try:
        return asset_uri(relation)
    except ConfigError:
        return None


@runtime_checkable
class Tells(Protocol):
    """A producer that can tell of what it built."""

    task_id: str

    def tell_of(self, nodes: Sequence[str], alias: AssetAlias, *, spares: str | None = None) -> None:
        """From now on, it tells of these nodes, through this alias, when it ends well.

        :param spares: id of the task that would tell of what is left: skip it where that is nothing.
        """


class DbtAssetsOperator(BaseOperator):
    """Tells Airflow of each model, seed and snapshot that dbt built in this run, and that it was not told of before.

    It runs when everything else has ended, however it ended; where the producer has told of everything, and all nodes are done, the producer skips it, which
    spares each run the seconds that it would be on its way. It is a teardown: it neither makes a run with failed nodes ``success``, nor does
    what is behind the task group wait for it. If it fails itself, the run stays what the nodes made it, and a later try or clear tells of
    everything that is still untold.

    The events go through an alias named ``<dag_id>.<group>.dbt_assets``, by which a DAG may be scheduled, too: then by whatever the project builds.

    :param nodes: unique_ids of the nodes that this task tells of.
    :param ledger: the ledger's root.
    :param ledger_group: task group path of the producer, part of the ledger's identity.
    :param alias: name of the alias, by default ``<dag_id>.<task_id>``.
    :param telling_producer: task id of the producer, if that tells of what it built: then this task begins in the triggerer, and ends there if nothing
        else was built.
    """

    ui_color = "#f3d9ec"

    def __init__(
        self,
        *,
        nodes: Sequence[str],
        ledger: LedgerRef,
        ledger_group: str = "",
        alias: str | None = None,
        telling_producer: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"task_id": ASSETS_TASK_ID, **kwargs})
        self.nodes = tuple(nodes)
        self.ledger = ledger
        self.ledger_group = ledger_group
        self.alias = AssetAlias(alias or f"{self.dag_id}.{self.task_id}")
        self.outlets = [*self.outlets, self.alias]
        self.inlets = [*self.inlets, self.alias]
        self.as_teardown()
        # For a task that ends in the triggerer, Airflow calls nobody and emits nothing.
        alone = self.outlets == [self.alias] and not (self.on_success_callback or self.on_execute_callback)
        if telling_producer is not None and alone:
            self.start_from_trigger = True
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls="ledger_watcher_airflow.untold.UntoldTrigger",
                trigger_kwargs={
                    "ledger": ledger.uri,
                    "producer": telling_producer,
                    "conn_id": ledger.conn_id,
                    "group": ledger_group,
                    "deployment": ledger.deployment,
                },
                next_method="resume",
            )

    def execute(self, context: Context) -> None:
        """Read the ledger, leave out what Airflow knows, and hand over the rest.

        :raises LedgerWatcherError: the ledger cannot be read.
        """
        from ledger_watcher.ledger import RunFollower  # noqa: PLC0415 - a DAG file's parse needs none of it
        from ledger_watcher_airflow.built import built_of  # noqa: PLC0415

        run = run_of(context["ti"], self.ledger, self.ledger_group)
        built = built_of(RunFollower(self.ledger.store(), run).snapshot(), self.nodes, self.ledger.folder(run))
        tell(built, self.alias, context, self.log)

    def resume(self, context: Context, event: Any) -> None:  # noqa: ANN401, ARG002 - Airflow's signature
        """The same, when the trigger has seen that there may be something to tell."""
        self.execute(context)


def tell(built: Sequence[Built], alias: AssetAlias, context: Context, log: Any) -> None:  # noqa: ANN401 - Airflow's logger
    """Hand over, through an alias that is an inlet and an outlet of the task, those builds that Airflow knows no event of in this run."""
    ti = context["ti"]
    run = (ti.run_id, -1 if ti.map_index is None else ti.map_index)
    told = _told(context["inlet_events"][alias], built, run) if built else set()
    new = [one for one in built if one.key not in told]
    for one in new:
        uri = _uri_or_none(one.relation)
        if uri is None:  # an odd materialization: the others are not to wait for it
            log.warning("No event for %s: %s is not the name of a relation.", one.unique_id, one.relation)
            continue
        log.info("%s was built: %s", one.unique_id, uri)
        context["outlet_events"][alias].add(Asset(uri), extra=dict(one.extra))
    log.info("%d nodes have been built, %d of them are new to Airflow.", len(built), len(new))


def _told(events: Any, built: Sequence[Built], run: tuple[str, int]) -> set[tuple[object, object]]:  # noqa: ANN401 - Airflow's accessor
    """Those builds of this run that Airflow has an event of, oldest first, page by page until all are found or there are no more.

    One request, as a rule: the events of a run follow its builds.
    """
    from ledger_watcher_airflow.built import key_of  # noqa: PLC0415 - a DAG file's parse needs none of it

    wanted = {one.key for one in built}
    found: set[tuple[object, object]] = set()
    since = min((datetime.fromisoformat(one.finished_at) for one in built), default=_NEVER) - _SLACK
    while found != wanted:
        page = events_after(events, since, _PAGE)
        found |= {key_of(event.extra) for event in page if (event.source_run_id, event.source_map_index) == run} & wanted
        if len(page) < _PAGE:
            break
        since = max(page[-1].timestamp, since + timedelta(microseconds=1))
    return found


def tell_outlet(
    outlets: Sequence[Any],
    own: Asset,
    context: Context,
    built: Iterable[Mapping[str, Any]],
    log: Any,  # noqa: ANN401 - Airflow's logger
) -> list[Any]:
    """The outlets that a node's task has in the end: ``own`` stays if that was built now, and its event gets what is known of the build.

    :param built: as :attr:`~ledger_watcher_airflow.built.Built.told`.
    """
    others = [one for one in outlets if one != own]
    for one in built:
        if _uri_or_none(one["relation"]) == own.uri:
            context["outlet_events"][own].extra.update(one["extra"])
            return [*others, own]
        log.warning(
            "No event: %s was built, but in the manifest of the DAG file the node is %s. Deploy the same.", one["relation"], own.uri
        )
    return others


def asset_task_ids(nodes: int) -> list[str]:
    """The ids of the tasks that tell of so many nodes."""
    return [ASSETS_TASK_ID if start == 0 else f"{ASSETS_TASK_ID}_{start // MOST_EVENTS + 1}" for start in range(0, nodes, MOST_EVENTS)]


def asset_tasks(
    nodes: Sequence[str], tasks: Sequence[BaseOperator], *, ledger: LedgerRef, ledger_group: str, task_args: Mapping[str, Any]
) -> None:
    """Create ``dbt_assets`` in the DAG or group that is current, to run when ``tasks`` have ended; in a big project more of them, in a row.

    The first of ``tasks`` is the producer. If it can, and there is only one ``dbt_assets``, it tells of what it builds itself.
    """
    behind, alias = last_of(tasks), None
    producer = tasks[0] if isinstance(tasks[0], Tells) and len(nodes) <= MOST_EVENTS else None
    triggerer = all(getattr(task, "deferrable", True) for task in tasks[1:])  # else there may be none
    for number, task_id in enumerate(asset_task_ids(len(nodes))):
        task = DbtAssetsOperator(
            **{**task_args, "task_id": task_id},
            nodes=nodes[number * MOST_EVENTS : (number + 1) * MOST_EVENTS],
            ledger=ledger,
            ledger_group=ledger_group,
            alias=alias,
            telling_producer=producer.task_id if producer is not None and triggerer else None,
        )
        put_behind(task, behind)
        behind, alias = [task], task.alias.name
        if producer is not None:
            producer.tell_of(nodes, task.alias, spares=task.task_id if task.start_from_trigger else None)


def last_of(tasks: Sequence[BaseOperator]) -> list[BaseOperator]:
    """Those after whose end all of ``tasks`` have ended: all but those with a child that waits for nothing else.

    The leaves are not enough: a task of two parents is ``upstream_failed`` as soon as one fails, while the other may be running.
    """
    alone = [task for task in tasks if len(task.upstream_task_ids) == 1 and task.trigger_rule != "always"]
    covered = {parent for task in alone for parent in task.upstream_task_ids}
    return [task for task in tasks if task.task_id not in covered]
