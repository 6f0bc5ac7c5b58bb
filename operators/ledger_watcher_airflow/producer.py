"""The task that runs dbt, once, and writes the ledger."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from ledger_watcher.errors import ConfigError, Fenced, LedgerWatcherError
from ledger_watcher_airflow.assets import tell
from ledger_watcher_airflow.callbacks import Callbacks, checked, tell_of_artifacts
from ledger_watcher_airflow.compat import AirflowException, AirflowFailException, DownstreamTasksSkipped
from ledger_watcher_airflow.config import ExecutionConfig, ProducerRetryOn, ProfileConfig, ProjectConfig
from ledger_watcher_airflow.flags import DbtCall, DbtFlags
from ledger_watcher_airflow.late import wait_for_late
from ledger_watcher_airflow.ledger import PRODUCER_TASK_ID, LedgerRef, run_of

if TYPE_CHECKING:
    from airflow.sdk import AssetAlias, Context

    from ledger_watcher.capture.request import CaptureRequest, CaptureResult
    from ledger_watcher.capture.session import Capture
    from ledger_watcher.state import RunState

PRODUCER_PRIORITY = 10_000
"""Absolute weight: the producer gets a worker before anything else of its DAG does."""


class DbtProducerWatcherOperator(BaseOperator):
    """Runs ``dbt build`` and appends what happens to every node to the ledger of this DAG run.

    It succeeds when dbt ran to its end and each error belongs to a node whose own task shows it; it fails when dbt did not (parse or
    connection errors, a failing hook, a kill) or when something failed that has no task.

    :param nodes: unique_ids of the nodes that have tasks, which is the plan of the run. If sources are among them, their freshness is checked
        before the build.
    :param without_task: those that dbt builds too and that have none, such as functions.
    :param drawn: what dbt is told to select is what has tasks; else it may be less.
    :param exactly: ``nodes`` and ``without_task`` are what is built, whatever dbt would select.
    :param tests_last: run all tests when all else is built, so that none keeps a node from being built.
    :param ledger_group: task group path, part of the ledger's identity.
    :param callback: function, or list of them, that is called when dbt and the ledger have ended, however dbt ended, with the project's folder
        (the artifacts are below ``target``) and ``callback_args``, and with the keyword ``context`` if it takes it. An error in it fails the task.
    :param callback_args: keyword arguments of ``callback``.
    :raises ConfigError: ``callback`` cannot be called.
    """

    ui_color = "#f7d9c4"

    def __init__(  # noqa: PLR0913 - one argument per configuration class
        self,
        *,
        project_config: ProjectConfig,
        profile_config: ProfileConfig,
        execution_config: ExecutionConfig,
        ledger: LedgerRef,
        nodes: Sequence[str] = (),
        without_task: Sequence[str] = (),
        flags: DbtFlags | None = None,
        excluded_types: Sequence[str] = (),
        tests_last: bool = False,
        drawn: bool = False,
        exactly: bool = False,
        ledger_group: str = "",
        callback: Callbacks = None,
        callback_args: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs = {"task_id": PRODUCER_TASK_ID, "priority_weight": PRODUCER_PRIORITY, "weight_rule": "absolute", **kwargs}
        super().__init__(**kwargs)
        self.execution_config = execution_config
        self.ledger = ledger
        self.nodes = tuple(nodes)
        self.without_task = tuple(without_task)
        self.drawn = drawn
        self.build = DbtCall(
            project=project_config,
            profile=profile_config,
            flags=flags or DbtFlags(),
            excluded_types=tuple(excluded_types),
            tests_last=tests_last,
            exactly=(*self.nodes, *self.without_task) if exactly else (),
        )
        wait_for_late(self, self.build.templates.values())
        self.ledger_group = ledger_group
        self._callbacks = checked("callback", callback)
        self._callback_args = dict(callback_args or {})
        self._capture: Capture | None = None
        self._told: tuple[str, ...] = ()
        self._alias: AssetAlias | None = None
        self._spares: str | None = None

    def answer_for(self, nodes: Collection[str]) -> None:
        """These have no task that shows them after all: this one fails if they do, and a source among them is not checked."""
        self.nodes = tuple(name for name in self.nodes if name not in nodes)
        self.without_task = (*self.without_task, *sorted(name for name in nodes if not name.startswith("source.")))

    def execute(self, context: Context) -> None:
        """Run dbt for what is not done yet; see the class for what success means."""
        ti = context["ti"]
        try:
            result = self._run(
                context,
                done=self._done(ti),
                plan=(*self.nodes, *self.without_task) or None,
                plan_source="airflow",
                selected=self.drawn,
                exactly=bool(self.build.exactly),
                producer_started_at=ti.start_date,
            )
        except (ConfigError, Fenced) as error:  # the same again would end the same way
            raise AirflowFailException(str(error)) from error
        except LedgerWatcherError as error:
            raise AirflowException(str(error)) from error
        try:
            self._call_back(context)
        finally:  # what dbt did weighs more than an error in a callback
            self._judge(result, tries_left=ti.try_number <= ti.max_tries)
        if self._alias is not None:
            from ledger_watcher_airflow.built import built_of  # noqa: PLC0415 - a DAG file's parse needs none of it

            folder = self.ledger.folder(run_of(ti, self.ledger, self.ledger_group))
            tell(built_of(result.state, self._told, folder), self._alias, context, self.log)
            self._spare(context, result.state)

    def tell_of(self, nodes: Sequence[str], alias: AssetAlias, *, spares: str | None = None) -> None:
        """Tell Airflow of what was built of these nodes when this task ends well; see :class:`~ledger_watcher_airflow.assets.Tells`."""
        self._told, self._alias, self._spares = tuple(nodes), alias, spares
        self.inlets, self.outlets = [*self.inlets, alias], [*self.outlets, alias]

    def recover(self, context: Context, *, only: frozenset[str], after: int) -> None:
        """Run dbt for some nodes, in the task of one of them; see :class:`~ledger_watcher_airflow.recovery.Recovers`."""
        self._run(context, only=only, after=after, task_id=context["ti"].task_id)
        self._call_back(context)

    def _spare(self, context: Context, state: RunState) -> None:
        """Skip the task that would tell of what is left, if every node is done: what a recovery builds later was cleared together with that task.

        :raises DownstreamTasksSkipped: with it, Airflow skips that task and ends this one well.
        """
        from ledger_watcher_airflow.decision import done_since_clear  # noqa: PLC0415 - a DAG file's parse needs none of it

        done = done_since_clear(state, getattr(context["dag_run"], "clear_number", None))
        if self._spares is None or not done.issuperset(self.nodes):
            return
        self.log.info("All nodes are done and told of: %s has nothing to do and is skipped.", self._spares)
        map_index = context["ti"].map_index
        raise DownstreamTasksSkipped(tasks=[self._spares if map_index in {None, -1} else (self._spares, map_index)])

    def _run(self, context: Context, **what: Any) -> CaptureResult:
        from ledger_watcher.capture.request import CaptureRequest  # noqa: PLC0415 - a DAG file's parse needs none of it
        from ledger_watcher.capture.session import Capture  # noqa: PLC0415
        from ledger_watcher.emit import wanted_emitters  # noqa: PLC0415
        from ledger_watcher_airflow.profiles.placed import placed  # noqa: PLC0415

        ti, dag_run = context["ti"], context["dag_run"]
        run = run_of(ti, self.ledger, self.ledger_group)
        self.log.info("Ledger: %s/%s", self.ledger.uri.rstrip("/"), run.prefix)
        with placed(self.build.rendered(lambda values: self.render_template(values, context, self.get_template_env()))) as build:
            request = CaptureRequest(
                command=build.argv(self.executable()),
                in_process=self.runs_in_process(),
                project_dir=build.project.project_dir,
                env=build.env,
                redact_env=build.secret_env,
                try_number=ti.try_number,
                clear_number=getattr(dag_run, "clear_number", None),
                since=getattr(dag_run, "start_date", None),
                tests_last=build.tests_last,
                emit=wanted_emitters(os.environ, build.env),
                **self._sources(),
                **what,
            )
            if build.flags.install_deps:
                self._install_deps(request)
            self._capture = Capture(self.ledger.store(), run, request)
            return self._capture.run()

    def _sources(self) -> dict[str, Any]:
        """What is asked for the sources that have tasks."""
        from ledger_watcher.verdict import sources_of  # noqa: PLC0415 - as above

        sources = sources_of(self.nodes)
        skip = self.execution_config.source_freshness_skip
        return {"freshness": True, "sources": sources, "freshness_skip": skip} if sources else {}

    def _call_back(self, context: Context) -> None:
        tell_of_artifacts(self._callbacks, lambda: self.build.project.project_dir, self._callback_args, context)

    def _done(self, ti: Any) -> frozenset[str]:  # noqa: ANN401 - Airflow's RuntimeTaskInstance
        """The nodes whose tasks are ``success`` now: after a clear, they are what is not to be built again."""
        from ledger_watcher_airflow.states import done_nodes  # noqa: PLC0415 - as above

        return done_nodes(ti, self.get_dag(), self.task_id)

    def on_kill(self) -> None:
        """Interrupt dbt, so that it cancels its queries and the ledger gets its end. Airflow waits 5 s before it kills."""
        if self._capture is not None:
            self._capture.interrupt()

    def command(self) -> tuple[str, ...]:
        """The dbt command line, its templates not rendered yet."""
        return self.build.argv(self.executable())

    def executable(self) -> str:
        """The dbt to run; asked on the worker.

        :raises LedgerWatcherError: it cannot be had.
        """
        return self.execution_config.executable()

    def runs_in_process(self) -> bool:
        """Whether dbt runs in this task's own process; asked on the worker."""
        return self.execution_config.runs_in_process()

    def _install_deps(self, request: CaptureRequest) -> None:
        from ledger_watcher.deps import install_deps  # noqa: PLC0415

        code = install_deps(request, self.log.info)
        if code:
            raise AirflowException(f"`dbt deps` ended with exit code {code}; its output is above. dbt build was not started.")

    def _judge(self, result: CaptureResult, *, tries_left: bool) -> None:
        from ledger_watcher.records import EndedBy  # noqa: PLC0415 - as above
        from ledger_watcher.verdict import HANDLED, errors_of  # noqa: PLC0415

        errors = errors_of(result.state, self.nodes)
        if result.ended_by is EndedBy.EXIT and result.exit_code == 0:
            self.log.info("dbt built everything. End of the ledger: %s", result.end_sha256)
            return
        if result.ended_by is EndedBy.EXIT and result.exit_code == HANDLED and errors.shown and not errors.hidden:
            if tries_left and self.execution_config.producer_retry_on is ProducerRetryOn.NODE_ERRORS:
                raise AirflowException(f"{len(errors.shown)} nodes failed; the next try builds them again, and what waits for them.")
            self.log.warning(
                "dbt ran to its end with %d failed nodes; their own tasks show them. End of the ledger: %s",
                len(errors.shown),
                result.end_sha256,
            )
            return
        if errors.hidden:
            raise AirflowException(f"{len(errors.hidden)} failed nodes or hooks have no task of their own: {errors.named}")
        raise AirflowException(
            f"dbt did not run to its end (exit code {result.exit_code}, ended by {result.ended_by.value}): {result.message or 'see the log above'}"
        )
