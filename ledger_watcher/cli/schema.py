"""``ledger-watcher schema``: the JSON Schema of a ledger's lines."""

from __future__ import annotations

import click

from ledger_watcher.cli._common import LedgerCommand, say_json
from ledger_watcher.schema import line_schema


@click.command(cls=LedgerCommand, name="schema")
def schema() -> None:
    """Print the JSON Schema (draft 2020-12) of one line of a ledger: the header of a segment, or a record of any kind."""
    say_json(line_schema())
