"""Words, table and versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.airflow._dags import ARMS, DBT
from benchmarks.airflow._result import Result, median, quantile

_LIBRARIES = ("apache-airflow", "dbt-core", "dbt-postgres", "ledger-watcher", "astronomer-cosmos", "asyncpg", "psycopg2-binary")
_VERSIONS = (
    "import importlib.metadata as m, sys\nfor n in sys.argv[1:]:\n try: print(n, m.version(n))\n except m.PackageNotFoundError: pass"
)


def about(environments: Path, settings: Sequence[str]) -> dict[str, object]:
    """Date, machine, versions of what is installed in each environment, settings."""
    versions = {}
    for folder in sorted(path for path in environments.iterdir() if (path / ".ready").exists()):
        argv = [str(folder / "bin" / "python"), "-c", _VERSIONS, *_LIBRARIES]
        lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
        versions[folder.name] = dict(line.split() for line in lines)
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": versions,
        "settings": list(settings),
    }


def ratio(result: Result, results: Sequence[Result]) -> float | None:
    """Wall time in relation to `dbt build` of the same project in the same round."""
    plain = [one.wall for one in results if (one.arm, one.project, one.round) == (DBT.name, result.project, result.round)]
    return result.wall / plain[0] if plain else None


def summary(result: Result, results: Sequence[Result]) -> str:
    """One line while it goes on."""
    found = ratio(result, results)
    times = f"{found:.2f} of dbt's" if found else "-"
    lag = f"lag {median(result.lags):.1f} / {quantile(result.lags, 0.95):.1f} s" if result.lags else ""
    return f"{result.project} {result.arm} {result.round + 1}: {result.state}, {result.wall:.1f} s ({times}) {lag} load {result.usage.load:.1f}"


def report(results: Sequence[Result], facts: dict[str, object]) -> str:
    """Tables of all projects."""
    lines = [str(facts), ""]
    for project in dict.fromkeys(one.project for one in results):
        mine = [one for one in results if one.project == project]
        lines += [f"## {project}", ""]
        if len({one.round for one in mine}) > 1:
            lines += [
                "Medians:",
                "",
                *_table([_middle([one for one in mine if one.arm == arm], results) for arm in dict.fromkeys(one.arm for one in mine)]),
                "",
            ]
        lines += [*_table([_row(one, results) for one in mine]), ""]
        lines += ["Seconds after the run was asked for:", "", *_table([_phases(one) for one in mine if one.phases]), ""]
        lines += ["CPU seconds, and what else the machine did:", "", *_table([_cpu(one) for one in mine]), ""]
    return "\n".join(lines)


def _row(result: Result, results: Sequence[Result]) -> dict[str, str]:
    found = ratio(result, results)

    def spread(values: Sequence[float]) -> str:
        return f"{median(values):.1f} / {quantile(values, 0.95):.1f} / {max(values):.1f}" if values else ""

    airflow = result.arm != DBT.name
    return {
        "run": _name(result),
        "state": result.state,
        "wall s": f"{result.wall:.1f}",
        "wall / CLI": f"{found:.2f}" if found else "",
        "lag s, median / p95 / max": spread(result.lags),
        "hop s": spread(result.hops),
        "tail s": f"{result.tail:.1f}" if result.tail is not None else "",
        "workers": str(result.workers) if airflow else "",
        "CPU s, Airflow and dbt": f"{result.airflow_cpu:.0f}",
        "SQL": f"{result.statements:,}" if airflow else "",
        "XCom / Variable writes": f"{result.xcoms} / {result.variables}" if airflow else "",
        "storage requests": "" if result.requests is None else str(result.requests),
        "peak MiB": f"{result.usage.memory:.0f}",
    }


def _middle(runs: Sequence[Result], results: Sequence[Result]) -> dict[str, str]:
    """Of all runs of one kind that ended well; the services' CPU is what is more than `dbt build` took in the same round."""
    good = [one for one in runs if one.state == "success"]
    airflow = [one for one in good if one.arm != DBT.name]
    figures: dict[str, Sequence[float | None]] = {
        "wall s": [one.wall for one in good],
        "wall / CLI": [ratio(one, results) for one in good],
        "lag s, median": [median(one.lags) for one in good if one.lags],
        "lag s, p95": [quantile(one.lags, 0.95) for one in good if one.lags],
        "lag s, max": [max(one.lags) for one in good if one.lags],
        "tail s": [one.tail for one in good],
        "workers": [float(one.workers) for one in airflow],
        "CPU s, Airflow without dbt": [one.airflow_cpu - plain for one in airflow if (plain := _dbt_cpu(one, results)) is not None],
        "SQL": [float(one.statements) for one in airflow],
        "XCom writes": [float(one.xcoms) for one in airflow],
        "Variable writes": [float(one.variables) for one in airflow],
        "storage requests": [float(one.requests) for one in good if one.requests is not None],
        "peak MiB": [one.usage.memory for one in good],
        "others' CPU s": [one.usage.others for one in good],
    }
    known = {name: [value for value in values if value is not None] for name, values in figures.items()}
    row = {"runs": f"{ARMS[runs[0].arm].title}, {len(good)} of {len(runs)} good"}
    return {**row, **{name: f"{median(values):.2f}" if values else "" for name, values in known.items()}}


def _dbt_cpu(result: Result, results: Sequence[Result]) -> float | None:
    plain = [one.airflow_cpu for one in results if (one.arm, one.project, one.round) == (DBT.name, result.project, result.round)]
    return plain[0] if plain else None


def _phases(result: Result) -> dict[str, str]:
    return {"run": _name(result), **{name: f"{value:.1f}" for name, value in result.phases.items()}}


def _cpu(result: Result) -> dict[str, str]:
    cpu = {name: f"{value:.1f}" for name, value in result.usage.cpu.items()}
    return {
        "run": _name(result),
        **cpu,
        "others": f"{result.usage.others:.1f}",
        "stolen": f"{result.usage.stolen:.1f}",
        "load before": f"{result.usage.load:.1f}",
    }


def _name(result: Result) -> str:
    return f"{ARMS[result.arm].title}, {result.round + 1}"


def _table(rows: Sequence[dict[str, str]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = ["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]
    return [*head, *("| " + " | ".join(row.get(name, "") for name in names) + " |" for row in rows)]
