"""OpenLineage events of a run: START and COMPLETE, FAIL or ABORT of dbt and of each node, through the official client.

The client finds its transport as ever: ``OPENLINEAGE_URL`` and ``OPENLINEAGE_API_KEY``, ``OPENLINEAGE__TRANSPORT__...``, ``OPENLINEAGE_CONFIG`` or an
``openlineage.yml``. ``OPENLINEAGE_NAMESPACE`` is the namespace of jobs, ``OPENLINEAGE_DBT_JOB_NAME`` names the job of dbt itself, and
``OPENLINEAGE_PARENT_ID`` (namespace/job/run id) is the job that started it: as users of OpenLineage's own dbt wrapper have them. Datasets are named by
the relation; ``LEDGER_WATCHER_DATASET_NAMESPACE`` is their namespace, such as ``postgres://host:5432``, else it is the adapter's type.

Ids are made of the run, the attempt and the node: the same records make the same events whenever and wherever they are told.
"""

from __future__ import annotations

import os
from datetime import datetime

from openlineage.client import OpenLineageClient, event_v2, facet_v2
from openlineage.client.uuid import generate_static_uuid

from ledger_watcher import __version__
from ledger_watcher.emit.emitter import Origin
from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger.segments import Entry
from ledger_watcher.project.relation import relation_parts
from ledger_watcher.project.view import BUILDABLE, SOURCES, TESTS
from ledger_watcher.records import AttemptFinished, AttemptStarted, DbtStarted, EndedBy, NodeFinished, NodeStarted, Outcome, Record
from ledger_watcher.report.bars import CARRIED
from ledger_watcher.report.view import finished_at, type_of

PRODUCER = f"urn:ledger-watcher:{__version__}"
DATASETS = "LEDGER_WATCHER_DATASET_NAMESPACE"

State = event_v2.RunState
Node = tuple[int, str]


