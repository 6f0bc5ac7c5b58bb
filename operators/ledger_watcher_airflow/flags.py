"""What a user may say to dbt, under the names that users of astronomer-cosmos know, and the command line that comes of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ledger_watcher import plain
from ledger_watcher.errors import ConfigError
from ledger_watcher.project import Selection
from ledger_watcher_airflow.commands import BUILD, LIMITED, Command
from ledger_watcher_airflow.config import ProfileConfig, ProjectConfig
from ledger_watcher_airflow.late import is_late, refuse_late

Word = TypeVar("Word")

_LISTS = ("dbt_cmd_flags", "dbt_cmd_global_flags")
_SELECTIONS = ("select", "exclude")
TEMPLATES = ("vars", "env", "select", "exclude", "selector", "target")
"""What a task renders where it runs dbt itself; a producer that is a command renders the first two."""
_PROFILE_VARIABLES = ("DBT_PROFILE", "DBT_ENGINE_PROFILE")
"""By which dbt takes another profile than the project's."""
_BOOLEANS = (
    "full_refresh",
    "fail_fast",
    "warn_error",
    "no_version_check",
    "cache_selected_only",
    "quiet",
    "partial_parse",
    "install_deps",
    "append_env",
    "cancel_query_on_kill",
)
_MEANINGLESS = {
    "models": "dbt calls it select: write select=[...]",
    "db_name": "dbt build has no such option: the database comes from the profile",
    "schema": "dbt build has no such option: the schema comes from the profile (ProfileConfig(target_name=...))",
    "skip_exit_code": "a node that fails never skips the producer, it fails its own task; leave it out",
    "output_encoding": "dbt's events are UTF-8; leave it out",
    "should_store_compiled_sql": "the ledger never holds compiled SQL, it may hold secrets; leave it out",
    "should_upload_compiled_sql": "the ledger never holds compiled SQL, it may hold secrets; leave it out",
    "manifest_filepath": "write ProjectConfig(manifest_path=...)",
    "project_dir": "write ProjectConfig(dbt_project_path=...)",
    "cache_dir": "dbt keeps its own partial parse in the project's target folder; leave it out",
    "invocation_mode": "write ExecutionConfig(invocation_mode=...)",
    "dbt_executable_path": "write ExecutionConfig(dbt_executable_path=...)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DbtFlags:
    """What a user may add to ``dbt build`` and its like.

    The values of ``vars`` and ``env`` are Jinja templates, as operator arguments are; where dbt runs on the worker, so are ``select``, ``exclude``,
    ``selector`` and ``target``, and each of these may be the result of a task or an argument of a mapped task group.

    :param vars: ``--vars``; they win over those of the project configuration (which are no templates).
    :param env: environment variables for dbt, on top of the worker's (or the container's) and of the project configuration's.
    :param select: and ``exclude``, ``selector``: what dbt builds of what is drawn. The tasks of nodes that are left out find no record of theirs;
        ``RenderConfig(select=...)`` does not draw them.
    :param target: output of the profile, instead of ``ProfileConfig.target_name``.
    :param partial_parse: ``False`` makes dbt parse everything anew.
    :param install_deps: run ``dbt deps`` before.
    :param append_env: only ``True``: dbt needs the environment that it is started in.
    :param cancel_query_on_kill: only ``True``: a task that is killed interrupts dbt, which cancels its queries.
    :param dbt_cmd_flags: flags behind the command, as they are.
    :param dbt_cmd_global_flags: flags in front of the command, as they are.
    """

    full_refresh: bool = False
    fail_fast: bool = False
    warn_error: bool = False
    no_version_check: bool = False
    cache_selected_only: bool = False
    quiet: bool = False
    partial_parse: bool = True
    install_deps: bool = False
    threads: int | None = None
    target: str | None = None
    select: str | Sequence[str] = ()
    exclude: str | Sequence[str] = ()
    selector: str | None = None
    indirect_selection: str | None = None
    append_env: bool = True
    cancel_query_on_kill: bool = True
    vars: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    dbt_cmd_flags: Sequence[str] = ()
    dbt_cmd_global_flags: Sequence[str] = ()

    def __post_init__(self) -> None:
        refuse_late("{}", {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in TEMPLATES})
        for name in ("vars", "env"):
            if not isinstance(getattr(self, name), Mapping):
                raise ConfigError(f"{name} is a {type(getattr(self, name)).__name__}; write a dict.")
        for name in _BOOLEANS:
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r} is neither True nor False.")
        self._check_words()
        if self.threads is not None and (isinstance(self.threads, bool) or not isinstance(self.threads, int) or self.threads < 1):
            raise ConfigError(f"threads={self.threads!r} is no number of threads; write threads=8.")
        if self.selector and (self.select or self.exclude):
            raise ConfigError("selector together with select or exclude: dbt would ignore the latter; give one of them.")
        if not self.append_env:
            raise ConfigError("append_env=False: dbt needs the environment that it is started in (PATH, credentials); leave it out.")
        if not self.cancel_query_on_kill:
            raise ConfigError(
                "cancel_query_on_kill=False: a task that is killed always interrupts dbt, which cancels its queries; leave it out."
            )

    def _check_words(self) -> None:
        for name in _LISTS:
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} is a string; write a list with one string per argument: {name}=['--threads', '8'].")
        for name in (*_LISTS, *_SELECTIONS):
            words = getattr(self, name)
            odd = [] if is_late(words) else [word for word in words if not isinstance(word, str)]
            if odd:
                raise ConfigError(f"{name} holds {odd[0]!r}; every argument is a string.")

    def given(self, names: Iterable[str]) -> list[str]:
        """Those of these flags that say something."""
        plain = DbtFlags()
        return sorted(name for name in names if getattr(self, name) != getattr(plain, name) and getattr(self, name) not in ((), [], ""))

    def selecting(self, selection: Selection) -> DbtFlags:
        """The same flags for what was drawn.

        :raises ConfigError: they say something else, too.
        """
        if not selection:
            return self
        odd = self.given((*_SELECTIONS, "selector"))
        if odd:
            raise ConfigError(
                f"operator_args[{odd[0]!r}] together with a selection that is drawn (RenderConfig(select=..., exclude=..., selector=...), a plan, an "
                "output of dbt ls): give one of them. What RenderConfig selects is also what dbt builds."
            )
        options = () if all(word in self.dbt_cmd_flags for word in selection.options) else selection.options
        return replace(
            self,
            select=selection.select,
            exclude=selection.exclude,
            selector=selection.selector,
            dbt_cmd_flags=(*self.dbt_cmd_flags, *options),
        )

    @classmethod
    def split(cls, operator_args: Mapping[str, Any]) -> tuple[DbtFlags, dict[str, Any]]:
        """The flags among a user's ``operator_args``, and the rest, which is Airflow's.

        :raises ConfigError: an argument that has no meaning here, or a wrong value.
        """
        for name, advice in _MEANINGLESS.items():
            if name in operator_args:
                raise ConfigError(f"{name!r} has no meaning here: {advice}.")
        known = cls.__dataclass_fields__
        flags = {name: value for name, value in operator_args.items() if name in known and value is not None}
        return cls(**flags), {name: value for name, value in operator_args.items() if name not in known}


