"""``ledger-watcher plan``: which nodes a dbt command selects, as a file that a DAG is drawn from where there is no dbt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ledger_watcher.capture.argv import NARROWABLE, DbtCommand
from ledger_watcher.capture.listing import ask, selection_of
from ledger_watcher.cli._common import LedgerCommand, parse_storage_options, say_note
from ledger_watcher.errors import ConfigError
from ledger_watcher.project import Place, Question, pack_plan


@click.command(cls=LedgerCommand, name="plan", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--output", "-o", required=True, metavar="PLAN", help="The file to write: a path, a URI such as s3://bucket/plan.json, or -.")
@click.option("--project-dir", type=click.Path(path_type=Path), metavar="P", help="Where dbt is started. Default: here.")
@click.option("--in-process", is_flag=True, help="Take the dbt of this Python instead of the first word of the command.")
@click.option("--deps", is_flag=True, help="Install the packages before, beside the project, which stays as it is.")
@click.option("--storage-option", "storage_options", multiple=True, metavar="KEY=VALUE", help="For the storage library; VALUE may be JSON.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- dbt build ...")
def plan(command: tuple[str, ...], **options: Any) -> None:
    """Ask dbt which nodes a command selects, and write them down.

    Example: ledger-watcher plan --output s3://bucket/plan.json -- dbt build --select tag:daily+

    The plan is for DAG files that are parsed where dbt is not: RenderConfig(plan_path="s3://bucket/plan.json"). It holds the nodes of
    the project, which of them are selected, and the words that select them, with which the DAG's dbt then runs. Nothing is built, no
    database is asked, and nothing is written to the project. Make it again whenever the project changes.
    """
    parsed = DbtCommand.parse(command)
    if parsed.subcommand not in NARROWABLE:
        raise ConfigError(
            f"`dbt {parsed.subcommand}` selects nothing to build; give the command of the run, such as: dbt build --select tag:daily."
        )
    question = Question(
        command=command,
        project_dir=(options["project_dir"] or Path()).absolute(),
        selection=selection_of(parsed),
        in_process=options["in_process"],
        deps=options["deps"],
    )
    view = ask(question)
    data = pack_plan(view)
    if options["output"] == "-":
        click.echo(data)
        return
    place = Place.of(options["output"], storage_options=parse_storage_options(options["storage_options"]))
    try:
        place.write(data)
    except OSError as error:
        raise ConfigError(f"The plan cannot be written: {error}; give another --output.") from error
    chosen = len(view.nodes if view.selected is None else view.selected)
    say_note(f"{place.name}: {chosen} of {len(view.nodes)} nodes are selected.")