class OpenLineage:
    """See the module. Events are sent one after another, each when :meth:`take` returns."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._client = OpenLineageClient()
        if not self._client.config.transport and not os.environ.get("OPENLINEAGE_DISABLED"):
            raise ConfigError("OpenLineage has no transport: set OPENLINEAGE_URL, or OPENLINEAGE_CONFIG to the path of an openlineage.yml.")
        self._namespace = os.environ.get("OPENLINEAGE_NAMESPACE") or "default"
        self._job = os.environ.get("OPENLINEAGE_DBT_JOB_NAME") or origin.job
        self._parent = _parent_of(os.environ.get("OPENLINEAGE_PARENT_ID"))
        self._attempts: dict[int, AttemptStarted] = {}
        self._dbt: dict[int, DbtStarted] = {}
        self._open: dict[Node, NodeStarted | NodeFinished] = {}
        self._told: dict[Node, State] = {}

    def take(self, entry: Entry) -> None:
        """Tell of a record."""
        epoch, record = entry.epoch, entry.record
        if epoch not in self._attempts and not isinstance(record, AttemptStarted):
            return  # its beginning has expired
        match record:
            case AttemptStarted():
                for earlier in [number for number in self._attempts if number < epoch]:
                    self._end(earlier, record, State.ABORT, "another attempt took over")
                self._attempts[epoch] = record
                self._emit_run(epoch, State.START, record.ts)
            case DbtStarted():
                self._dbt[epoch] = record
            case NodeStarted() if (epoch, record.unique_id) not in self._open and (epoch, record.unique_id) not in self._told:
                self._start(epoch, record)
            case NodeFinished() if record.source != CARRIED:
                self._finish(epoch, record)
            case AttemptFinished():
                self._end(epoch, record, _state_of(record), record.message)
            case _:
                pass

    def close(self, timeout: float) -> list[str]:
        """Let the transport send what it kept."""
        return [] if self._client.close(timeout) is not False else [f"not everything was sent within {timeout:g} s"]

    # Dbt and its nodes ----------------------------------------------------------------------------------------------

    def _start(self, epoch: int, record: NodeStarted | NodeFinished) -> None:
        self._open[epoch, record.unique_id] = record
        self._emit_node(epoch, record, State.START, record.started_at or record.ts)

    def _finish(self, epoch: int, record: NodeFinished) -> None:
        node = (epoch, record.unique_id)
        state = State.COMPLETE if record.outcome.ok else State.FAIL if record.outcome is Outcome.FAILED else State.ABORT
        before = self._told.get(node)
        if before in (state, State.COMPLETE):  # a success is never undone by what is said later
            return
        if before is None and node not in self._open:
            if record.outcome is Outcome.SKIPPED:
                return  # it never ran
            self._start(epoch, record)
        self._open.pop(node, None)
        self._told[node] = state
        self._emit_node(epoch, record, state, finished_at(record) or record.ts)

    def _end(self, epoch: int, record: Record, state: State, message: str | None) -> None:
        for node in [node for node in self._open if node[0] == epoch]:
            begun = self._open.pop(node)
            self._told[node] = State.ABORT
            self._emit_node(epoch, begun, State.ABORT, record.ts)
        if epoch in self._attempts:
            self._emit_run(epoch, state, record.ts, message)
            del self._attempts[epoch]

    # Events ---------------------------------------------------------------------------------------------------------

    def _emit_run(self, epoch: int, state: State, time: datetime, message: str | None = None) -> None:
        facets: dict[str, facet_v2.RunFacet] = dict(self._engine(epoch))
        if self._parent is not None:
            facets["parent"] = self._parent
        if message and state is not State.COMPLETE:
            facets["errorMessage"] = _error(message)
        self._client.emit(
            event_v2.RunEvent(
                eventType=state,
                eventTime=time.isoformat(),
                run=event_v2.Run(self._id(epoch), facets),
                job=event_v2.Job(self._namespace, self._job, {"jobType": _job_type("JOB")}),
                producer=PRODUCER,
            )
        )

    def _emit_node(self, epoch: int, record: NodeStarted | NodeFinished, state: State, time: datetime) -> None:
        kind = record.resource_type or type_of(record.unique_id)
        facets: dict[str, facet_v2.RunFacet] = {**self._engine(epoch), "parent": self._of_dbt(epoch)}
        if isinstance(record, NodeFinished):
            if record.query_id:
                source = self._origin.graph.adapter or "dbt"
                facets["externalQuery"] = facet_v2.external_query_run.ExternalQueryRunFacet(record.query_id, source, producer=PRODUCER)
            if record.message and state is State.FAIL:
                facets["errorMessage"] = _error(record.message)
        self._client.emit(
            event_v2.RunEvent(
                eventType=state,
                eventTime=time.isoformat(),
                run=event_v2.Run(self._id(epoch, record.unique_id), facets),
                job=event_v2.Job(self._namespace, record.unique_id, {"jobType": _job_type(kind.upper())}),
                inputs=self._inputs(record, kind),
                outputs=self._outputs(record, kind),
                producer=PRODUCER,
            )
        )

    def _inputs(self, record: NodeStarted | NodeFinished, kind: str) -> list[event_v2.InputDataset]:
        graph = self._origin.graph
        own = record.relation or graph.relations.get(record.unique_id)
        relations = [own] if kind in SOURCES and own else graph.inputs(record.unique_id)
        facets: dict[str, facet_v2.InputDatasetFacet] = {}
        if kind in TESTS and isinstance(record, NodeFinished) and record.outcome in (Outcome.SUCCESS, Outcome.WARN, Outcome.FAILED):
            made = facet_v2.data_quality_assertions_dataset
            told = made.Assertion(assertion=record.name or record.unique_id, success=record.outcome is Outcome.SUCCESS)
            facets["dataQualityAssertions"] = made.DataQualityAssertionsDatasetFacet(assertions=[told], producer=PRODUCER)
        return [event_v2.InputDataset(self._datasets(), _name(relation), facets) for relation in relations]

    def _outputs(self, record: NodeStarted | NodeFinished, kind: str) -> list[event_v2.OutputDataset]:
        relation = record.relation or self._origin.graph.relations.get(record.unique_id)
        if kind not in BUILDABLE or not relation:
            return []
        facets: dict[str, facet_v2.OutputDatasetFacet] = {}
        if isinstance(record, NodeFinished) and record.rows_affected is not None:
            made = facet_v2.output_statistics_output_dataset
            facets["outputStatistics"] = made.OutputStatisticsOutputDatasetFacet(rowCount=record.rows_affected, producer=PRODUCER)
        return [event_v2.OutputDataset(self._datasets(), _name(relation), facets)]

    def _datasets(self) -> str:
        return os.environ.get(DATASETS) or self._origin.graph.adapter or self._namespace

    def _engine(self, epoch: int) -> dict[str, facet_v2.RunFacet]:
        dbt = self._dbt.get(epoch)
        if dbt is None or dbt.dbt_version is None:
            return {}
        made = facet_v2.processing_engine_run.ProcessingEngineRunFacet
        return {"processing_engine": made(dbt.dbt_version, name="dbt", openlineageAdapterVersion=__version__, producer=PRODUCER)}

    def _of_dbt(self, epoch: int) -> facet_v2.parent_run.ParentRunFacet:
        made = facet_v2.parent_run
        return made.ParentRunFacet(made.Run(self._id(epoch)), made.Job(self._namespace, self._job), producer=PRODUCER)

    def _id(self, epoch: int, unique_id: str = "") -> str:
        started = self._attempts[epoch].ts
        return str(generate_static_uuid(started, f"{self._origin.run.prefix}#{epoch}#{unique_id}".encode()))


def _state_of(record: AttemptFinished) -> State:
    if record.ended_by is EndedBy.SIGNAL:
        return State.ABORT
    return State.COMPLETE if record.exit_code == 0 and record.ended_by is EndedBy.EXIT else State.FAIL


def _error(message: str) -> facet_v2.error_message_run.ErrorMessageRunFacet:
    return facet_v2.error_message_run.ErrorMessageRunFacet(message, "SQL", producer=PRODUCER)


def _job_type(kind: str) -> facet_v2.job_type_job.JobTypeJobFacet:
    return facet_v2.job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DBT", jobType=kind, producer=PRODUCER)


def _name(relation: str) -> str:
    try:
        return ".".join(relation_parts(relation))
    except ValueError:
        return relation


def _parent_of(text: str | None) -> facet_v2.parent_run.ParentRunFacet | None:
    """:raises ConfigError: not namespace/job/run id."""
    if not text:
        return None
    namespace, _, rest = text.partition("/")
    name, _, run_id = rest.rpartition("/")
    made = facet_v2.parent_run
    try:
        return made.ParentRunFacet(made.Run(run_id), made.Job(namespace, name), producer=PRODUCER)
    except ValueError as error:
        raise ConfigError(f"OPENLINEAGE_PARENT_ID is namespace/job/run id, the last a UUID; it is {text!r}.") from error