FLAGS = frozenset(DbtFlags.__dataclass_fields__) | _MEANINGLESS.keys()
"""Names that :meth:`DbtFlags.split` takes, or has something to say about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DbtCall:
    """One call of dbt: of which project, with which profile and flags, without which resource types.

    :param command: ``dbt build`` if not given.
    :param tests_last: a build whose tests run when all else is built; whoever starts it sees to that.
    :param exactly: unique_ids that are built, whatever dbt would select; whoever starts it sees to that.
    :param macro: what ``dbt run-operation`` runs, with ``args``, whose values are Jinja templates.
    :param profile_env: environment variables of a profile that was made of a mapping; ``secret_env``, which of them are secret.
    :raises ConfigError: flags that the command does not have, or that contradict the profile.
    """

    project: ProjectConfig
    profile: ProfileConfig
    flags: DbtFlags = field(default_factory=DbtFlags)
    excluded_types: tuple[str, ...] = ()
    tests_last: bool = False
    exactly: tuple[str, ...] = ()
    command: Command = BUILD
    macro: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    profile_env: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_env: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        odd = self.flags.given(LIMITED - self.command.takes)
        if odd:
            raise ConfigError(f"{odd[0]}={getattr(self.flags, odd[0])!r}: `{self.command}` has no such option; leave it out.")
        words = (*self.flags.dbt_cmd_global_flags, *self.flags.dbt_cmd_flags)
        if self.profile.profile_mapping is not None and any(word.partition("=")[0] == "--profiles-dir" for word in words):
            raise ConfigError(
                "--profiles-dir together with ProfileConfig(profile_mapping=...): each of them is a profile; leave one of them out."
            )

    @property
    def templates(self) -> dict[str, Any]:
        """What is rendered when the task runs."""
        given = {name: value for name in TEMPLATES if (value := getattr(self.flags, name))}
        return {**given, **({"args": self.args} if self.args else {})}

    @property
    def env(self) -> dict[str, str]:
        """What is added to the environment."""
        return {**self.project.env_vars, **self.flags.env, **self.profile_env}

    def rendered(self, render: Callable[[dict[str, Any]], Mapping[str, Any]]) -> DbtCall:
        """The same with its templates rendered: late, and not as template fields of the operator, which Airflow stores and shows."""
        if not self.templates:
            return self
        found = dict(render(self.templates))
        return replace(self, args=found.pop("args", self.args), flags=replace(self.flags, **found))

    def argv(self, executable: str) -> tuple[str, ...]:
        """The command line for here, with ``--vars`` as JSON.

        A profile that the project names itself is not named again: dbt would parse everything anew where ``partial_parse.msgpack`` is of a plain
        ``dbt parse`` (``build_manifest_state_check`` in dbt/parser/manifest.py counts the flag, not the profile).
        """
        variables = {**self.project.dbt_vars, **self.flags.vars}
        overruled = any({**os.environ, **self.env}.get(name) for name in _PROFILE_VARIABLES)
        named = overruled or not self.project.names_profile(self.profile.profile_name)
        return self.around(executable, ("--vars", plain.dumps(variables).decode()) if variables else (), named=named)

    def around(self, executable: str, variables: Sequence[Word], *, named: bool = True) -> tuple[str | Word, ...]:
        """The command line with these words as ``--vars``, and the profile ``named`` or left to the project."""
        flags = self.flags
        profile = replace(self.profile, target_name=flags.target) if flags.target else self.profile
        return (
            executable,
            *_switch("--warn-error", on=flags.warn_error),
            *_switch("--no-version-check", on=flags.no_version_check),
            *_switch("--cache-selected-only", on=flags.cache_selected_only),
            *_switch("--quiet", on=flags.quiet),
            *_switch("--no-partial-parse", on=not flags.partial_parse),
            *flags.dbt_cmd_global_flags,
            *self.command.words,
            *((self.macro,) if self.macro else ()),
            "--project-dir",
            str(self.project.project_dir),
            *profile.flags(named=named),
            *variables,
            *(("--args", plain.dumps(self.args).decode()) if self.args else ()),
            *_switch("--full-refresh", on=flags.full_refresh),
            *_switch("--fail-fast", on=flags.fail_fast),
            *_option("--threads", flags.threads),
            *_option("--select", flags.select),
            *_option("--exclude", flags.exclude),
            *_option("--selector", flags.selector),
            *_option("--indirect-selection", flags.indirect_selection),
            *(part for kind in self.excluded_types for part in ("--exclude-resource-type", kind)),
            *flags.dbt_cmd_flags,
        )


def _switch(name: str, *, on: bool) -> tuple[str, ...]:
    return (name,) if on else ()


def _option(name: str, value: str | int | Sequence[str] | None) -> tuple[str, ...]:
    """dbt takes several values as ``--select a b`` and as ``--select a --select b``; the latter is clear whatever follows."""
    values = [str(value)] if isinstance(value, (str, int)) else value or ()
    return tuple(part for one in values if one for part in (name, one))
