"""How and where dbt runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow.config.arguments import names_checked
from ledger_watcher_airflow.config.modes import ExecutionMode, InvocationMode, ProducerRetryOn, TestIndirectSelection, take_member
from ledger_watcher_airflow.ledger import DEFAULT_DEPLOYMENT, LedgerRef

_ONE_RUN = frozenset(
    {"ledger_uri", "ledger_conn_id", "producer", "producer_retry_on", "source_freshness_skip", "poll_interval", "start_with_run"}
)
"""Of an :class:`ExecutionConfig`, what is said of one run of dbt that all tasks mirror."""

_INSTEAD = {
    "async_py_requirements": "write ExecutionMode.WATCHER_VIRTUALENV and operator_args={'py_requirements': [...]}",
    "project_path": "write ExecutionConfig(dbt_project_path=...)",
}


@names_checked(_INSTEAD)
@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConfig:
    """How and where dbt runs, and where the ledger lies.

    :param execution_mode: dbt runs once and a task per node mirrors it (``WATCHER``, ``WATCHER_VIRTUALENV``), or each task runs dbt (``LOCAL``, ``VIRTUALENV``).
    :param ledger_uri: root of the ledgers: ``s3://bucket/prefix``, any URI that fsspec knows, or a folder that the producer and the
        triggerer share. The option ``uri`` in section ``[ledger_watcher]`` of Airflow's configuration if not given.
    :param ledger_conn_id: Airflow connection with the credentials of the storage; the environment's own if not given.
    :param invocation_mode: ``DBT_RUNNER`` where dbt can be imported, ``SUBPROCESS`` where it cannot or an executable is given.
    :param dbt_executable_path: the dbt to run; any version, in any environment of the worker. With ``producer``: where that runs it.
    :param virtualenv_dir: where ``WATCHER_VIRTUALENV`` and ``VIRTUALENV`` keep their environments; in the cache folder of the worker's user if not given.
    :param producer: runs dbt anywhere else: ``kubernetes_producer(image=...)``, ``ssh_producer(...)``, ..., or a function that makes an
        operator of a :class:`~ledger_watcher_airflow.producers.ProducerCommand`.
    :param producer_retry_on: what the producer's ``retries`` are for: ``UNFINISHED``, runs of dbt that did not end (killed, no connection), or
        ``NODE_ERRORS``, failed nodes too: their tasks then wait for the producer's last try, and use none of their own.
    :param setup_operator_args: for the producer only, instead of what ``operator_args`` say: Airflow arguments, dbt flags, callbacks.
        Where it runs (``queue``, ``executor``, ``executor_config``) nodes' tasks run dbt again, too, unless ``operator_args`` place them.
    :param source_freshness_skip: decides which nodes are not built because of stale sources: called on the worker with a list of
        :class:`~ledger_watcher.capture.freshness.SourceFreshness` and the unique_ids that would be skipped (those with no other sources than stale
        ones), it returns the unique_ids that are. For ``RenderConfig(source_rendering_behavior=...)``, and not with ``producer``.
    :param poll_interval: seconds between two looks into the ledger.
    :param start_with_run: nodes' tasks start with the run rather than when those before them have ended, and end as soon as dbt has built their nodes:
        without it, Airflow takes about 3 s from each task to the next, which shows where projects are deep and models quick. What dbt skips below a
        failure is ``failed`` then, not ``upstream_failed``, and its failure callbacks are called. Tasks below operators of your own wait for them as ever.
    :param dbt_project_path: instead of ``ProjectConfig(dbt_project_path=...)``.
    :param install_dbt_deps: the same as ``operator_args={"install_deps": True}``.
    :param test_indirect_selection: the same as ``operator_args={"indirect_selection": ...}``.
    """

    execution_mode: ExecutionMode = ExecutionMode.WATCHER
    ledger_uri: str | None = None
    ledger_conn_id: str | None = None
    invocation_mode: InvocationMode | None = None
    dbt_executable_path: str | Path | None = None
    virtualenv_dir: str | Path | None = None
    producer: Callable[[Any], Any] | None = None
    producer_retry_on: ProducerRetryOn = ProducerRetryOn.UNFINISHED
    setup_operator_args: Mapping[str, Any] | None = None
    source_freshness_skip: Callable[..., Any] | None = None
    poll_interval: float = 1.0
    start_with_run: bool = False
    dbt_project_path: str | Path | None = None
    install_dbt_deps: bool = False
    test_indirect_selection: TestIndirectSelection | None = None

    def __post_init__(self) -> None:
        take_member(self, "execution_mode", ExecutionMode)
        take_member(self, "producer_retry_on", ProducerRetryOn)
        if self.invocation_mode is not None:
            take_member(self, "invocation_mode", InvocationMode)
        if self.test_indirect_selection is not None:
            take_member(self, "test_indirect_selection", TestIndirectSelection)
        if self.execution_mode.node_by_node:
            self._check_no_ledger()
        self._check_who_runs_dbt()

    def _check_no_ledger(self) -> None:
        for one in fields(self):
            if one.name in _ONE_RUN and getattr(self, one.name) != one.default:
                raise ConfigError(
                    f"ExecutionConfig({one.name}=...) is for one run of dbt that all tasks mirror through a ledger; with "
                    f"ExecutionMode.{self.execution_mode.name} each task runs dbt itself. Leave it out, or choose ExecutionMode.WATCHER."
                )

    def _check_who_runs_dbt(self) -> None:
        if self.source_freshness_skip is not None and not callable(self.source_freshness_skip):
            raise ConfigError(f"ExecutionConfig(source_freshness_skip={self.source_freshness_skip!r}) cannot be called; give a function.")
        if self.source_freshness_skip is not None and self.producer is not None:
            raise ConfigError(
                "ExecutionConfig(source_freshness_skip=...) is called where dbt runs, which producer=... has elsewhere: leave it out; nodes with "
                "no other sources than stale ones are skipped."
            )
        if self.producer is not None and self.producer_retry_on is ProducerRetryOn.NODE_ERRORS:
            raise ConfigError(
                "ExecutionConfig(producer_retry_on=ProducerRetryOn.NODE_ERRORS) is not for producer=...; give the nodes' tasks retries instead "
                "(operator_args={'retries': 1}): one run of dbt builds all that failed."
            )
        mode = self.execution_mode
        if self.producer is not None and not callable(self.producer):
            raise ConfigError(
                f"ExecutionConfig(producer={self.producer!r}) cannot be called; give kubernetes_producer(image=...) or the like."
            )
        if self.producer is not None and (mode.in_virtualenv or self.invocation_mode is not None):
            raise ConfigError(
                "ExecutionConfig(producer=...) says how dbt is started; leave invocation_mode out, and execution_mode at ExecutionMode.WATCHER."
            )
        if mode.in_virtualenv and (self.dbt_executable_path is not None or self.invocation_mode is InvocationMode.DBT_RUNNER):
            raise ConfigError(
                f"ExecutionMode.{mode.name} runs the dbt of its virtual environment, as a process; leave dbt_executable_path and "
                "invocation_mode out."
            )
        if self.virtualenv_dir is not None and not mode.in_virtualenv:
            raise ConfigError(
                "ExecutionConfig(virtualenv_dir=...) is for ExecutionMode.WATCHER_VIRTUALENV and VIRTUALENV; set one of them, or leave it out."
            )

    def ledger(self) -> LedgerRef:
        """The ledger's root, checked as far as that is possible without a request.

        :raises ConfigError: no URI anywhere, or one that cannot be that of a ledger.
        """
        from ledger_watcher.storage import check_scheme, split_uri  # noqa: PLC0415 - not needed before
        from ledger_watcher_airflow.compat import configuration  # noqa: PLC0415 - Airflow's

        conf = configuration()
        uri = self.ledger_uri or conf.get("ledger_watcher", "uri", fallback=None)
        if not uri:
            raise ConfigError(
                "No ledger: give ExecutionConfig(ledger_uri='s3://bucket/prefix'), or a default for all DAGs with "
                "AIRFLOW__LEDGER_WATCHER__URI. It must be a place that the producer can write and the triggerer can read."
            )
        scheme, path = split_uri(uri)
        check_scheme(uri)
        if scheme in ("file", "local") and not path.startswith("/"):
            raise ConfigError(
                f"The ledger URI {uri!r} is a relative path, which each Airflow process would place elsewhere; write an absolute one."
            )
        if self.poll_interval <= 0:
            raise ConfigError(f"ExecutionConfig(poll_interval={self.poll_interval}) must be more than 0 seconds.")
        deployment = conf.get("ledger_watcher", "deployment", fallback=DEFAULT_DEPLOYMENT) or DEFAULT_DEPLOYMENT
        return LedgerRef(uri=uri, conn_id=self.ledger_conn_id, deployment=deployment)

    def executable(self) -> str:
        """The dbt to run, if it is not that of a virtual environment; asked on the worker."""
        if self.dbt_executable_path is not None:
            return str(self.dbt_executable_path)
        beside = Path(sys.executable).with_name("dbt")  # a worker's PATH often lacks its own virtualenv
        return str(beside) if beside.exists() else "dbt"

    def runs_in_process(self) -> bool:
        """Whether dbt runs in the task's own process; asked on the worker."""
        if self.invocation_mode is not None:
            return self.invocation_mode is InvocationMode.DBT_RUNNER
        return self.dbt_executable_path is None and not self.execution_mode.in_virtualenv and _dbt_is_importable()


def _dbt_is_importable() -> bool:
    try:
        return importlib.util.find_spec("dbt.cli") is not None
    except ModuleNotFoundError:
        return False
