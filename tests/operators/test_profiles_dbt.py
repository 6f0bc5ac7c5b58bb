"""A real dbt on DuckDB with the profile of an Airflow connection, in the process of the operator. On PostgreSQL: tests/dbt/test_profiles.py."""

from __future__ import annotations

from pathlib import Path

from tests.profile_runs import Runs

SECRET = "s3cr3t-of-the-connection-0123"


def test_dbt_in_process_has_the_profile_and_nobody_else_the_secret(tmp_path: Path) -> None:
    """The adapter does not use it, but dbt looks it up; a model's error then says it as a database may."""
    connection = {"conn_type": "duckdb", "host": str(tmp_path / "shop.duckdb")}
    runs = Runs(tmp_path, "DuckDBUserPasswordProfileMapping", {"token": SECRET}, connection, SECRET)
    errors, said = runs.run(vars={"leak": True})
    assert (tmp_path / "shop.duckdb").exists()
    for error in errors.values():
        assert error is not None
        assert "model.shop.leak" in error
        assert "*****" in error
    assert SECRET not in said
    assert runs.holding("model.shop.good", runs.ledger)
    assert not runs.holding(SECRET, runs.ledger)
    assert not list((tmp_path / "tmp").iterdir()), "the folder of the profile is gone"
