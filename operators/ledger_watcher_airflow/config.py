"""Configuration, in the classes and under the names that users of astronomer-cosmos know. Checked when a DAG file is parsed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import SourceRenderingBehavior, TestBehavior
from ledger_watcher.storage import check_scheme, split_uri
from ledger_watcher_airflow.ledger import DEFAULT_DEPLOYMENT, LedgerRef
from ledger_watcher_airflow.profiles.surface import ProfileMapping, check_mapping

_ONE_RUN = frozenset({"ledger_uri", "ledger_conn_id", "producer", "producer_retry_on", "source_freshness_skip", "poll_interval"})
"""Of an :class:`ExecutionConfig`, what is said of one run of dbt that all tasks mirror."""


class ExecutionMode(str, Enum):
    """How dbt is run."""

    WATCHER = "watcher"
    """dbt runs once; one task per node mirrors the ledger."""
    WATCHER_VIRTUALENV = "watcher_virtualenv"
    """The same, with the dbt of a virtual environment that the worker makes from ``operator_args={"py_requirements": [...]}``."""
    LOCAL = "local"
    """One task per node, each of which runs dbt for its node, on a worker. There is no producer and no ledger."""
    VIRTUALENV = "virtualenv"
    """The same, with the dbt of a virtual environment."""

    @property
    def node_by_node(self) -> bool:
        """Each task runs dbt itself."""
        return self in (ExecutionMode.LOCAL, ExecutionMode.VIRTUALENV)

    @property
    def in_virtualenv(self) -> bool:
        """The worker makes the environment of dbt."""
        return self in (ExecutionMode.WATCHER_VIRTUALENV, ExecutionMode.VIRTUALENV)


class ProducerRetryOn(str, Enum):
    """What the producer's retries are for."""

    UNFINISHED = "unfinished"
    NODE_ERRORS = "node_errors"


class InvocationMode(str, Enum):
    """How dbt is started."""

    DBT_RUNNER = "dbt_runner"
    """In the process of the task that runs dbt, where dbt is installed together with Airflow."""
    SUBPROCESS = "subprocess"
    """Any dbt executable: another virtualenv, dbt Fusion."""


class AssetMode(str, Enum):
    """Which task tells Airflow of what dbt built."""

    PER_RUN = "per_run"
    """One task at the end, ``dbt_assets``: one worker for the run."""
    PER_NODE = "per_node"
    """Each node's own task, which then ends on a worker and has its asset as an outlet in Airflow's graph of assets."""


class LoadMode(str, Enum):
    """Where the nodes of the DAG come from."""

    AUTOMATIC = "automatic"
    DBT_MANIFEST = "dbt_manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectConfig:
    """The dbt project.

    :param dbt_project_path: folder of ``dbt_project.yml``, where dbt runs.
    :param manifest_path: the manifest that the DAG is drawn from; ``target/manifest.json`` of the project if not given.
    :param project_name: what to call the project where it has to have a name; from the manifest if not given.
    :param dbt_vars: ``--vars`` of every dbt command.
    :param env_vars: environment variables for dbt.
    """

    dbt_project_path: str | Path = field(kw_only=False)
    manifest_path: str | Path | None = None
    project_name: str | None = None
    dbt_vars: Mapping[str, Any] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict)

    @property
    def project_dir(self) -> Path:
        """The project's folder."""
        return Path(self.dbt_project_path).expanduser()

    @property
    def manifest(self) -> Path:
        """The manifest's path."""
        return Path(self.manifest_path).expanduser() if self.manifest_path else self.project_dir / "target" / "manifest.json"

    def check(self) -> None:
        """Raise :class:`ConfigError` for a folder that is there but is no dbt project.

        A folder that is absent is no error here: the project may live only where the producer runs.
        """
        if self.project_dir.is_dir() and not (self.project_dir / "dbt_project.yml").is_file():
            raise ConfigError(
                f"{self.project_dir} is not a dbt project: it has no dbt_project.yml. Correct ProjectConfig(dbt_project_path=...)."
            )
        if not self.project_dir.is_dir() and not self.manifest_path:
            raise ConfigError(
                f"There is no dbt project at {self.project_dir}. Correct ProjectConfig(dbt_project_path=...), or, if the project is only where the "
                "producer runs, give ProjectConfig(manifest_path=...) as well."
            )


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

    @property
    def flags(self) -> tuple[str, ...]:
        """The dbt flags that choose the profile."""
        folder = ("--profiles-dir", str(self.file.parent)) if self.file else ()
        target = ("--target", self.target_name) if self.target_name else ()
        return (*folder, "--profile", self.profile_name, *target)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionConfig:
    """How and where dbt runs, and where the ledger lies.

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

    def __post_init__(self) -> None:
        _take_member(self, "execution_mode", ExecutionMode)
        _take_member(self, "producer_retry_on", ProducerRetryOn)
        if self.invocation_mode is not None:
            _take_member(self, "invocation_mode", InvocationMode)
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
        from airflow.sdk.configuration import conf  # noqa: PLC0415

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


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderConfig:
    """How the project becomes tasks.

    :param load_method: ``DBT_MANIFEST``, which is also what ``AUTOMATIC`` means.
    :param test_behavior: where tests show, see :class:`TestBehavior`.
    :param should_detach_multiple_parents_tests: ``True``: a test of several nodes is a task of its own. ``False``: it counts for each of them, in a
        task ``<node>.shared_test`` that holds up nobody; one that dbt lets nodes wait for is a task of its own, too.
    :param emit_datasets: tell Airflow of each model, seed and snapshot that was built, see :func:`~ledger_watcher_airflow.assets.dbt_asset`.
    :param asset_mode: which task does that.
    :param source_rendering_behavior: which sources show, see :class:`SourceRenderingBehavior`. If any do, ``dbt source freshness`` runs before
        the build, and nodes with no other sources than stale ones are skipped.
    """

    load_method: LoadMode = LoadMode.AUTOMATIC
    test_behavior: TestBehavior = TestBehavior.AFTER_EACH
    should_detach_multiple_parents_tests: bool = True
    emit_datasets: bool = True
    asset_mode: AssetMode = AssetMode.PER_RUN
    source_rendering_behavior: SourceRenderingBehavior = SourceRenderingBehavior.NONE

    def __post_init__(self) -> None:
        _take_member(self, "load_method", LoadMode)
        _take_member(self, "test_behavior", TestBehavior)
        _take_member(self, "asset_mode", AssetMode)
        for name in ("should_detach_multiple_parents_tests", "emit_datasets"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"RenderConfig({name}={getattr(self, name)!r}) is neither True nor False.")
        if self.asset_mode is AssetMode.PER_NODE and not self.emit_datasets:
            raise ConfigError(
                "RenderConfig(asset_mode=AssetMode.PER_NODE) emits asset events, emit_datasets=False says not to; leave one out."
            )
        _take_member(self, "source_rendering_behavior", SourceRenderingBehavior)


def _take_member(config: object, name: str, choices: type[Enum]) -> None:
    """Accept a member's value for the member: compared as it is, a word would silently mean something else."""
    value = getattr(config, name)
    try:
        object.__setattr__(config, name, choices(value))
    except ValueError as error:
        known = ", ".join(f"{choices.__name__}.{member.name}" for member in choices)
        raise ConfigError(f"{type(config).__name__}({name}={value!r}) is not known here; choose one of {known}.") from error


def _dbt_is_importable() -> bool:
    try:
        return importlib.util.find_spec("dbt.cli") is not None
    except ModuleNotFoundError:
        return False
