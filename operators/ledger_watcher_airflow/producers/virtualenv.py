"""The producer with a dbt of its own, in a virtual environment that the worker makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow.producer import DbtProducerWatcherOperator
from ledger_watcher_airflow.producers.venvs import VenvSpec, default_folder, ready_venv


class DbtProducerWatcherVirtualenvOperator(DbtProducerWatcherOperator):
    """Makes a virtual environment (with uv if it is on PATH, else with venv and pip), keeps it, and runs the dbt in it.

    :param py_requirements: what to install: dbt-core and an adapter. This package need not be among them.
    :param py_system_site_packages: let it see the packages of the worker's Python.
    :param pip_install_options: options of the installation, such as ``["--index-url", "..."]``.
    :param kwargs: those of :class:`DbtProducerWatcherOperator`; ``ExecutionConfig(virtualenv_dir=...)`` is where environments are kept, which
        the worker has to be able to write, in its user's cache folder if not given.
    :raises ConfigError: no requirements.
    """

    def __init__(
        self,
        *,
        py_requirements: Sequence[str],
        py_system_site_packages: bool = False,
        pip_install_options: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("py_requirements", py_requirements), ("pip_install_options", pip_install_options)):
            if isinstance(value, str):
                raise ConfigError(f"{name} is a string; write a list: {name}=[...].")
        if not py_requirements:
            raise ConfigError("py_requirements is empty; name what the virtual environment needs: ['dbt-core<1.12', 'dbt-duckdb'].")
        self.spec = VenvSpec(
            requirements=tuple(py_requirements),
            system_site_packages=py_system_site_packages,
            install_options=tuple(pip_install_options),
        )

    def executable(self) -> str:
        """The dbt of the environment, which is made if it is not there.

        :raises LedgerWatcherError: it cannot be made, or has no dbt.
        """
        folder = self.execution_config.virtualenv_dir
        venv = ready_venv(self.spec, Path(folder).expanduser() if folder else default_folder(), self.log.info)
        dbt = venv / "bin" / "dbt"
        if not dbt.exists():
            raise ConfigError(f"py_requirements={list(self.spec.requirements)} install no dbt; add dbt-core and an adapter.")
        return str(dbt)

    def runs_in_process(self) -> bool:
        """Never: this task's own Python is not the one of the environment."""
        return False
