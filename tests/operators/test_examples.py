"""The example DAGs: each is imported by Airflow, and shows what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

import ledger_watcher_airflow
from ledger_watcher_airflow import dbt_asset
from tests.projects import node, write_project

EXAMPLES = Path(ledger_watcher_airflow.__file__).parent / "example_dags"
FILES = sorted(path.name for path in EXAMPLES.glob("*.py"))
PRODUCER = "dbt_producer_watcher"


@pytest.fixture
def bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401 - a function
    """The DAGs of one file, drawn from a project with the names of the example's."""
    folder = write_project(
        tmp_path / "jaffle",
        node("seed.jaffle.kiosk_guests", original_file_path="seeds/kiosk_guests.csv"),
        node("model.jaffle.stg_guests", "seed.jaffle.kiosk_guests", original_file_path="models/staging/stg_guests.sql"),
        node(
            "model.jaffle.guest_value",
            "model.jaffle.stg_guests",
            original_file_path="models/marts/guest_value.sql",
            relation_name='"jaffle"."main"."guest_value"',
            tags=["big"],
            description="What a guest is worth.",
        ),
        node("test.jaffle.unique_guests.1", "model.jaffle.stg_guests", original_file_path="models/staging/staging.yml"),
        project="jaffle",
    )
    (folder / "profiles.yml").write_text("jaffle: {target: dev, outputs: {dev: {type: duckdb, path: ':memory:'}}}\n")
    monkeypatch.setenv("JAFFLE_PROJECT_DIR", str(folder))
    monkeypatch.setenv("JAFFLE_LEDGER", str(tmp_path / "ledger"))

    def load(file: str) -> dict[str, Any]:
        found = DagBag(dag_folder=EXAMPLES / file, collect_dags=True)
        assert found.import_errors == {}
        return dict(found.dags)

    return load


@pytest.mark.parametrize("file", FILES)
def test_an_example_is_imported_and_stored(bag: Any, file: str) -> None:  # noqa: ANN401
    dags = bag(file)
    assert dags
    assert file.removesuffix(".py") in dags
    for dag in dags.values():
        assert len(dag.tasks) >= 1
        DagSerialization.to_dict(dag)


def test_there_is_an_example_for_each_use() -> None:
    assert len(FILES) >= 16
    readme = (EXAMPLES / "README.md").read_text()
    assert [file for file in FILES if f"`{file}`" not in readme] == []


@pytest.mark.parametrize(
    ("file", "tasks"),
    [
        ("jaffle_task_group.py", {"load", "transform.stg_guests.run", "transform.stg_guests.test", "report"}),
        ("jaffle_coarse.py", {"seeds_build", "models_staging_build", "models_marts_build", PRODUCER}),
        ("jaffle_folders.py", {"seeds.kiosk_guests_seed", "models.staging.stg_guests.run", "models.marts.guest_value_run"}),
        ("jaffle_tests.py", {"jaffle_test", "stg_guests_run"}),
        ("jaffle_remote_command.py", {PRODUCER, "guest_value_run"}),
        ("jaffle_one_by_one.py", {"kiosk_guests_seed", "stg_guests.test"}),
        ("jaffle_mapped.py", {"per_region.dbt.guest_value_run"}),
    ],
)
def test_an_example_has_its_tasks(bag: Any, file: str, tasks: set[str]) -> None:  # noqa: ANN401
    assert tasks <= set(bag(file)[file.removesuffix(".py")].task_ids)


def test_the_examples_show_what_they_say(bag: Any) -> None:  # noqa: ANN401
    assert bag("jaffle_converters.py")["jaffle_converters"].get_task("guest_value_run").pool == "big"
    assert bag("jaffle_folders.py")["jaffle_folders"].get_task("models.marts.guest_value_run").doc_md
    assert bag("jaffle_folders.py")["jaffle_folders"].tags == {"big"}
    assert bag("jaffle_s3.py")["jaffle_s3"].get_task("stg_guests.run").ledger.conn_id == "aws_default"
    assert bag("jaffle_assets.py")["jaffle_report"].timetable.asset_condition == dbt_asset("jaffle.main.guest_value")
