"""Says that it began and waits until it is let go."""

import time
from pathlib import Path
from typing import Any


def model(dbt: Any, session: Any) -> Any:  # noqa: ANN401 - objects of dbt and of DuckDB
    dbt.config(materialized="table")
    dbt.ref("first")
    switch = Path("switch")
    (switch / "slow.began").touch()
    while not (switch / "slow.go").exists():
        time.sleep(0.05)
    return session.sql("select 1 as id")
