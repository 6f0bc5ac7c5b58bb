"""An Airflow connection as the table of fields reads it: by the names of its columns, and ``extra.NAME`` for what its JSON holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ledger_watcher.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Connection

_EXTRA = "extra."


class ConnectionView:
    """One connection. Its values are in no representation and no error of this class.

    :param prefix: older connections have ``extra__PREFIX__NAME`` for ``NAME`` in their JSON.
    :raises ConfigError: the JSON is none, or no object.
    """

    def __init__(self, connection: Connection, prefix: str = "") -> None:
        self._connection = connection
        self._extra = _extra(connection)
        self._prefix = prefix

    @classmethod
    def of(cls, conn_id: str, prefix: str = "") -> ConnectionView:
        """Look the connection up, as Airflow does: secrets backends, environment, database.

        :raises ConfigError: there is none.
        """
        from airflow.sdk import Connection  # noqa: PLC0415 - only where a connection is looked up

        from ledger_watcher_airflow.compat import AirflowNotFoundException  # noqa: PLC0415

        try:
            return cls(Connection.get(conn_id), prefix)
        except AirflowNotFoundException as error:
            raise ConfigError(
                f"Airflow has no connection {conn_id!r}, of which ProfileConfig(profile_mapping=...) makes dbt's profile: create it "
                f"(`airflow connections add {conn_id}`, or AIRFLOW_CONN_{conn_id.upper()} where the task runs), or correct conn_id."
            ) from error

    def find(self, sources: Iterable[str]) -> Any:  # noqa: ANN401 - JSON is any
        """The first of these that says something, ``None`` if none does: neither ``None`` nor an empty text does."""
        for source in sources:
            for value in self._values(source):
                if value not in (None, ""):
                    return value
        return None

    def _values(self, source: str) -> tuple[Any, ...]:
        if not source.startswith(_EXTRA):
            return (getattr(self._connection, source),)
        name = source[len(_EXTRA) :]
        return self._extra.get(name), self._extra.get(f"extra__{self._prefix}__{name}")


def _extra(connection: Connection) -> Mapping[str, Any]:
    try:
        found = json.loads(connection.extra or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"The extra of the connection {connection.conn_id!r} is no JSON object; correct it (`airflow connections get`).")
    return found
