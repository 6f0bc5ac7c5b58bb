"""Fails the first time it is built."""

from pathlib import Path
from typing import Any


def model(dbt: Any, session: Any) -> Any:  # noqa: ANN401 - objects of dbt and of DuckDB
    dbt.config(materialized="table")
    dbt.ref("first")
    tried = Path("switch") / "flaky.tried"
    if not tried.exists():
        tried.touch()
        raise RuntimeError("this one only works the second time")
    return session.sql("select 1 as id")
