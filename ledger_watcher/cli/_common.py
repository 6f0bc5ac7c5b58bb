"""What the reading commands share: where the ledger is, how errors end a command, how output is written."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from ledger_watcher import codec
from ledger_watcher.errors import ConfigError, LedgerWatcherError
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.report.grid import Grid, terminal
from ledger_watcher.report.text import encodable, inert
from ledger_watcher.storage import LocalStore, Store, open_store

EXIT_ERROR = 3
"""Exit code of a command that could not do its work: 1 and 2 are dbt's and click's."""

_RUN_FOLDER = re.compile(r"(?:^|(?<=/))v1/deployment=")

F = TypeVar("F", bound=Callable[..., Any])


class LedgerCommand(click.Command):
    """A command that answers every error of this project with one line on standard error and :data:`EXIT_ERROR`."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LedgerWatcherError as error:
            say_error(error)
            ctx.exit(EXIT_ERROR)


@dataclass(frozen=True, slots=True)
class Target:
    """What a LEDGER argument names: a root, and the run if it was the folder of one."""

    store: Store
    run: RunKey | None


def ledger_options(command: F) -> F:
    """The LEDGER argument with its options, for commands that read. Its variable is that of ``ledger-watcher run --ledger``."""
    command = click.option(
        "--storage-option",
        "storage_options",
        multiple=True,
        metavar="KEY=VALUE",
        envvar="LEDGER_WATCHER_STORAGE_OPTION",
        show_envvar=True,
        help="For the storage library; VALUE may be JSON. Repeatable, such as endpoint_url=http://localhost:9000.",
    )(command)
    return click.argument("ledger", envvar="LEDGER_WATCHER_LEDGER")(command)


def locate(uri: str, storage_options: tuple[str, ...] = ()) -> Target:
    """The store and, if ``uri`` lies in the folder of a run, that run.

    :raises ConfigError: not a URI of a ledger, a part of a ledger that is no run, or a local folder that does not exist.
    """
    found = list(_RUN_FOLDER.finditer(uri))
    root, run = uri, None
    if found:
        at = found[-1].start()
        root, folder = uri[:at] or ".", uri[at:]
        try:
            run = RunKey.from_prefix(folder)
        except ValueError as error:
            raise ConfigError(
                f"{uri!r} lies inside a ledger and is not the folder of one run; give the ledger's root {root.rstrip('/') or '/'!r} "
                "with --dag-id, --run-id, --deployment, or the whole folder down to map=..."
            ) from error
    store = open_store(root, storage_options=parse_storage_options(storage_options))
    if isinstance(store, LocalStore):
        _check_folder(Path(store.root.removeprefix("file://")))
    return Target(store, run)


def parse_storage_options(pairs: tuple[str, ...]) -> Mapping[str, Any]:
    """``KEY=VALUE`` as a mapping; a value that is JSON is taken as that.

    :raises ConfigError: not ``KEY=VALUE``.
    """
    result: dict[str, Any] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise ConfigError("A storage option is KEY=VALUE, such as --storage-option anon=true; the one given has no key or no '='.")
        try:
            result[key] = codec.loads(value)
        except ValueError:
            result[key] = value
    return result


def say(text: str = "") -> None:
    """Print lines, whatever the encoding of standard output."""
    click.echo(encodable(text, sys.stdout.encoding))


def say_error(error: object) -> None:
    """Print one line that begins with ``Error:`` on standard error."""
    click.echo(encodable(f"Error: {inert(error)}", sys.stderr.encoding), err=True)


def say_note(text: str) -> None:
    """Print a remark on standard error, so that what is piped stays data."""
    click.echo(encodable(inert(text), sys.stderr.encoding), err=True)


def say_json(value: object) -> None:
    """Print JSON. ASCII only, so that no character in it can act on a terminal."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


def say_grid(grid: Grid) -> None:
    """Print a table; on a terminal too narrow for one as text, whose lines the terminal wraps."""
    console = terminal(sys.stdout)
    if console is None or console.width < grid.least_width():
        say(grid.plain())
    else:
        console.print(grid.rich())


def is_run_folder(uri: str) -> bool:
    """``uri`` lies in the folder of a run."""
    return _RUN_FOLDER.search(uri) is not None


def write_file(name: str, data: bytes) -> None:
    """The whole file or none: somebody may be waiting for it to appear.

    :raises ConfigError: it cannot be written.
    """
    path = Path(name)
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
            path.write_bytes(data)
            return
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise ConfigError(f"The file {path} cannot be written: {error.strerror or error}; give another one with --output.") from error


def _check_folder(path: Path) -> None:
    """A mistyped path would otherwise look like a ledger without runs."""
    if path.is_dir():
        return
    problem = "is a file, not a folder" if path.exists() else "does not exist"
    raise ConfigError(f"The ledger {path} {problem}; check the path (a ledger's folder is made by its first run).")
