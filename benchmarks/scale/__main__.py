"""`python -m benchmarks.scale`: runs of growing size, in a real Airflow on PostgreSQL, whose producer replays what dbt would tell."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import click

from benchmarks.airflow._machine import Usage
from benchmarks.airflow._servers import databases
from benchmarks.scale._measure import Result, airflow, measure, table
from benchmarks.scale._project import Size, write

_WARM_UP = Size(60)
_MARKS = "<!-- bench-scale: written by `make bench-scale` -->", "<!-- /bench-scale -->"


def _sizes(_ctx: click.Context, _param: click.Parameter, value: str) -> list[Size]:
    try:
        return [Size.parse(one) for one in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(
            "numbers of models from 60, with commas; 3000:folder for a task per folder, 1000:early for tasks that start with the run"
        ) from error


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str) -> list[int]:
    try:
        found = [int(one) for one in value.split(",")]
    except ValueError as error:
        raise click.BadParameter("numbers with commas") from error
    if min(found) < 1:
        raise click.BadParameter("one triggerer at least")
    return found


@click.command()
@click.option("--sizes", callback=_sizes, default="250,500,1000,2000,3000:folder", show_default=True, help="Models, in 20 layers.")
@click.option("--triggerers", callback=_numbers, default="1,2", show_default=True, help="How many there are, one after the other.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True, help="Nodes that finish in a second.")
@click.option("--json", "raw", type=click.Path(path_type=Path, dir_okay=False), help="Raw figures; runs of other sizes in that file stay.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="A page whose table is to be replaced.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="A new folder for all files, logs too, to be kept.")
def main(sizes: list[Size], triggerers: list[int], rate: float, raw: Path | None, page: Path | None, keep: Path | None) -> None:
    """Measure."""
    results = _read(raw)
    with ExitStack() as stack:
        home = keep.absolute() if keep else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        (home / "dags").mkdir(parents=True)
        for size in dict.fromkeys([_WARM_UP, *sizes]):
            write(size, home, dags=home / "dags", python=sys.executable, rate=rate)
        places = stack.enter_context(databases("own"))
        for number in triggerers:
            with airflow(home, places, number) as running:
                measure(running, places, home, _WARM_UP, number, rate=rate)
                for size in sizes:
                    result = measure(running, places, home, size, number, rate=rate)
                    results = [one for one in results if _what(one) != _what(result)] + [result]
                    click.echo(f"{result.row()} load {result.usage.load:.1f}", err=True)
                    if raw:
                        raw.write_text(
                            json.dumps({"about": _about(rate), "runs": [asdict(one) for one in results]}, indent=1) + "\n", "utf-8"
                        )
                    if result.state == "stuck":
                        break  # its tasks would be in the next run's way
    text = f"{_about(rate)}\n\n{table(results)}"
    click.echo(text)
    if page:
        between = re.compile(f"{re.escape(_MARKS[0])}.*?{re.escape(_MARKS[1])}", re.DOTALL)
        page.write_text(between.sub(lambda _: f"{_MARKS[0]}\n{text}\n{_MARKS[1]}", page.read_text("utf-8")), "utf-8")


def _what(result: Result) -> tuple[int, str, int]:
    return result.models, result.way, result.triggerers


def _read(raw: Path | None) -> list[Result]:
    """What other calls have measured."""
    if raw is None or not raw.exists():
        return []
    return [Result(**{**one, "usage": Usage(**one["usage"])}) for one in json.loads(raw.read_text("utf-8"))["runs"]]


def _about(rate: float) -> str:
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    day = datetime.now(timezone.utc).date().isoformat()
    return f"{day}, Airflow {version('apache-airflow')} on PostgreSQL, {machine}; {rate:g} nodes finish in a second."


if __name__ == "__main__":
    main()
