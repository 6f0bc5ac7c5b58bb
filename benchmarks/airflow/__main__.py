"""`python -m benchmarks.airflow`: runs of every kind in turns, and what each one cost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.airflow._chart import chart
from benchmarks.airflow._dags import ARMS
from benchmarks.airflow._projects import PROJECTS
from benchmarks.airflow._report import about, report, summary
from benchmarks.airflow._result import Result
from benchmarks.airflow._runs import Bench
from benchmarks.airflow._servers import bucket, databases

_ENVIRONMENTS = Path(__file__).parents[2] / ".work" / "bench"
_FILE = click.Path(path_type=Path, dir_okay=False)
_WARM_UP = "jaffle"


def _words(known: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Words with commas between them."""

    def split(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
        words = value.split(",")
        odd = next((word for word in words if word not in known), None)
        if odd is not None:
            raise click.BadParameter(f"{odd!r} is not one of {', '.join(known)}")
        return words

    return split


@click.command()
@click.option("--projects", callback=_words(PROJECTS), default="fhir,jaffle", help=f"Some of {', '.join(PROJECTS)}, with commas.")
@click.option(
    "--arms",
    callback=_words(ARMS),
    default="cli,watcher,s3,cosmos,local",
    help=f"Some of {', '.join(ARMS)}; local runs fhir40 and jaffle only.",
)
@click.option("--rounds", type=click.IntRange(1), default=1, help="Runs of each kind; of several, the medians are shown first.")
@click.option(
    "--json", "raw", type=_FILE, default=_ENVIRONMENTS / "airflow.json", help="For the raw figures, run by run; else in .work/bench."
)
@click.option(
    "--table", type=_FILE, default=_ENVIRONMENTS / "airflow.md", help="For the tables, the chart (.svg) beside it; else in .work/bench."
)
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Environment for Airflow's services, again and again.")
@click.option("--warm-up/--no-warm-up", default=True, help="Run a small DAG first wherever an Airflow was started.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="A folder for all files, logs too, to be kept.")
def main(  # noqa: PLR0913 - one per option
    projects: list[str],
    arms: list[str],
    rounds: int,
    raw: Path,
    table: Path,
    settings: tuple[str, ...],
    *,
    warm_up: bool,
    keep: Path | None,
) -> None:
    """Measure."""
    pairs = [(project, ARMS[name]) for project in projects for name in arms if name != "local" or project in ("fhir40", "jaffle")]
    pairs = [(project, arm) for project, arm in pairs if project != "fhir40" or arm.name in ("cli", "local")]
    results: list[Result] = []
    facts = about(_ENVIRONMENTS, settings)
    with ExitStack() as stack:
        home = keep.absolute() if keep else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        home.mkdir(parents=True, exist_ok=True)
        servers = stack.enter_context(databases("own", "cosmos"))
        s3 = stack.enter_context(bucket(home / "s3.log"))
        bench = stack.enter_context(Bench(home, _ENVIRONMENTS, servers, s3, settings=dict(one.split("=", 1) for one in settings)))
        airflows = {arm.environment: arm for _, arm in pairs if arm.mode is not None}
        for project, arm in dict.fromkeys([*pairs, *((_WARM_UP, arm) for arm in airflows.values() if warm_up)]):
            bench.prepare(arm, project)
        for number in range(rounds):
            for project, arm in pairs if number % 2 == 0 else reversed(pairs):  # nobody always comes first
                if warm_up and arm.mode is not None and bench.environment != arm.environment:
                    bench.run(airflows[arm.environment], _WARM_UP, 0)
                results.append(bench.run(arm, project, number))
                click.echo(summary(results[-1], results), err=True)
                raw.write_text(json.dumps({"about": facts, "runs": [asdict(one) for one in results]}, indent=1), "utf-8")
    text = report(results, facts)
    click.echo(text)
    table.write_text(text, "utf-8")
    chart_file = table.with_suffix(".svg")
    chart_file.write_text(chart(results), "utf-8")
    click.echo(f"Written: {raw}, {table}, {chart_file}", err=True)


if __name__ == "__main__":
    main()
