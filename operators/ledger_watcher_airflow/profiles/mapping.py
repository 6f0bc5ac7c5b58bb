"""An Airflow connection in, a profile with ``env_var()`` for every secret out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import yaml

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow.profiles.config_vars import DbtProfileConfigVars
from ledger_watcher_airflow.profiles.connection import ConnectionView
from ledger_watcher_airflow.profiles.hiding import Hiding, looks_secret
from ledger_watcher_airflow.profiles.table import KINDS, Field, Kind

DEFAULT_TARGET = "default"
"""What dbt calls a target that has no name."""


@final
@dataclass(frozen=True, slots=True)
class Profile:
    """What a connection came to: one output of profiles.yml, and the environment variables that go with it."""

    fields: Mapping[str, Any]
    env: Mapping[str, str] = field(repr=False)


class ConnectionProfileMapping:
    """Makes dbt's profile of an Airflow connection, where dbt is started. At parse, nothing is looked up.

    :param conn_id: the connection.
    :param profile_args: fields of the profile, over what the connection has; ``schema``, for example, of PostgreSQL. A secret here stands in the DAG
        file, but in nothing that is made of it.
    :param disable_event_tracking: ``DbtProfileConfigVars(send_anonymous_usage_stats=False)``.
    :param dbt_config_vars: settings of dbt.
    :raises ConfigError: arguments that are wrong, or a field that is in no connection and is missing.
    """

    kind: ClassVar[Kind]

    def __init__(
        self,
        conn_id: str,
        profile_args: Mapping[str, Any] | None = None,
        disable_event_tracking: bool | None = None,
        dbt_config_vars: DbtProfileConfigVars | None = None,
    ) -> None:
        self.conn_id = conn_id
        self.profile_args = {name: value for name, value in (profile_args or {}).items() if value is not None}
        self._config_vars = dbt_config_vars
        self._untracked = bool(disable_event_tracking)
        self._check()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(conn_id={self.conn_id!r})"

    @property
    def profile(self) -> dict[str, Any]:
        """The fields of the profile, with ``env_var()`` for each secret.

        :raises ConfigError: as :meth:`read`.
        """
        return dict(self.read().fields)

    @property
    def env_vars(self) -> dict[str, str]:
        """The environment variables that the profile refers to, and dbt's settings.

        :raises ConfigError: as :meth:`read`.
        """
        return dict(self.read().env)

    def get_profile_file_contents(self, profile_name: str, target_name: str = DEFAULT_TARGET) -> str:
        """A whole ``profiles.yml``; there is no secret in it.

        :raises ConfigError: as :meth:`read`.
        """
        return profiles_yml(profile_name, target_name, self.read().fields)

    def read(self) -> Profile:
        """Look the connection up, once, and make the profile of it.

        :raises ConfigError: there is no such connection, or it lacks a field, or one cannot be what it has to be.
        """
        kind, hiding = self.kind, Hiding()
        connection = ConnectionView.of(self.conn_id, kind.prefix)
        found: dict[str, Any] = {"type": kind.type, **({"method": kind.method} if kind.method else {})}
        given = kind.credentials(self.conn_id) if kind.credentials else {}
        for name, one in kind.fields.items():
            if name in self.profile_args:
                continue
            value = given.get(name, self._value(name, one, connection))
            if value is not None:
                value = str(value) if one.secret else value
                found[name] = hiding.tree(value, self._is_secret, name, literal=True)
            elif one.required:
                raise ConfigError(self._missing(name, one))
        for name, value in self.profile_args.items():
            own = kind.fields.get(name)
            text = str(value) if own is not None and own.secret else value
            found[name] = hiding.tree(text, self._is_secret, name, literal=False)
        return Profile(found, {**hiding.env, **self._settings()})

    def _value(self, name: str, one: Field, connection: ConnectionView) -> Any:  # noqa: ANN401 - JSON is any
        value = connection.find(one.sources)
        if value is None:
            return one.default
        if one.convert is None:
            return value
        try:
            return one.convert(value, connection)
        except ValueError as error:
            raise ConfigError(
                f"{_named(one)} of the connection {self.conn_id!r} cannot be {name!r} of a {self.kind.type} profile: it has to be {error}. "
                "Correct the connection."
            ) from None  # the cause may quote a secret

    def _is_secret(self, name: str) -> bool:
        own = self.kind.fields.get(name)
        if own is not None:
            return own.secret
        return name in self.kind.secret_keys or looks_secret(name)

    def _settings(self) -> dict[str, str]:
        untracked = {"DBT_SEND_ANONYMOUS_USAGE_STATS": "False", "DO_NOT_TRACK": "1"} if self._untracked else {}
        return {**(self._config_vars.env if self._config_vars else {}), **untracked}

    def _check(self) -> None:
        kind, name = self.kind, type(self).__name__
        if not isinstance(self.conn_id, str) or not self.conn_id:
            raise ConfigError(f"{name}(conn_id={self.conn_id!r}): write the id of an Airflow connection.")
        try:
            yaml.safe_dump(self.profile_args)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"{name}(profile_args=...) holds what YAML has not: {error}. Write texts, numbers, lists and dicts."
            ) from None
        for fixed in ("type", "method"):
            if fixed in self.profile_args and self.profile_args[fixed] != getattr(kind, fixed):
                raise ConfigError(
                    f"{name}(profile_args={{{fixed!r}: {self.profile_args[fixed]!r}}}): the class makes profiles of {fixed} "
                    f"{getattr(kind, fixed)!r}; leave it out, or choose another class of ledger_watcher_airflow.profiles."
                )
        for field_name, one in kind.fields.items():
            if one.required and not one.sources and field_name not in self.profile_args:
                raise ConfigError(self._missing(field_name, one))
        if self._config_vars is not None and not isinstance(self._config_vars, DbtProfileConfigVars):
            raise ConfigError(f"{name}(dbt_config_vars=...): write a DbtProfileConfigVars of ledger_watcher_airflow.profiles.")
        if self._untracked and self._config_vars is not None and self._config_vars.send_anonymous_usage_stats:
            raise ConfigError(f"{name}: disable_event_tracking says the contrary of send_anonymous_usage_stats; leave one of them out.")

    def _missing(self, name: str, one: Field) -> str:
        what = f"a {self.kind.type} profile needs {name!r}, and"
        if not one.sources:
            return f"{type(self).__name__}({self.conn_id!r}): {what} no connection has it: write profile_args={{{name!r}: '...'}}."
        otherwise = "" if one.secret else f", or write {type(self).__name__}(profile_args={{{name!r}: '...'}})"
        return f"The connection {self.conn_id!r} lacks {_named(one)}: {what} takes it from there. Add it to the connection{otherwise}."


def profiles_yml(profile_name: str, target_name: str, fields: Mapping[str, Any]) -> str:
    """A ``profiles.yml`` with one target."""
    content = {profile_name: {"target": target_name, "outputs": {target_name: dict(fields)}}}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def made(name: str, home: str) -> type[ConnectionProfileMapping]:
    """The class of a row of the table, for the module ``home``."""
    kind = KINDS[name]
    doc = f"A profile of type {kind.type}{f', method {kind.method}' if kind.method else ''}; see :class:`ConnectionProfileMapping`."
    return type(name, (ConnectionProfileMapping,), {"kind": kind, "__module__": home, "__qualname__": name, "__doc__": doc})


def _named(one: Field) -> str:
    return " or ".join(f"{source[6:]!r} in its extra" if source.startswith("extra.") else f"its {source!r}" for source in one.sources)
