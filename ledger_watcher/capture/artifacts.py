"""The folder that dbt writes its artifacts to: a fresh one per attempt, and the user's own afterwards.

run_results.json is written once, at the end: after a crash the one of the run before is still there. So dbt gets an empty folder through
``DBT_TARGET_PATH``, and what it wrote is then moved to where plain dbt would have written it. Partial parsing goes on working: dbt
(1.8 to 1.12, parser/manifest.py) reads partial_parse.msgpack from ``DBT_PARTIAL_PARSE_FILE_PATH``, if that is said (the file must
exist, or dbt refuses to start), and writes it into the target folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ledger_watcher import codec
from ledger_watcher.capture.argv import BUILDING, DbtCommand
from ledger_watcher.capture.redact import Masker
from ledger_watcher.capture.workspace import Workspace
from ledger_watcher.errors import ConfigError
from ledger_watcher.project.edges import parents_of
from ledger_watcher.project.fingerprint import top_level

STORED = ("run_results.json", "manifest.json", "sources.json")
"""The artifacts that are stored beside the ledger."""

_PROJECT_FILE = "dbt_project.yml"
_PARTIAL_PARSE = "partial_parse.msgpack"
_WITH_PATHS = frozenset({"manifest.json", "run_results.json"})


@dataclass(frozen=True, slots=True)
class Project:
    """A dbt project's folder, its name, ``target-path`` and ``packages-install-path`` as configured, read without a YAML library."""

    folder: Path
    name: str | None = None
    target_path: str | None = None
    packages_path: str | None = None

    @classmethod
    def of(cls, command: DbtCommand, env: Mapping[str, str], cwd: Path, *, upwards: bool = True) -> Project:
        """The project that dbt works on when started in ``cwd``: ``--project-dir``, ``DBT_PROJECT_DIR``, else the nearest folder upwards.

        :raises ConfigError: there is no dbt_project.yml.
        """
        said = command.option("--project-dir") or _setting(env, "PROJECT_DIR")
        places = [cwd / (said or ""), *(cwd.parents if upwards and not said else ())]
        folder = next((place for place in places if (place / _PROJECT_FILE).is_file()), None)
        if folder is None:
            where = f"{places[0]} or above it" if len(places) > 1 else str(places[0])
            raise ConfigError(f"There is no {_PROJECT_FILE} in {where}; name the dbt project's folder (--project-dir).")
        text = (folder / _PROJECT_FILE).read_text("utf-8", "replace")
        return cls(folder.resolve(), *(top_level(text, key) for key in ("name", "target-path", "packages-install-path")))


@dataclass(slots=True)
class Target:
    """The target folder of one attempt. ``env`` is what dbt must be given; ``shown`` is how the user's folder is written in artifacts."""

    path: Path
    user: Path
    shown: str
    fresh: bool
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def prepare(cls, command: DbtCommand, project: Project, env: Mapping[str, str], workspace: Workspace) -> Target:
        """A fresh folder in ``workspace``, unless the command names one with ``--target-path`` or writes no artifacts."""
        explicit = command.option("--target-path")
        shown = explicit or _setting(env, "TARGET_PATH") or project.target_path or "target"
        user = project.folder / shown
        if explicit or command.subcommand not in BUILDING or "{{" in shown:
            return cls(user, user, shown, fresh=False)
        path = workspace.folder("target")
        ours = {"DBT_TARGET_PATH": str(path)}
        partial = user / _PARTIAL_PARSE
        if partial.is_file() and not _setting(env, "PARTIAL_PARSE_FILE_PATH") and not command.option("--partial-parse-file-path"):
            ours["DBT_PARTIAL_PARSE_FILE_PATH"] = str(partial)
        if command.subcommand == "retry" and not command.option("--state") and not _setting(env, "STATE"):
            ours["DBT_STATE"] = str(user)  # dbt retry reads the results of the run before from the target folder
        if "DBT_ENGINE_TARGET_PATH" in env:
            ours["DBT_ENGINE_TARGET_PATH"] = str(path)  # dbt 1.11+ prefers the longer name
        return cls(path, user, shown, fresh=True, env=ours)

    def folders(self, project: Project) -> list[tuple[str, str]]:
        """Texts to replace so that paths name the user's folder: core writes absolute ones, Fusion relative ones (which end like those)."""
        if not self.fresh:
            return []
        return [(os.path.relpath(self.path, project.folder), self.shown), (str(self.path), self.shown)]

    def read(self, name: str) -> bytes | None:
        """An artifact, ``None`` if there is none or it cannot be read."""
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return None

    def parents(self) -> Mapping[str, Sequence[str]]:
        """unique_id -> what it depends on, from manifest.json; empty if dbt has not written it (yet)."""
        data = self.read("manifest.json")
        return parents_of(codec.loads(data)) if data else {}

    def written(self, *invocation_ids: str | None) -> dict[str, bytes]:
        """The artifacts that these invocations wrote: in a folder that was there before, those of another run may still lie around."""
        found = {name: data for name in STORED if (data := self.read(name)) is not None}
        ours = {invocation_id or "" for invocation_id in invocation_ids}
        return found if self.fresh else {name: data for name, data in found.items() if _invocation(data) in ours}

    def name_paths(self, masker: Masker) -> None:
        """Write the paths of the user's folder into the artifacts that have some, where they are."""
        for name in _WITH_PATHS if self.fresh else ():
            if (data := self.read(name)) is not None:
                (self.path / name).write_bytes(masker.paths(data))

    def put_back(self, masker: Masker, *, without: frozenset[str] = frozenset()) -> list[str]:
        """Move what dbt wrote into the user's target folder, each file atomically. Returns what went wrong.

        :param without: names of artifacts that are not put there.
        """
        problems: list[str] = []
        for file in sorted(self.path.rglob("*")) if self.fresh else ():
            if not file.is_file() or (file.parent == self.path and file.name in without):
                continue
            place = self.user / file.relative_to(self.path)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                if file.name in _WITH_PATHS:
                    file.write_bytes(masker.paths(file.read_bytes()))
                _move(file, place)
            except OSError as error:
                problems.append(f"dbt's artifacts could not be put into {self.user}: {error}")
                break
        return problems


def _invocation(data: bytes) -> str | None:
    try:
        found = codec.loads(data)
        return str(found["metadata"]["invocation_id"])
    except (ValueError, KeyError, TypeError):
        return None


def _move(file: Path, place: Path) -> None:
    """``os.replace`` works within one file system; across two, a copy beside the target is what can be renamed."""
    try:
        file.replace(place)
    except OSError:
        copy = place.with_name(f".{place.name[:100]}.{os.getpid()}.tmp")
        try:
            shutil.copyfile(file, copy)
            copy.replace(place)
        finally:
            with suppress(OSError):
                copy.unlink()


def _setting(env: Mapping[str, str], name: str) -> str | None:
    return env.get(f"DBT_ENGINE_{name}") or env.get(f"DBT_{name}")
