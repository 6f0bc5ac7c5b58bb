"""The producer with a dbt of its own, in a virtual environment that the worker makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger_watcher_airflow.producer import DbtProducerWatcherOperator
from ledger_watcher_airflow.producers.venvs import VenvSpec, dbt_of


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
        self.spec = VenvSpec.of(py_requirements, system_site_packages=py_system_site_packages, install_options=pip_install_options)

    def executable(self) -> str:
        """The dbt of the environment, which is made if it is not there.

        :raises LedgerWatcherError: it cannot be made, or has no dbt.
        """
        return dbt_of(self.spec, self.execution_config.virtualenv_dir, self.log.info)

    def runs_in_process(self) -> bool:
        """Never: this task's own Python is not the one of the environment."""
        return False
