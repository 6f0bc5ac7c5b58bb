"""The password of an Airflow connection gets to PostgreSQL through every dbt-core, and to nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scripts.postgres import HOST, Postgres
from tests.dbt.lab import CORE, Installation
from tests.profile_runs import Runs


def runs_of(folder: Path, version: str, server: Postgres, password: str) -> Runs:
    connection = {
        "conn_type": "postgres",
        "host": HOST,
        "port": server.port,
        "login": server.user,
        "password": password,
        "schema": "postgres",
    }
    args = {"schema": f"profiles_{version.replace('.', '_')}"}
    dbt = Installation(version).bin / "dbt"
    return Runs(folder, "PostgresUserPasswordProfileMapping", args, connection, password, dbt=dbt)


@pytest.mark.parametrize("version", CORE)
def test_the_password_is_in_no_file_no_object_and_no_log(version: str, postgres: Postgres, tmp_path: Path) -> None:
    """dbt deps and dbt build, by a local operator and by a producer with a ledger."""
    runs = runs_of(tmp_path, version, postgres, postgres.password)
    errors, said = runs.run()
    assert errors == {"local": None, "producer": None}, said
    assert postgres.execute(f'select id from {runs.args["schema"]}."good"') == "1"  # noqa: S608 - names of this test
    assert postgres.password not in said
    seen = sorted((tmp_path / "seen").glob("profiles-*/profiles.yml"))
    assert len(seen) == 4
    for file in seen:
        output = yaml.safe_load(file.read_text())["shop"]["outputs"]["dev"]
        assert (output["password"], output["port"]) == ("{{ env_var('DBT_ENV_SECRET_PROFILE_PASSWORD') }}", postgres.port)
    assert runs.holding("model.shop.good", runs.ledger)
    assert not runs.holding(postgres.password)
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("version", CORE)
def test_a_database_that_says_the_password_is_masked(version: str, postgres: Postgres, tmp_path: Path) -> None:
    """What dbt itself leaves in its target folder is its own: docs/threat-model.md."""
    runs = runs_of(tmp_path, version, postgres, postgres.password)
    errors, said = runs.run(vars={"leak": True})
    for error in errors.values():
        assert error is not None
        assert 'invalid input syntax for type integer: "*****"' in error
    assert postgres.password not in said
    assert not runs.holding(postgres.password, runs.ledger)


def test_a_wrong_password_is_not_said_either(postgres: Postgres, tmp_path: Path) -> None:
    runs = runs_of(tmp_path, CORE[-1], postgres, "wr0ng-password-of-nobody")
    errors, said = runs.run()
    for error in errors.values():
        assert error is not None
        assert "password authentication failed" in error
    assert "wr0ng-password-of-nobody" not in said
    assert not runs.holding("wr0ng-password-of-nobody")
