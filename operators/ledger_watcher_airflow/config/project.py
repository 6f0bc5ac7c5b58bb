"""The dbt project and its profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow.config.arguments import names_checked
from ledger_watcher_airflow.profiles.surface import ProfileMapping, check_mapping

_FOLDERS = "the manifest says where everything is; leave it out"
_PROJECT_INSTEAD = {
    "models_relative_path": _FOLDERS,
    "seeds_relative_path": _FOLDERS,
    "snapshots_relative_path": _FOLDERS,
    "copy_dbt_packages": "dbt runs in the project itself, nothing is copied; leave it out",
    "project_dir": "write ProjectConfig(dbt_project_path=...)",
}
_PROFILE_INSTEAD = {
    "conn_id": "write ProfileConfig(profile_mapping=PostgresUserPasswordProfileMapping(conn_id=...)), or the mapping of your warehouse",
    "profile_args": "they belong to the mapping: ProfileConfig(profile_mapping=...ProfileMapping(conn_id=..., profile_args={...}))",
}


@names_checked(_PROJECT_INSTEAD)
@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConfig:
    """The dbt project.

    :param dbt_project_path: folder of ``dbt_project.yml``, where dbt runs. It may be given as ``ExecutionConfig(dbt_project_path=...)`` instead.
    :param manifest_path: the manifest that the DAG is drawn from: a path, or a URI that fsspec knows; ``target/manifest.json`` of the project if not
        given (see :class:`LoadMode`).
    :param manifest_conn_id: Airflow connection for that URI; the environment's own credentials if not given.
    :param project_name: what to call the project where it has to have a name; from the manifest if not given.
    :param dbt_vars: ``--vars`` of every dbt command.
    :param env_vars: environment variables for dbt.
    :param install_dbt_deps: the same as ``operator_args={"install_deps": True}``.
    :param partial_parse: ``False`` is the same as ``operator_args={"partial_parse": False}``.
    """

    dbt_project_path: str | Path | None = field(default=None, kw_only=False)
    manifest_path: str | Path | None = None
    manifest_conn_id: str | None = None
    project_name: str | None = None
    dbt_vars: Mapping[str, Any] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict)
    install_dbt_deps: bool = False
    partial_parse: bool = True

    def __post_init__(self) -> None:
        for name in ("install_dbt_deps", "partial_parse"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"ProjectConfig({name}={getattr(self, name)!r}) is neither True nor False.")

    @property
    def project_dir(self) -> Path:
        """The project's folder.

        :raises ConfigError: it is not given.
        """
        if self.dbt_project_path is None:
            raise ConfigError("Where is the dbt project? Give ProjectConfig(dbt_project_path='...'), the folder of dbt_project.yml.")
        return Path(self.dbt_project_path).expanduser()

    def names_profile(self, name: str) -> bool:
        """Whether ``dbt_project.yml``, here and now, names this profile."""
        try:
            content = yaml.safe_load((self.project_dir / "dbt_project.yml").read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return False  # dbt says what is wrong with it
        return isinstance(content, dict) and content.get("profile") == name

    def check(self) -> None:
        """Raise :class:`ConfigError` for a folder that is there but is no dbt project.

        A folder that is absent is no error here: the project may live only where dbt runs.
        """
        if self.project_dir.is_dir() and not (self.project_dir / "dbt_project.yml").is_file():
            raise ConfigError(
                f"{self.project_dir} is not a dbt project: it has no dbt_project.yml. Correct ProjectConfig(dbt_project_path=...)."
            )
        if self.manifest_conn_id is not None and self.manifest_path is None:
            raise ConfigError("ProjectConfig(manifest_conn_id=...) is for manifest_path='...'; give that, or leave it out.")


@names_checked(_PROFILE_INSTEAD)
@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileConfig:
    """The dbt profile: which entry of which ``profiles.yml``, or of which Airflow connection.

    :param profile_name: entry of profiles.yml.
    :param target_name: output of that entry; the entry's own ``target`` if not given.
    :param profiles_yml_filepath: the file; dbt looks in the project and in ``~/.dbt`` if not given.
    :param profile_mapping: makes the profile of an Airflow connection, where dbt is started (:mod:`ledger_watcher_airflow.profiles`, or an object of
        astronomer-cosmos).
    :raises ConfigError: both of them, or what is no mapping.
    """

    profile_name: str
    target_name: str | None = None
    profiles_yml_filepath: str | Path | None = None
    profile_mapping: ProfileMapping | None = None

    def __post_init__(self) -> None:
        if self.profile_mapping is not None:
            if self.profiles_yml_filepath is not None:
                raise ConfigError(
                    "ProfileConfig(profiles_yml_filepath=..., profile_mapping=...): each of them is a profile; leave one of them out."
                )
            check_mapping(self.profile_mapping)

    @property
    def file(self) -> Path | None:
        """The profiles file."""
        return Path(self.profiles_yml_filepath).expanduser() if self.profiles_yml_filepath else None

    def flags(self, *, named: bool = True) -> tuple[str, ...]:
        """The dbt flags that choose the profile; not ``named``: for a project that names it itself."""
        folder = ("--profiles-dir", str(self.file.parent)) if self.file else ()
        name = ("--profile", self.profile_name) if named else ()
        target = ("--target", self.target_name) if self.target_name else ()
        return (*folder, *name, *target)

    def check(self, *, elsewhere: bool = False) -> None:
        """Raise :class:`ConfigError` if the file is not named profiles.yml, cannot be read, or lacks the profile or target.

        ``elsewhere``: dbt runs on another host, so that it is no error if the file is not here.
        """
        file = self.file
        if file is None or (elsewhere and file.name == "profiles.yml" and not file.exists()):
            return
        if file.name != "profiles.yml":
            raise ConfigError(f"ProfileConfig(profiles_yml_filepath={str(file)!r}): dbt reads a file named profiles.yml only; rename it.")
        try:
            content = yaml.safe_load(file.read_text())
        except OSError as error:
            raise ConfigError(f"{file} cannot be read ({error}); correct ProfileConfig(profiles_yml_filepath=...).") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not valid YAML: {error}. Correct it; `dbt debug` shows what dbt makes of it.") from error
        profiles = {name: value for name, value in content.items() if name != "config"} if isinstance(content, dict) else {}
        if self.profile_name not in profiles:
            raise ConfigError(f"{file} has no profile {self.profile_name!r}; it has {', '.join(sorted(map(str, profiles))) or 'none'}.")
        profile = profiles[self.profile_name]
        outputs = (profile.get("outputs") if isinstance(profile, dict) else None) or {}
        if self.target_name and self.target_name not in outputs:
            raise ConfigError(
                f"Profile {self.profile_name!r} in {file} has no target {self.target_name!r}; it has {', '.join(sorted(map(str, outputs))) or 'none'}."
            )
