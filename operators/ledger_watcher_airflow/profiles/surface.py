"""What ``ProfileConfig(profile_mapping=...)`` accepts: any object that makes a profile, of this package, of astronomer-cosmos or a user's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Protocol

from ledger_watcher.errors import ConfigError

_SURFACE = ("env_vars", "get_profile_file_contents")


class ProfileMapping(Protocol):
    """Makes a profile. Both are asked where dbt is started, this one last; never when a DAG file is parsed."""

    @property
    def env_vars(self) -> Mapping[str, str]:
        """The environment variables that the profile refers to, and others for dbt."""

    def get_profile_file_contents(self, profile_name: str, target_name: str) -> str:
        """A whole ``profiles.yml`` with this profile and this one target, secrets as ``env_var()``."""


def check_mapping(mapping: object) -> None:
    """Make sure that it has what is needed, without asking it: that would look up its connection.

    :raises ConfigError: it has not.
    """
    if isinstance(mapping, type):
        raise ConfigError(
            f"ProfileConfig(profile_mapping={mapping.__name__}) is a class; write profile_mapping={mapping.__name__}(conn_id='...')."
        )
    missing = [name for name in _SURFACE if inspect.getattr_static(mapping, name, None) is None]
    if missing:
        raise ConfigError(
            f"ProfileConfig(profile_mapping={mapping!r}) has no {missing[0]}, so it is no profile mapping; give one of "
            "ledger_watcher_airflow.profiles or of cosmos.profiles, such as PostgresUserPasswordProfileMapping(conn_id='...')."
        )
