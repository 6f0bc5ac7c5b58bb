"""One dbt command in a task of its own: what all operators of the table have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from ledger_watcher.errors import ConfigError, LedgerWatcherError
from ledger_watcher_airflow.callbacks import Callbacks, checked, tell_of_artifacts, tell_of_warnings, warnings_among
from ledger_watcher_airflow.commands import SELECTION, Command
from ledger_watcher_airflow.compat import AirflowException, AirflowFailException, AirflowSkipException
from ledger_watcher_airflow.config import ExecutionConfig, ExecutionMode, InvocationMode, ProfileConfig, ProjectConfig
from ledger_watcher_airflow.flags import DbtCall, DbtFlags
from ledger_watcher_airflow.late import wait_for_late
from ledger_watcher_airflow.producers.venvs import VenvSpec, dbt_of
from ledger_watcher_airflow.profiles.placed import placed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ledger_watcher.capture.bare import BareResult, BareRun
    from ledger_watcher.capture.request import CaptureRequest

_NAMED = 5


class DbtLocalBaseOperator(BaseOperator):
    """Runs its dbt command on the worker. It fails when dbt does, with dbt's own words.

    The other arguments are the flags of :class:`~ledger_watcher_airflow.flags.DbtFlags` that the command has, and those of Airflow.

    :param profile_config: the profile.
    :param project_dir: folder of ``dbt_project.yml``; or ``project_config``, which also has variables and an environment.
    :param invocation_mode: ``DBT_RUNNER`` where dbt can be imported, ``SUBPROCESS`` where it cannot or an executable is given.
    :param dbt_executable_path: the dbt to run.
    :param nodes: unique_ids: exactly these are built or tested, instead of a selection. Several such tasks may run at once on one project:
        they leave no manifest.json and run_results.json in its target folder. Of sources, their freshness is checked, and if they are stale
        and nothing else is wrong, the task is skipped.
    :param macro_name: what ``dbt run-operation`` runs, with the keyword arguments ``args``, whose values are templates.
    :param callback: function, or list of them, that is called when dbt has ended, however it ended, with a folder that looks like the
        project's and whose ``target`` has the artifacts of this run, with ``callback_args``, and with the keyword ``context`` if it takes it. The
        folder is gone afterwards. An error in it fails the task.
    :param on_warning_callback: called with the context and, in it, ``test_names`` and ``test_results`` (messages) of the nodes that warned.
    :raises ConfigError: arguments that are wrong, or that the command does not have.
    """

    command: ClassVar[Command]
    mode: ClassVar[ExecutionMode] = ExecutionMode.LOCAL
    ui_color = "#eef2f5"

    def __init__(  # noqa: PLR0913 - Airflow applies a DAG's default_args by name
        self,
        *,
        profile_config: ProfileConfig,
        project_dir: str | Path | None = None,
        project_config: ProjectConfig | None = None,
        invocation_mode: InvocationMode | None = None,
        dbt_executable_path: str | Path | None = None,
        virtualenv_dir: str | Path | None = None,
        nodes: Sequence[str] = (),
        macro_name: str | None = None,
        args: Mapping[str, Any] | None = None,
        callback: Callbacks = None,
        callback_args: Mapping[str, Any] | None = None,
        on_warning_callback: Callbacks = None,
        **kwargs: Any,
    ) -> None:
        flags, kwargs = DbtFlags.split(kwargs)
        super().__init__(**kwargs)
        self.execution_config = ExecutionConfig(
            execution_mode=self.mode,
            invocation_mode=invocation_mode,
            dbt_executable_path=dbt_executable_path,
            virtualenv_dir=virtualenv_dir,
        )
        self.call = DbtCall(
            project=_project(project_dir, project_config),
            profile=profile_config,
            flags=flags,
            command=self.command,
            macro=macro_name,
            args=args or {},
        )
        wait_for_late(self, self.call.templates.values())
        self.nodes = tuple(nodes)
        self._callbacks = checked("callback", callback)
        self._callback_args = dict(callback_args or {})
        self._warning_callbacks = checked("on_warning_callback", on_warning_callback)
        self._check()
        self._dbt: BareRun | None = None
        self._killed = False

    def _check(self) -> None:
        call, selecting = self.call, self.call.flags.given(SELECTION)
        if not self.nodes:  # a DAG of a project has looked, once for all its tasks
            call.profile.check(elsewhere=not call.project.project_dir.is_dir())
        if self.nodes and selecting:
            raise ConfigError(f"nodes=... together with {selecting[0]}: the task builds exactly its nodes; leave one of them out.")
        if self.nodes and not self.command.narrowable:
            raise ConfigError(f"nodes=...: `{self.command}` cannot be told so; write select=[...].")
        if self.command.macro != bool(call.macro) or (call.args and not self.command.macro):
            raise ConfigError("macro_name='...' is what `dbt run-operation` runs, with args={...}; no other command has them.")
        if self._warning_callbacks and not self.command.warns:
            raise ConfigError(f"on_warning_callback: nothing warns in `{self.command}`; leave it out.")

    def execute(self, context: Context) -> None:
        """Run dbt."""
        from ledger_watcher.capture.bare import BareRun  # noqa: PLC0415 - a DAG file's parse needs none of it

        try:
            call = self.call.rendered(lambda values: self.render_template(values, context, self.get_template_env()))
            with placed(call) as call, BareRun(self._request(call), shared=bool(self.nodes)) as self._dbt:
                if self._killed:
                    self._dbt.interrupt()
                result = self._dbt.run()
                try:
                    tell_of_artifacts(self._callbacks, self._dbt.project, self._callback_args, context)
                finally:  # what dbt did weighs more than an error in a callback
                    self._judge(result)
                self.after(self._dbt.artifacts)
        except ConfigError as error:  # the same again would end the same way
            raise AirflowFailException(str(error)) from error
        except LedgerWatcherError as error:
            raise AirflowException(str(error)) from error
        finally:
            for problem in self._dbt.problems if self._dbt is not None else ():
                self.log.warning("%s", problem)
        warnings = warnings_among(result.nodes.values())
        if warnings:
            tell_of_warnings(self._warning_callbacks, context, warnings, self.log)

    def after(self, artifacts: Path) -> None:
        """What is to be done when dbt has succeeded, with the folder of its artifacts."""

    def on_kill(self) -> None:
        """Interrupt dbt, so that it cancels its queries. Airflow waits 5 s before it kills."""
        self._killed = True
        if self._dbt is not None:
            self._dbt.interrupt()

    def executable(self) -> str:
        """The dbt to run; asked on the worker.

        :raises LedgerWatcherError: it cannot be had.
        """
        return self.execution_config.executable()

    def _request(self, call: DbtCall) -> CaptureRequest:
        from ledger_watcher.capture.request import CaptureRequest  # noqa: PLC0415
        from ledger_watcher.deps import install_deps_once  # noqa: PLC0415

        request = CaptureRequest(
            command=call.argv(self.executable()),
            in_process=self.execution_config.runs_in_process(),
            project_dir=call.project.project_dir,
            env=call.env,
            redact_env=call.secret_env,
            only=frozenset(self.nodes) or None,
        )
        if self.nodes:
            self.log.info("%s for %s", self.command, ", ".join(self.nodes))
        if call.flags.install_deps:
            code = install_deps_once(request, self.log.info)
            if code:
                raise AirflowException(f"`dbt deps` ended with exit code {code}; its output is above. {self.command} was not started.")
        return request

    def _judge(self, result: BareResult) -> None:
        missing = sorted(set(self.nodes) - set(result.nodes))
        if self.nodes and result.stale and not missing:
            raise AirflowSkipException(result.error)
        if not result.ok:
            raise AirflowException(f"`{self.command}` failed (exit code {result.exit_code}): {result.error or 'its output is above.'}")
        if missing:
            raise AirflowException(
                f"`{self.command}` ended without a word about {', '.join(missing[:_NAMED])}: dbt's project does not have it. The DAG was drawn from "
                "another version of the project than dbt runs; deploy the same version to both."
            )


class DbtVirtualenvBaseOperator(DbtLocalBaseOperator):
    """The same with the dbt of a virtual environment, which the worker makes (with uv if it is on PATH, else with venv and pip) and keeps.

    :param py_requirements: what to install: dbt-core and an adapter.
    :param py_system_site_packages: let it see the packages of the worker's Python.
    :param pip_install_options: options of the installation, such as ``["--index-url", "..."]``.
    :param virtualenv_dir: where environments are kept; in the cache folder of the worker's user if not given.
    :raises ConfigError: no requirements, or an executable.
    """

    mode: ClassVar[ExecutionMode] = ExecutionMode.VIRTUALENV

    def __init__(
        self,
        *,
        py_requirements: Sequence[str],
        py_system_site_packages: bool = False,
        pip_install_options: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.spec = VenvSpec.of(py_requirements, system_site_packages=py_system_site_packages, install_options=pip_install_options)

    def executable(self) -> str:
        """The dbt of the environment, which is made if it is not there.

        :raises LedgerWatcherError: it cannot be made, or has no dbt.
        """
        return dbt_of(self.spec, self.execution_config.virtualenv_dir, self.log.info)


def _project(folder: str | Path | None, config: ProjectConfig | None) -> ProjectConfig:
    if (folder is None) == (config is None):
        raise ConfigError("Give project_dir='...', the folder of dbt_project.yml, or project_config=ProjectConfig(...); one of them.")
    if config is not None:
        return config
    project = ProjectConfig(dbt_project_path=folder or "")
    if project.project_dir.is_dir():  # else it is only where the worker is
        project.check()
    return project
