"""A dbt command line: where dbt is in it, what it runs, and the same command with events on its standard output.

dbt is given ``--log-format json --log-level debug`` as group options, just before its subcommand: that place is valid for every version,
for Fusion, and behind launchers such as ``uv run``. What the user said about output is taken out and only steers what is forwarded to
the console.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from ledger_watcher.errors import ConfigError

CAPTURE_FLAGS = ("--log-format", "json", "--log-level", "debug")

BUILDING = frozenset(
    {"build", "clone", "compile", "list", "ls", "parse", "retry", "run", "run-operation", "seed", "show", "snapshot", "source", "test"}
)
"""Subcommands that write artifacts about this run, so that they get a target folder of their own."""

NARROWABLE = frozenset({"build", "run", "seed", "snapshot", "test"})
"""Subcommands that build nodes and can be told which."""

SUBCOMMANDS = BUILDING | {"clean", "debug", "deps", "docs", "format", "lint", "sl"}

_PROGRAMS = frozenset({"dbt", "dbt.exe", "dbtf", "dbt.cli.main"})
_LAUNCHERS = re.compile(r"^(?:conda|env|hatch|mamba|micromamba|nice|pdm|pipenv|pixi|poetry|python[\d.]*|rye|uvx?)$")

# Options of dbt 1.8 to 1.12 and Fusion that take a value (click's own list, and `dbt build --help` of Fusion): without them the value in
# `dbt --target test build` would be taken for the subcommand.
_VALUED = frozenset(
    """
    --add-package --args --compute --defer-state --event-time-end --event-time-start --exclude --exclude-resource-type
    --exclude-resource-types --host --indirect-selection --inline --inline-direct --invocation-id --limit --log-file-max-bytes --log-format
    --log-format-file --log-level --log-level-file --log-path --maximum-seed-size-mib --model --models --otel-file-name
    --otel-parquet-file-name --output --output-keys --packages-install-path --parent-span-id --partial-parse-file-path --port
    --printer-width --profile --profiles-dir --project-dir --record-timing-info --resource-type --resource-types --run-cache-mode --sample
    --select --selector --source --sqlparse --state --static-analysis --target --target-path --threads --vars --warn-error-options
    -m -o -r -s -t
    """.split()  # noqa: SIM905 - a line each would fill a page
)
_MANY = frozenset({"--select", "-s", "--model", "--models", "-m", "--exclude"})
"""Options that take every word up to the next option (dbt's MultiOption)."""
_SELECTING = _MANY | {"--selector", "--indirect-selection"}
_LISTING = _SELECTING | frozenset(
    """
    --defer --defer-state --exclude-resource-type --exclude-resource-types --favor-state --no-defer --no-favor-state --no-partial-parse
    --partial-parse --profile --profiles-dir --project-dir --resource-type --resource-types --state --target --target-path --vars -t
    """.split()  # noqa: SIM905
)
"""What ``dbt ls`` must be told to select as ``dbt build`` does; it refuses most other options of build."""
_COMMON = frozenset(
    """
    --cache-selected-only --debug --log-cache-events --log-file-max-bytes --log-format --log-format-file --log-level --log-level-file
    --log-path --no-cache-selected-only --no-debug --no-log-cache-events --no-partial-parse --no-populate-cache --no-print --no-quiet
    --no-single-threaded --no-static-parser --no-use-colors --no-use-colors-file --no-version-check --no-warn-error --no-write-json
    --partial-parse --partial-parse-file-path --populate-cache --print --printer-width --profile --profiles-dir --project-dir --quiet
    --single-threaded --static-parser --target --target-path --threads --use-colors --use-colors-file --vars --version-check --warn-error
    --warn-error-options --write-json -d -q -t
    """.split()  # noqa: SIM905
)
"""What may stand behind every subcommand that reads a project."""
_TESTING = (
    _COMMON
    | _SELECTING
    | frozenset(
        """
        --defer --defer-state --fail-fast --favor-state --no-defer --no-fail-fast --no-favor-state --no-store-failures --state
        --store-failures -x
        """.split()  # noqa: SIM905
    )
)
"""What ``dbt build`` and ``dbt test`` of every version have in common."""
_TYPES = frozenset({"--exclude-resource-type", "--exclude-resource-types", "--resource-type", "--resource-types"})
_HIDDEN = re.compile(r"^-[dfhqvx]+[sm]")
_OUTPUT_VALUED = frozenset({"--log-format", "--log-level"})
_OUTPUT_FLAGS = frozenset({"--debug", "--no-debug", "-d", "--quiet", "--no-quiet", "-q", "--use-colors", "--no-use-colors"})
_CLUSTER = re.compile(r"^-[dfhqvx]{2,}$")
_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")
_OUTPUT_VARIABLES = ("LOG_FORMAT", "LOG_LEVEL", "DEBUG", "QUIET", "USE_COLORS")
_TRUE = frozenset({"1", "t", "true", "y", "yes", "on"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What the user wanted to see on the console."""

    level: str = "info"
    json: bool = False
    colors: bool = False


@dataclass(frozen=True, slots=True)
class DbtCommand:
    """A parsed command line. ``program`` and ``command`` are the places of dbt and of its subcommand in ``argv``."""

    argv: tuple[str, ...]
    program: int
    command: int

    @classmethod
    def parse(cls, argv: tuple[str, ...]) -> DbtCommand:
        """Find dbt and its subcommand.

        :raises ConfigError: there is none, or it is not one of dbt's.
        """
        if not argv:
            raise ConfigError("There is no command to run; give dbt's, such as: dbt build --select my_model.")
        program = _program(argv)
        place = next((i for i, token, _ in _tokens(argv, program + 1) if not token.startswith("-")), None)
        if place is None:
            raise ConfigError(f"`{_shown(argv)}` has no dbt command; write for example: {_shown(argv[: program + 1])} build.")
        if argv[place] not in SUBCOMMANDS:
            known = ", ".join(sorted(BUILDING))
            raise ConfigError(f"`{_shown(argv)}`: {argv[place]!r} is not a dbt command that can be captured (these are: {known}).")
        return cls(argv, program, place)

    @property
    def subcommand(self) -> str:
        """``build``, ``run``, ``test``, ..."""
        return self.argv[self.command]

    @property
    def dbt_args(self) -> list[str]:
        """What dbt itself is given: for dbtRunner."""
        return list(self.argv[self.program + 1 :])

    def option(self, name: str) -> str | None:
        """The value of an option, the last one if it is given twice."""
        value = None
        for i, token, inline in _tokens(self.argv, self.program + 1):
            if token == name:
                value = inline if inline is not None else (self.argv[i + 1] if i + 1 < len(self.argv) else None)
        return value

    def output(self, env: Mapping[str, str]) -> Output:
        """What the user asked for by flags, else by dbt's environment variables."""
        said = {name: _variable(env, name) for name in _OUTPUT_VARIABLES}
        for _, token, value in self._output_tokens():
            name, on = token.removeprefix("--").replace("-", "_").upper(), "true"
            if name.startswith("NO_"):
                name, on = name[3:], "false"
            said[{"_D": "DEBUG", "_Q": "QUIET"}.get(name, name)] = on if value is None else value
        level = (said["LOG_LEVEL"] or "info").lower()
        if _on(said["DEBUG"]):
            level = "debug"
        if _on(said["QUIET"]) and level != "none":
            level = "error"
        return Output(level=level, json=said["LOG_FORMAT"] == "json", colors=_on(said["USE_COLORS"]))

    def capturing(self) -> tuple[str, ...]:
        """The command with events on standard output."""
        dropped = {i for i, _, _ in self._output_tokens()}
        dropped |= {i + 1 for i, token, value in self._output_tokens() if token in _OUTPUT_VALUED and "=" not in self.argv[i]}
        clusters = {i for i, token, _ in _tokens(self.argv, self.program + 1) if _CLUSTER.match(token)}
        kept = [(i, _without_output(token) if i in clusters else token) for i, token in enumerate(self.argv) if i not in dropped]
        before = [token for i, token in kept if i < self.command and (token or i not in clusters)]
        return (*before, *CAPTURE_FLAGS, *(token for i, token in kept if i >= self.command and (token or i not in clusters)))

    def narrowed(self, state: str, env: Mapping[str, str]) -> DbtCommand:
        """The same command for the nodes that run_results.json in the folder ``state`` has as ``error``, and for no others.

        What the user said to select nodes is dropped (``--selector`` would win over ``--select``). Their state, also that of a variable,
        is deferred to. Nodes do not bring their tests: those to be run are in that file, too.

        :raises ConfigError: ``-s`` or ``-m`` stands in one word with other flags.
        """
        for _, token, _ in _tokens(self.argv, self.program + 1):
            if _HIDDEN.match(token):
                raise ConfigError(f"`{_shown(self.argv)}`: write {token!r} as separate options, so that its selection can be replaced.")
        dropped = self._places(_SELECTING | {"--state"})
        theirs = self.option("--state") or _variable(env, "STATE")
        moved = theirs if not (self.option("--defer-state") or _variable(env, "DEFER_STATE")) else None
        ours = ("--select", "result:error", "--indirect-selection", "empty", "--state", state, *(("--defer-state", moved) if moved else ()))
        end = self.command + int(self.subcommand == "source")  # `source freshness` is two words
        before = tuple(token for i, token in enumerate(self.argv) if i <= end and i not in dropped)
        after = tuple(token for i, token in enumerate(self.argv) if i > end and i not in dropped)
        return DbtCommand((*before, *ours, *after), self.program, len(before) - 1 - (end - self.command))

    def parsing(self) -> DbtCommand:
        """``dbt parse`` of the same project, with the same profile and variables."""
        return self._as("parse", keeping=_COMMON)

    def freshness(self) -> DbtCommand:
        """``dbt source freshness`` of all sources of the same project, with the same profile and variables."""
        return self._as("source", "freshness", keeping=_COMMON)

    def without_tests(self) -> DbtCommand:
        """The same build without tests and unit tests, to be followed by :meth:`testing`."""
        front = self.argv[: self.command + 1]
        left_out = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
        return DbtCommand((*front, *left_out, *self.argv[self.command + 1 :]), self.program, self.command)

    def testing(self) -> DbtCommand:
        """``dbt test`` for the tests and unit tests that this build selects, unless :attr:`chooses_types`: ``dbt test`` of 1.8 cannot."""
        return self._as("test", keeping=_TESTING)

    @property
    def selects(self) -> bool:
        """Whether it builds less than the project, or may."""
        return bool(self._places(_SELECTING | _TYPES))

    @property
    def chooses_types(self) -> bool:
        """Whether it says which types of resources it builds."""
        return bool(self._places(_TYPES))

    def _as(self, *subcommand: str, keeping: frozenset[str]) -> DbtCommand:
        """Another command with what stands in front of the subcommand, and those options behind it that both know."""
        kept = self._places(keeping)
        after = tuple(token for i, token in enumerate(self.argv) if i > self.command and i in kept)
        return DbtCommand((*self.argv[: self.command], *subcommand, *after), self.program, self.command)

    def listing(self) -> tuple[str, ...]:
        """``dbt ls`` for what this command selects, of any resource type: a JSON object with a ``unique_id`` per line."""
        kept = self._places(_LISTING)
        options = tuple(token for i, token in enumerate(self.argv) if i in kept)
        front = self.argv[: self.program + 1]
        return (*front, "--quiet", "--log-format", "text", "ls", "--output", "json", "--output-keys", "unique_id", *options)

    def redacted(self) -> tuple[str, ...]:
        """The command as it may be recorded, without what may be secret.

        Left out are the values of ``--vars`` and ``--args``, of variables that are set in front of dbt (``env NAME=value dbt ...``), and
        the credentials in URLs.
        """
        shown = [_CREDENTIALS.sub(r"\1***@", token) for token in self.argv]
        for i in range(self.program):
            name, sign, _ = shown[i].partition("=")
            if sign and not name.startswith("-"):
                shown[i] = f"{name}=***"
        for i, token, inline in _tokens(self.argv, self.program + 1):
            if token in ("--vars", "--args"):
                if inline is not None:
                    shown[i] = f"{token}=***"
                elif i + 1 < len(shown):
                    shown[i + 1] = "***"
        return tuple(shown)

    def in_project(self, folder: str) -> DbtCommand:
        """The same command for the project in another folder; it is started where it is."""
        dropped = self._places(frozenset({"--project-dir"}))
        before = tuple(token for i, token in enumerate(self.argv) if i <= self.command and i not in dropped)
        after = tuple(token for i, token in enumerate(self.argv) if i > self.command and i not in dropped)
        return DbtCommand((*before, "--project-dir", folder, *after), self.program, len(before) - 1)

    def given(self, names: frozenset[str]) -> Iterator[tuple[str, range, tuple[str, ...]]]:
        """These options in their order: the name, where it stands with its values, and those."""
        for i, token, inline in _tokens(self.argv, self.program + 1):
            name = token if token.startswith("--") else token[:2]  # -sNODE is -s with its value
            if name not in names:
                continue
            end = i + (2 if token in _VALUED and inline is None else 1)
            while name in _MANY and end < len(self.argv) and not self.argv[end].startswith("-"):
                end += 1
            joined = inline or token[len(name) :]
            yield name, range(i, end), (*((joined,) if joined else ()), *self.argv[i + 1 : end])

    def _places(self, names: frozenset[str]) -> set[int]:
        return {place for _, places, _ in self.given(names) for place in places}

    def _output_tokens(self) -> Iterator[tuple[int, str, str | None]]:
        for i, token, inline in _tokens(self.argv, self.program + 1):
            if token in _OUTPUT_FLAGS:
                yield i, token, None
            elif token in _OUTPUT_VALUED:
                value = inline if inline is not None else (self.argv[i + 1] if i + 1 < len(self.argv) else "")
                yield i, token, value
            elif _CLUSTER.match(token):
                yield from ((-1, f"-{letter}", None) for letter in token[1:] if letter in "dq")


def without_output_variables(env: Mapping[str, str]) -> dict[str, str]:
    """``env`` for a captured dbt: nothing in it, nor ``flags`` in dbt_project.yml (an environment variable beats those), hides events."""
    names = {f"{prefix}{name}" for name in _OUTPUT_VARIABLES for prefix in ("DBT_", "DBT_ENGINE_")}
    kept = {name: value for name, value in env.items() if name not in names}
    # The flag --log-format json would turn dbt's own log file to JSON, too, unless its format is said. Colours are turned off by their
    # variable, since Fusion answers the flag with a warning.
    return {"DBT_LOG_FORMAT_FILE": _variable(env, "LOG_FORMAT") or "default", **kept, "DBT_QUIET": "false", "DBT_USE_COLORS": "false"}


def _program(argv: tuple[str, ...]) -> int:
    if PurePath(argv[0]).name in _PROGRAMS or not _LAUNCHERS.match(PurePath(argv[0]).name):
        return 0
    return next((i for i, token in enumerate(argv) if PurePath(token).name in _PROGRAMS), 0)


def _tokens(argv: tuple[str, ...], start: int) -> Iterator[tuple[int, str, str | None]]:
    """Options (``--name`` with the value of ``--name=value``) and bare words; the values of options are passed over."""
    i = start
    while i < len(argv):
        token, sign, value = argv[i].partition("=")
        if argv[i] == "--":
            return
        is_option = token.startswith("--") and sign
        yield i, token if is_option else argv[i], value if is_option else None
        i += 2 if argv[i] in _VALUED else 1


def _without_output(token: str) -> str:
    """A cluster of short flags such as ``-qx`` without those about output: ``-x`` remains, or nothing."""
    rest = token.replace("d", "").replace("q", "")
    return rest if len(rest) > 1 else ""


def _variable(env: Mapping[str, str], name: str) -> str | None:
    return env.get(f"DBT_ENGINE_{name}") or env.get(f"DBT_{name}")  # dbt 1.11+ prefers the longer name


def _on(value: str | None) -> bool:
    return value is not None and value.lower() in _TRUE


def _shown(argv: tuple[str, ...]) -> str:
    return " ".join(argv)
