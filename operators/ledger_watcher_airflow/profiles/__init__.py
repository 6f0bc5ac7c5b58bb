"""dbt's profile of an Airflow connection: ``ProfileConfig(profile_mapping=PostgresUserPasswordProfileMapping(conn_id="db", ...))``.

The classes have the names that users of astronomer-cosmos know, and are made of one table (:mod:`~ledger_watcher_airflow.profiles.table`) when
they are first used: each is a :class:`ConnectionProfileMapping`. Another database is a :class:`Kind` of its own::

    class ExasolProfileMapping(ConnectionProfileMapping):
        kind = Kind(type="exasol", fields={"dsn": Field(("host",), required=True), "password": Field(("password",), secret=True), ...})
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger_watcher_airflow.profiles.config_vars import DbtProfileConfigVars
    from ledger_watcher_airflow.profiles.mapping import ConnectionProfileMapping
    from ledger_watcher_airflow.profiles.surface import ProfileMapping
    from ledger_watcher_airflow.profiles.table import Field, Kind

_HOMES = {
    "ConnectionProfileMapping": "mapping",
    "DbtProfileConfigVars": "config_vars",
    "Field": "table",
    "Kind": "table",
    "ProfileMapping": "surface",
}

__all__ = ["ConnectionProfileMapping", "DbtProfileConfigVars", "Field", "Kind", "ProfileMapping"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whichever it is
    """Import a public name from its module, or make the class of a row of the table.

    :raises AttributeError: there is no such name.
    """
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name.startswith("__"):  # what Python asks of every module
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ledger_watcher_airflow.profiles.mapping import made  # noqa: PLC0415
    from ledger_watcher_airflow.profiles.table import KINDS  # noqa: PLC0415

    if name not in KINDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its mappings are {', '.join(KINDS)}")
    return globals().setdefault(name, made(name, __name__))
