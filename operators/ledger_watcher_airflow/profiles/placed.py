"""The profile of a mapping where dbt finds it, for as long as dbt runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow.flags import DbtCall
from ledger_watcher_airflow.profiles.hiding import Hiding, looks_secret
from ledger_watcher_airflow.profiles.mapping import DEFAULT_TARGET, ConnectionProfileMapping, profiles_yml
from ledger_watcher_airflow.profiles.surface import ProfileMapping

_FOLDER = ("DBT_PROFILES_DIR", "DBT_ENGINE_PROFILES_DIR")
"""The second one is what dbt-core 1.11 calls it; either would win over the other. Not ``--profiles-dir``: the ledger compares commands."""


@contextmanager
def placed(call: DbtCall) -> Iterator[DbtCall]:
    """The call as it can be started: if its profile is a mapping, that is asked, and written to a private folder that is removed afterwards.

    The folder is one that the next attempt on this machine removes if this process is killed. There is no secret in it: those are in the
    environment of the call.

    :raises ConfigError: the mapping cannot make a profile: its connection is missing, or something in it.
    """
    mapping = call.profile.profile_mapping
    if mapping is None:
        yield call
        return
    from ledger_watcher.capture.workspace import Workspace  # noqa: PLC0415 - a DAG file's parse needs none of it

    target = call.flags.target or call.profile.target_name or DEFAULT_TARGET
    text, env = written(mapping, call.profile.profile_name, target)
    with Workspace() as workspace:
        _write(workspace.path / "profiles.yml", text)
        folder = dict.fromkeys(_FOLDER, str(workspace.path))
        yield replace(
            call,
            profile=replace(call.profile, target_name=target, profile_mapping=None),
            profile_env={**env, **folder},
            secret_env=frozenset(name for name in env if _refers(text, name)),
        )


def written(mapping: ProfileMapping, profile_name: str, target_name: str) -> tuple[str, dict[str, str]]:
    """The content of profiles.yml, and the environment that dbt needs with it.

    Of a mapping that is not ours, each secret that it has in a variable gets one that dbt masks, and each that it wrote out, too.

    :raises ConfigError: the mapping cannot make a profile.
    """
    if isinstance(mapping, ConnectionProfileMapping):
        ours = mapping.read()
        return profiles_yml(profile_name, target_name, ours.fields), dict(ours.env)
    from ledger_watcher_airflow.compat import AirflowNotFoundException  # noqa: PLC0415

    try:  # in this order: some of Cosmos' mappings know their environment only when they have made the profile
        contents, env = mapping.get_profile_file_contents(profile_name=profile_name, target_name=target_name), dict(mapping.env_vars)
    except (AirflowNotFoundException, ValueError) as error:
        raise ConfigError(
            f"{type(mapping).__name__}({getattr(mapping, 'conn_id', '')!r}) cannot make a profile: {error}. Correct its connection, or its arguments."
        ) from error
    hiding = Hiding()
    tree = hiding.tree(hiding.referred(_loaded(contents, mapping), env), looks_secret, "", literal=False)
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    left = {name: value for name, value in env.items() if _refers(text, name) or not _refers(contents, name)}
    return text, {**left, **hiding.env}


def _loaded(contents: str, mapping: ProfileMapping) -> Mapping[str, Any]:
    found = yaml.safe_load(contents)
    if not isinstance(found, dict):
        raise ConfigError(f"{type(mapping).__name__}.get_profile_file_contents() is no profiles.yml: it holds no mapping.")
    return found


def _refers(text: str, variable: str) -> bool:
    return re.search(rf"\b{re.escape(variable)}\b", text) is not None


def _write(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
