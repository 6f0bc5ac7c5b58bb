"""Virtual environments by their requirements: made once, kept, shared by all tasks of a host that want the same."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger_watcher.errors import ConfigError, LedgerWatcherError

_READY = "ledger-watcher-ready.json"


class BuildFailed(LedgerWatcherError):
    """The environment could not be made: a wrong requirement, or an index that is away. Trying again may help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenvSpec:
    """An environment: what is in it, and the Python that it is made with (this one, unless given).

    :param requirements: as pip takes them.
    :param install_options: options of ``pip install`` and ``uv pip install``, such as ``["--index-url", "..."]``.
    """

    requirements: tuple[str, ...]
    system_site_packages: bool = False
    install_options: tuple[str, ...] = ()
    python: str = sys.executable

    @classmethod
    def of(cls, requirements: Sequence[str], *, system_site_packages: bool, install_options: Sequence[str]) -> VenvSpec:
        """What the arguments ``py_requirements``, ``py_system_site_packages`` and ``pip_install_options`` of an operator say.

        :raises ConfigError: no requirements, or a string instead of a list.
        """
        for name, value in (("py_requirements", requirements), ("pip_install_options", install_options)):
            if isinstance(value, str):
                raise ConfigError(f"{name} is a string; write a list: {name}=[...].")
        if not requirements:
            raise ConfigError("py_requirements is empty; name what the virtual environment needs: ['dbt-core<1.12', 'dbt-duckdb'].")
        return cls(requirements=tuple(requirements), system_site_packages=system_site_packages, install_options=tuple(install_options))

    def digest(self) -> str:
        """Same environment, same 32 hex digits. The order of requirements has no meaning."""
        known = [sorted(set(self.requirements)), self.system_site_packages, list(self.install_options), self.python, sys.version]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]


def default_folder() -> Path:
    """Where environments are kept if nobody says where."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "ledger_watcher" / "venvs"


def dbt_of(spec: VenvSpec, folder: str | Path | None, say: Callable[[str], None]) -> str:
    """The dbt of the environment, which is made if it is not there.

    :param folder: where it is kept; :func:`default_folder` if not given.
    :raises LedgerWatcherError: it cannot be made, or has no dbt.
    """
    dbt = ready_venv(spec, Path(folder).expanduser() if folder else default_folder(), say) / "bin" / "dbt"
    if not dbt.exists():
        raise ConfigError(f"py_requirements={list(spec.requirements)} install no dbt; add dbt-core and an adapter.")
    return str(dbt)


def ready_venv(spec: VenvSpec, folder: Path, say: Callable[[str], None]) -> Path:
    """The environment of ``spec`` below ``folder``, made if it is not there.

    Of several that want it at once, in any process of this host, one makes it and the others wait. It counts as made when its last file is
    written: what somebody left unfinished is made anew.

    :param say: takes what happens, line by line.
    :raises BuildFailed: it cannot be made; the message has the end of the installer's output.
    :raises ConfigError: ``folder`` cannot be written.
    """
    venv = folder.absolute() / spec.digest()
    if (venv / _READY).exists():
        return venv
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = venv.with_suffix(".lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"The virtual environment cannot be made in {folder}: {error}. Give a folder that the worker can write."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system gives it up when its holder dies
        if not (venv / _READY).exists():
            shutil.rmtree(venv, ignore_errors=True)
            _make(spec, venv, say)
            (venv / _READY).write_text(json.dumps({"requirements": spec.requirements, "python": sys.version}))
    return venv


def _make(spec: VenvSpec, venv: Path, say: Callable[[str], None]) -> None:
    site = ["--system-site-packages"] if spec.system_site_packages else []
    uv = shutil.which("uv")
    if uv:
        create = [uv, "venv", *site, "--python", spec.python, str(venv)]
        install = [uv, "pip", "install", "--python", str(venv / "bin" / "python")]
    else:
        create = [spec.python, "-m", "venv", *site, str(venv)]
        install = [str(venv / "bin" / "python"), "-m", "pip", "install"]
    say(f"Making the virtual environment {venv} with {'uv' if uv else 'venv and pip'}")
    for command in (create, [*install, *spec.install_options, *spec.requirements]):
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        for line in (done.stdout + done.stderr).splitlines():
            say(line)
        if done.returncode:
            raise BuildFailed(
                f"The virtual environment of {', '.join(spec.requirements)} could not be made: {_end(done.stderr or done.stdout)} "
                "Correct py_requirements, or see whether the package index can be reached from the worker."
            )


def _end(output: str) -> str:
    return output.strip()[-2000:] or "the installer said nothing."
