"""The task that runs dbt, once, and writes the ledger."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ledger_watcher import codec
from ledger_watcher.errors import ConfigError, Fenced, LedgerWatcherError
from ledger_watcher.records import EndedBy, HookFinished, NodeFinished, Outcome
from ledger_watcher_airflow.config import ExecutionConfig, ProfileConfig, ProjectConfig
from ledger_watcher_airflow.ledger import LedgerRef, run_key

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ledger_watcher.capture.request import CaptureResult
    from ledger_watcher.capture.session import Capture

PRODUCER_TASK_ID = "dbt_producer_watcher"
PRODUCER_PRIORITY = 10_000
"""Absolute weight: the producer gets a worker before anything else of its DAG does."""

_HANDLED = 1  # dbt ran to its end and some nodes failed (dbt's exit codes: 0 success, 1 handled errors, 2 anything else)


@dataclass(frozen=True, slots=True, kw_only=True)
class DbtFlags:
    """What a user may add to ``dbt build``.

    :param vars: ``--vars``; they win over those of the project configuration.
    :param env: environment variables for dbt, on top of the worker's.
    :param dbt_cmd_flags: flags behind ``build``, as they are.
    :param dbt_cmd_global_flags: flags in front of ``build``, as they are.
    """

    full_refresh: bool = False
    fail_fast: bool = False
    vars: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    dbt_cmd_flags: Sequence[str] = ()
    dbt_cmd_global_flags: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("dbt_cmd_flags", "dbt_cmd_global_flags"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} is a string; write a list with one string per argument: {name}=['--threads', '8'].")
        for name in ("vars", "env"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(f"{name} is a {type(getattr(self, name)).__name__}; write a dict.")


class DbtProducerWatcherOperator(BaseOperator):
    """Runs ``dbt build`` and appends what happens to every node to the ledger of this DAG run.

    It succeeds when dbt ran to its end and each error belongs to a node whose own task shows it; it fails when dbt did not (parse or
    connection errors, a failing hook, a kill) or when something failed that has no task.

    :param nodes: unique_ids of the nodes that have tasks, which is the plan of the run.
    :param ledger_group: task group path, part of the ledger's identity.
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
        flags: DbtFlags | None = None,
        excluded_types: Sequence[str] = (),
        ledger_group: str = "",
        **kwargs: Any,
    ) -> None:
        kwargs = {"task_id": PRODUCER_TASK_ID, "priority_weight": PRODUCER_PRIORITY, "weight_rule": "absolute", **kwargs}
        super().__init__(**kwargs)
        self.project_config = project_config
        self.profile_config = profile_config
        self.execution_config = execution_config
        self.ledger = ledger
        self.nodes = tuple(nodes)
        self.flags = flags or DbtFlags()
        self.excluded_types = tuple(excluded_types)
        self.ledger_group = ledger_group
        self._capture: Capture | None = None

    def execute(self, context: Context) -> None:
        """Run dbt; see the class for what success means."""
        from ledger_watcher.capture.request import CaptureRequest  # noqa: PLC0415 - a DAG file's parse needs none of it
        from ledger_watcher.capture.session import Capture  # noqa: PLC0415

        ti = context["ti"]
        run = run_key(
            deployment=self.ledger.deployment,
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            group=self.ledger_group,
            map_index=-1 if ti.map_index is None else ti.map_index,
        )
        self.log.info("Ledger: %s/%s", self.ledger.uri.rstrip("/"), run.prefix)
        request = CaptureRequest(
            command=self.command(),
            in_process=self.execution_config.runs_in_process(),
            project_dir=self.project_config.project_dir,
            env={**self.project_config.env_vars, **self.flags.env},
            plan=self.nodes or None,
            plan_source="airflow",
            try_number=ti.try_number,
            clear_number=getattr(context["dag_run"], "clear_number", None),
            producer_started_at=ti.start_date,
        )
        try:
            self._capture = Capture(self.ledger.store(), run, request)
            result = self._capture.run()
        except (ConfigError, Fenced) as error:  # the same again would end the same way
            raise AirflowFailException(str(error)) from error
        except LedgerWatcherError as error:
            raise AirflowException(str(error)) from error
        self._judge(result)

    def on_kill(self) -> None:
        """Interrupt dbt, so that it cancels its queries and the ledger gets its end. Airflow waits 5 s before it kills."""
        if self._capture is not None:
            self._capture.interrupt()

    def command(self) -> tuple[str, ...]:
        """The dbt command line."""
        flags = self.flags
        variables = {**self.project_config.dbt_vars, **flags.vars}
        return (
            self._executable(),
            *flags.dbt_cmd_global_flags,
            "build",
            "--project-dir",
            str(self.project_config.project_dir),
            *self.profile_config.flags,
            *(("--vars", codec.dumps(variables).decode()) if variables else ()),
            *(("--full-refresh",) if flags.full_refresh else ()),
            *(("--fail-fast",) if flags.fail_fast else ()),
            *(part for kind in self.excluded_types for part in ("--exclude-resource-type", kind)),
            *flags.dbt_cmd_flags,
        )

    def _executable(self) -> str:
        if self.execution_config.dbt_executable_path is not None:
            return str(self.execution_config.dbt_executable_path)
        beside = Path(sys.executable).with_name("dbt")  # a worker's PATH often lacks its own virtualenv
        return str(beside) if beside.exists() else "dbt"

    def _judge(self, result: CaptureResult) -> None:
        attempt = result.state.attempt
        nodes = [
            node for node in result.state.nodes.values() if attempt is not None and node.epoch == attempt.epoch
        ]  # not an earlier one's
        failed = [node.finished for node in nodes if node.finished is not None and node.finished.outcome in _BAD]
        hidden: list[NodeFinished | HookFinished] = [record for record in failed if record.unique_id not in self.nodes]
        if attempt is not None:
            hidden += [hook for hook in attempt.hooks.values() if hook.outcome in _BAD]
        if result.ended_by is EndedBy.EXIT and result.exit_code == 0:
            self.log.info("dbt built everything. End of the ledger: %s", result.end_sha256)
            return
        if result.ended_by is EndedBy.EXIT and result.exit_code == _HANDLED and failed and not hidden:
            self.log.warning(
                "dbt ran to its end with %d failed nodes; their own tasks show them. End of the ledger: %s", len(failed), result.end_sha256
            )
            return
        if hidden:
            named = "; ".join(f"{record.unique_id}: {record.message or record.status}" for record in hidden[:5])
            raise AirflowException(f"{len(hidden)} failed nodes or hooks have no task of their own: {named}")
        raise AirflowException(
            f"dbt did not run to its end (exit code {result.exit_code}, ended by {result.ended_by.value}): {result.message or 'see the log above'}"
        )


_BAD = frozenset({Outcome.FAILED, Outcome.CANCELLED})
