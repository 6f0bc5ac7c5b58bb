"""The command line: ``ledger-watcher run | ls | show | ...``. Exit codes are dbt's, and 3 for an error of this project."""

from __future__ import annotations

import click

from ledger_watcher import __version__
from ledger_watcher.cli.diff import diff
from ledger_watcher.cli.emit import emit
from ledger_watcher.cli.export import export
from ledger_watcher.cli.gc import gc
from ledger_watcher.cli.ls import ls
from ledger_watcher.cli.plan import plan
from ledger_watcher.cli.report import report
from ledger_watcher.cli.run import run
from ledger_watcher.cli.schema import schema
from ledger_watcher.cli.show import show
from ledger_watcher.cli.tail import tail
from ledger_watcher.cli.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ledger-watcher")
def main() -> None:
    """Run dbt once, and keep what happened to every node in an append-only ledger that people and tools can read."""


# One line per command; each lives in a module of its own.
main.add_command(run)
main.add_command(plan)
main.add_command(ls)
main.add_command(show)
main.add_command(schema)
main.add_command(diff)
main.add_command(export)
main.add_command(emit)
main.add_command(report)
main.add_command(tail)
main.add_command(verify)
main.add_command(gc)
