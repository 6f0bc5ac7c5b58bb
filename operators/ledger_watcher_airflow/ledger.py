"""Where the ledger of a task lies: configuration and the task's own identity, nothing passed between tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger_watcher.errors import ConfigError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from ledger_watcher.ledger import RunKey
    from ledger_watcher.storage import Store

DEFAULT_DEPLOYMENT = "default"
PRODUCER_TASK_ID = "dbt_producer_watcher"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRef:
    """A ledger's root as a task knows it. It goes into the serialized DAG as it is, so it never holds a credential."""

    uri: str
    conn_id: str | None = None
    deployment: str = DEFAULT_DEPLOYMENT

    def store(self) -> Store:
        """The store, with the Airflow connection's filesystem if there is one. No request is made yet."""
        from ledger_watcher.storage import open_store  # noqa: PLC0415 - a DAG file's parse needs none of it

        return open_store(self.uri, filesystem=self._filesystem if self.conn_id else None)

    def folder(self, run: RunKey) -> str:
        """URI of a run's folder."""
        return f"{self.uri.rstrip('/')}/{run.prefix}"

    def _filesystem(self) -> AbstractFileSystem:
        return connected_filesystem(self.uri, self.conn_id or "", "leave ledger_conn_id out")


def connected_filesystem(uri: str, conn_id: str, otherwise: str) -> AbstractFileSystem:
    """The filesystem of a URI with the credentials of an Airflow connection.

    :param otherwise: what else a person may do, for the error.
    :raises ConfigError: no such connection, or no provider for it.
    """
    from airflow.sdk.io import get_fs  # noqa: PLC0415 - looks the connection up: only where a request is made

    from ledger_watcher.storage import S3_CLIENT_CONFIG  # noqa: PLC0415
    from ledger_watcher_airflow.compat import AirflowNotFoundException  # noqa: PLC0415

    scheme = uri.split("://", 1)[0]
    # What the Amazon provider is given here becomes botocore's Config, so only that may be in it.
    options: dict[str, Any] = dict(S3_CLIENT_CONFIG) if scheme in ("s3", "s3a") else {}
    try:
        return get_fs(scheme, conn_id, options)
    except (AirflowNotFoundException, AttributeError, ImportError, ValueError) as error:
        raise ConfigError(
            f"{uri} cannot be opened with the connection {conn_id!r}: {error}. Create the connection, and install the provider for "
            f"{scheme}:// where the task runs (of a ledger: the producer and the triggerer); or {otherwise}."
        ) from error


def producer_in(group: str) -> str:
    """Task id of the producer of the ledger of a task group's path, unless it is called otherwise (``prefix_group_id=False``)."""
    return f"{group}.{PRODUCER_TASK_ID}" if group else PRODUCER_TASK_ID


def run_key(*, deployment: str, dag_id: str, run_id: str, group: str, map_index: int) -> RunKey:
    """The identity of the ledger that a producer and its consumers share."""
    from ledger_watcher.ledger import RunKey  # noqa: PLC0415 - a DAG file's parse needs none of it

    return RunKey(deployment=deployment, dag_id=dag_id, run_id=run_id, group=group, map_index=map_index)


def run_of(ti: Any, ledger: LedgerRef, group: str) -> RunKey:  # noqa: ANN401 - Airflow's RuntimeTaskInstance or its like
    """The same, for the run that a task belongs to."""
    map_index = -1 if ti.map_index is None else ti.map_index
    return run_key(deployment=ledger.deployment, dag_id=ti.dag_id, run_id=ti.run_id, group=group, map_index=map_index)
