"""Which nodes a command selects: from a file or a command line, or from dbt itself. Nothing here selects: by hand that goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from ledger_watcher import codec
from ledger_watcher.capture.argv import DbtCommand
from ledger_watcher.errors import ConfigError
from ledger_watcher.packing import problem_of

BUILT = ("function.", "model.", "seed.", "snapshot.", "test.", "unit_test.")
"""How the unique_ids begin of what ``dbt build`` builds."""

_TYPES = {
    "run": ("model.",),
    "seed": ("seed.",),
    "snapshot": ("snapshot.",),
    "test": ("test.", "unit_test."),
    "build": BUILT,
}
"""What each command works on, of what ``dbt ls`` lists. Of the rest nothing is ever built, or (exposures, saved queries) nothing but a
no-op is recorded, by some versions.
"""


def list_command(command: DbtCommand, executable: str, *, in_process: bool) -> tuple[str, ...]:
    """``dbt ls`` as a process. An in-process dbt is this Python's; it may be invoked once only, so that listing takes another process."""
    argv = command.listing()
    if in_process:
        return (sys.executable, "-m", "dbt.cli.main", *argv[command.program + 1 :])
    return (executable, *argv[1:])


def listed(command: DbtCommand, lines: Iterable[str]) -> frozenset[str]:
    """The nodes that ``command`` builds, from the output of its :func:`list_command`; lines that are no JSON are passed over."""
    return frozenset(name for line in lines if line.startswith("{") and (name := _unique_id(line)).startswith(_TYPES[command.subcommand]))


def read_plan(path: Path) -> tuple[str, ...]:
    """The unique_ids of a plan file: a JSON list, or one a line, bare or as ``dbt ls --output json --output-keys unique_id`` has them.

    :raises ConfigError: it cannot be read, or holds something else, or nothing.
    """
    try:
        text = path.read_text("utf-8").strip()
        found = codec.loads(text) if text.startswith("[") else [_unique_id(line.strip()) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigError(f"The plan {path} could not be read: {error}. {_PLAN_ADVICE}") from error
    if problem := problem_of(found):
        raise ConfigError(f"The plan {path} holds {problem}. {_PLAN_ADVICE}")
    return tuple(dict.fromkeys(found))


_PLAN_ADVICE = "Make it with `dbt ls --quiet --output json --output-keys unique_id`, or write a JSON list of unique_ids."


def _unique_id(line: str) -> str:
    if not line.startswith("{"):
        return line
    found = codec.loads(line)
    return str(found.get("unique_id", ""))
