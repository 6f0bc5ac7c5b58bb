"""A dbt project with the graph of google/fhir-dbt-analytics (198 nodes), on DuckDB, whose models do next to nothing.

So what a run costs is dbt itself, and whatever is added to dbt is seen at its largest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_SHAPE = Path(__file__).parents[1] / "tests" / "core" / "fixtures" / "fhir_shape.json"
_PROFILE = "fhir:\n  target: dev\n  outputs:\n    dev: {type: duckdb, path: fhir.duckdb, threads: 4}\n"


def write_fhir(folder: Path) -> int:
    """Write the project into an empty folder; returns how many models, seeds and tests a build has."""
    nodes: list[dict[str, Any]] = json.loads(_SHAPE.read_text("utf-8"))["nodes"]
    (folder / "dbt_project.yml").write_text("name: fhir\nprofile: fhir\n", "utf-8")
    (folder / "profiles.yml").write_text(_PROFILE, "utf-8")
    tested: list[dict[str, Any]] = []
    for node in nodes:
        name, tests = node["name"], node["tests"]
        if node["type"] == "seed":
            place = folder / "seeds" / f"{name}.csv"
            text = "id\n1\n"
        else:
            place = folder / "models" / f"{name}.sql"
            parents = "".join(f"-- depends_on: {{{{ ref('{parent}') }}}}\n" for parent in node["parents"])
            columns = "".join(f", {i} as c{i}" for i in range(tests))
            text = f"{parents}{{{{ config(materialized='{node['mat']}') }}}}\nselect 1 as id{columns}\n"
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, "utf-8")
        if tests:
            columns_of = [{"name": f"c{i}", "data_tests": ["not_null"]} for i in range(tests)]
            tested.append({"name": name, "columns": columns_of if node["type"] == "model" else []})
    (folder / "models" / "schema.yml").write_text(json.dumps({"version": 2, "models": tested}), "utf-8")  # JSON is YAML
    return len(nodes) + sum(len(one["columns"]) for one in tested)
