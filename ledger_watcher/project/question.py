"""Which nodes does this command select? What dbt is asked, and where its answer is kept; asking is :mod:`ledger_watcher.capture.listing`'s."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ledger_watcher import __version__
from ledger_watcher.errors import ConfigError
from ledger_watcher.project.cache import Cache, named
from ledger_watcher.project.fingerprint import dbt_identity, file_hash, project_hash
from ledger_watcher.project.plan import FORMAT, pack_plan, unpack_plan
from ledger_watcher.project.selection import Selection
from ledger_watcher.project.view import NODE_FIELDS, ProjectView

_STATE_FLAGS = ("--state", "--defer-state")
_SECRET = "DBT_ENV_SECRET"  # noqa: S105 - a prefix: such variables cannot be read but in a profile and in packages.yml


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a command of dbt selects, in a project.

    ``command`` begins with the executable, unless ``in_process``: the dbt of this Python, as a process. ``selection`` is what of it selects. ``env`` is
    added to the environment. The answer depends on ``files`` (profiles.yml) and on ``also``, too. ``deps``: the packages are installed before.
    """

    command: tuple[str, ...]
    project_dir: Path
    selection: Selection = field(default_factory=Selection)
    in_process: bool = False
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: tuple[Path, ...] = ()
    also: tuple[str, ...] = ()
    deps: bool = False

    def known(self, cache: Cache) -> ProjectView | None:
        """dbt's answer, if it is known: that of this very dbt, or, where there is none, of any.

        :raises ConfigError: the project cannot be read.
        """
        name = self._names(cache)[0]
        data = cache.get(name)
        if data is None:
            return None
        with suppress(ConfigError):  # corrupt
            return unpack_plan(data, name)
        return None

    def keep(self, cache: Cache, view: ProjectView) -> None:
        """Keep the answer, for those without dbt, too."""
        data = pack_plan(view)
        for name in self._names(cache):
            cache.put(name, data)

    def executable(self) -> str | None:
        """The path of dbt; ``None`` if it is not here."""
        path = {**os.environ, **self.env}.get("PATH")
        return shutil.which(self.command[0], path=path) or shutil.which(str(self.project_dir / self.command[0]))

    def _names(self, cache: Cache) -> list[str]:
        try:
            files = project_hash(self.project_dir, cache)
        except OSError as error:
            raise ConfigError(
                f"The dbt project {self.project_dir} cannot be read: {error}. Correct its path or its permissions."
            ) from error
        env = {**os.environ, **self.env}
        told = sorted(f"{key}={value}" for key, value in env.items() if key in self.env or key.startswith("DBT_"))
        about = [
            __version__,
            FORMAT,
            *NODE_FIELDS,
            files,
            *(word.replace(str(self.project_dir), ".") for word in self.command[1:]),
            *(line for line in told if not line.startswith(_SECRET)),
            *(file_hash(file) for file in (*self.files, *self._states(env))),
            *self.also,
            self.deps,
        ]
        executable = None if self.in_process else self.executable()
        if not self.in_process and executable is None:
            return [named("plan", *about)]
        return [named("plan", *about, dbt_identity(executable)), named("plan", *about)]

    def _states(self, env: Mapping[str, str]) -> list[Path]:
        """The folders with which the project is compared."""
        said = [env[name] for name in ("DBT_STATE", "DBT_ENGINE_STATE", "DBT_DEFER_STATE") if env.get(name)]
        for i, word in enumerate(self.command):
            flag, sign, value = word.partition("=")
            if flag in _STATE_FLAGS:
                said += [value] if sign else list(self.command[i + 1 : i + 2])
        return [self.project_dir / folder for folder in said]
