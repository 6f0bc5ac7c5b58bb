"""A real dbt with the profile of an Airflow connection, outside a whole Airflow: a local operator, then a producer with a ledger.

Run as a program it is those two; :class:`Runs` starts it, in folders of its own, and looks for secrets in all that is left. The dbt is started
through a script that keeps what it was started with, or, for a dbt in the same process, keeps nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0
"""Seconds after which a dbt that was waited for is taken for lost. A bound for broken code, never a pause."""

WRAPPER = """#!/bin/sh
umask 077
mkdir -p "{seen}" && cp -pr "$DBT_PROFILES_DIR" "{seen}/profiles-$$" && echo "$@" > "{seen}/argv-$$"
exec "{dbt}" "$@"
"""


@dataclass
class Runs:
    """One project in a folder, whose connection is ``shop``.

    :param secret: what nothing may show but the environment of dbt.
    :param dbt: the executable; none: in the process of the operator.
    """

    folder: Path
    mapping: str
    args: dict[str, Any]
    connection: dict[str, Any]
    secret: str
    dbt: Path | None = None
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        half = len(self.secret) // 2
        leak = f"select cast('{self.secret[:half]}' || '{self.secret[half:]}' as integer) as id"  # the database says it whole
        files = {
            "dbt_project.yml": "name: shop\nprofile: shop\nmodels:\n  +materialized: table\n",
            "models/good.sql": "select 1 as id\n",
            "models/leak.sql": f"{{{{ config(enabled=var('leak', false)) }}}} {leak}\n",
        }
        for name, text in files.items():
            path = self.folder / "shop" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in ("tmp", "airflow"):
            (self.folder / name).mkdir()
        if self.dbt is not None:
            wrapper = self.folder / "dbt"
            wrapper.write_text(WRAPPER.format(seen=self.folder / "seen", dbt=self.dbt))
            wrapper.chmod(0o755)

    def run(self, **flags: Any) -> tuple[dict[str, str | None], str]:
        """Run both; the error of each of them, and all that was said."""
        what = {
            "folder": str(self.folder),
            "mapping": self.mapping,
            "args": self.args,
            "dbt": str(self.folder / "dbt") if self.dbt else None,
            "flags": flags,
        }
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DBT_", "AIRFLOW_", "PG"))},
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_SHOP": json.dumps(self.connection),
            "TMPDIR": str(self.folder / "tmp"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            **self.env,
        }
        done = subprocess.run(
            [sys.executable, "-m", "tests.profile_runs", json.dumps(what)],
            env=env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        errors: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
        return errors, said

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def holding(self, text: str, below: Path | None = None) -> list[str]:
        """The files with this text in them."""
        files = [path for path in sorted((below or self.folder).rglob("*")) if path.is_file()]
        assert files
        return [str(path.relative_to(self.folder)) for path in files if text.encode() in path.read_bytes()]


def main(what: dict[str, Any]) -> dict[str, str | None]:
    """Both runs."""
    from airflow.sdk import DAG

    from ledger_watcher_airflow import (
        DbtBuildLocalOperator,
        DbtFlags,
        DbtProducerWatcherOperator,
        ExecutionConfig,
        ProfileConfig,
        ProjectConfig,
        profiles,
    )
    from ledger_watcher_airflow.ledger import LedgerRef
    from tests.operators.commands import context

    project, ledger = Path(what["folder"]) / "shop", str(Path(what["folder"]) / "ledger")
    mapping = getattr(profiles, what["mapping"])("shop", what["args"])
    profile = ProfileConfig(profile_name="shop", target_name="dev", profile_mapping=mapping)
    flags = {"install_deps": True, **what["flags"]}
    with DAG("shop", schedule=None):
        local = DbtBuildLocalOperator(
            task_id="build", project_dir=project, profile_config=profile, dbt_executable_path=what["dbt"], **flags
        )
        producer = DbtProducerWatcherOperator(
            project_config=ProjectConfig(project, manifest_path=project / "target" / "manifest.json"),
            profile_config=profile,
            execution_config=ExecutionConfig(ledger_uri=ledger, dbt_executable_path=what["dbt"]),
            ledger=LedgerRef(uri=ledger),
            flags=DbtFlags(**flags),
        )

    def error_of(operator: DbtBuildLocalOperator | DbtProducerWatcherOperator) -> str | None:
        try:
            operator.execute(context(f"manual__{len(flags)}"))
        except Exception as error:  # noqa: BLE001 - whatever it is, a test looks at it
            return f"{type(error).__name__}: {error}"
        return None

    return {"local": error_of(local), "producer": error_of(producer)}


if __name__ == "__main__":
    print(f"\n{json.dumps(main(json.loads(sys.argv[1])))}")  # noqa: T201 - the answer
