"""`python -m benchmarks.ledger [PART ...] [--json]`. It exits with 1 if a figure is above a target that must be met."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version

import click

from benchmarks.ledger import checkpoints, latency, opening, requests, waiting, writing
from benchmarks.ledger._table import markdown

PARTS = {"requests": requests, "writing": writing, "latency": latency, "opening": opening, "waiting": waiting, "checkpoints": checkpoints}
_LIBRARIES = ("ledger-watcher", "msgspec", "fsspec", "s3fs", "gcsfs", "adlfs", "apache-airflow", "moto")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--json", "as_json", is_flag=True, help="The raw figures.")
def main(parts: tuple[str, ...], *, as_json: bool) -> None:
    """Measure some PARTS, or all of them."""
    found = {part: PARTS[part].measure() for part in parts or PARTS}
    about = {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        **{library: version(library) for library in _LIBRARIES},
    }
    if as_json:
        rows = {part: [row.to_dict() for row in each] for part, each in found.items()}
        click.echo(json.dumps({"about": about, "parts": rows}, indent=1))
    else:
        for part, each in found.items():
            click.echo(markdown(PARTS[part].TITLE, each))
        click.echo(", ".join(f"{name} {value}" for name, value in about.items()))
    sys.exit(1 if any(row.must and not row.met for each in found.values() for row in each) else 0)


if __name__ == "__main__":
    main()
