"""dbt manifests for tests: small ones written by hand, and those of real projects."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parent / "core" / "fixtures"
DBT_VERSIONS = ("1.8", "1.9", "1.10", "1.11", "1.12", "fusion")
SCHEMA = "https://schemas.getdbt.com/dbt/manifest/v12.json"


def node(unique_id: str, *parents: str, name: str | None = None, materialized: str = "table", **more: Any) -> dict[str, Any]:
    """One node of a manifest, everything else derived from its unique_id."""
    kind, package, *rest = unique_id.split(".")
    return {
        "unique_id": unique_id,
        "resource_type": kind,
        "package_name": package,
        "name": name or rest[0],
        "depends_on": {"nodes": list(parents), "macros": []},
        "config": {"materialized": materialized},
        **more,
    }


def manifest(*nodes: dict[str, Any], project: str = "shop", schema: str = SCHEMA) -> dict[str, Any]:
    """A manifest of these nodes, each in the section that dbt writes it to."""
    sections: dict[str, Any] = {"nodes": {}, "unit_tests": {}, "functions": {}, "sources": {}}
    for one in nodes:
        section = {"unit_test": "unit_tests", "function": "functions", "source": "sources"}.get(one["resource_type"], "nodes")
        sections[section][one["unique_id"]] = one
    return {"metadata": {"dbt_schema_version": schema, "project_name": project}, **sections}


def write_project(folder: Path, *nodes: dict[str, Any], project: str = "shop") -> Path:
    """A folder that looks like a dbt project which was parsed; returns it."""
    (folder / "target").mkdir(parents=True, exist_ok=True)
    (folder / "dbt_project.yml").write_text(f"name: {project}\nprofile: {project}\n")
    (folder / "target" / "manifest.json").write_text(json.dumps(manifest(*nodes, project=project)))
    return folder


def real_manifest(version: str) -> bytes:
    """The manifest that this dbt version wrote for the kitchen-sink project."""
    return gzip.decompress((FIXTURES / "manifests" / f"manifest-{version}.json.gz").read_bytes())


def fhir_nodes() -> list[dict[str, Any]]:
    """The 198 nodes of google/fhir-dbt-analytics with their edges and as many tests as each has."""
    shape = json.loads((FIXTURES / "fhir_shape.json").read_text())["nodes"]
    ids = {one["name"]: f"{one['type']}.fhir.{one['name']}" for one in shape}
    nodes = []
    for one in shape:
        unique_id = ids[one["name"]]
        nodes.append(
            node(
                unique_id,
                *(ids[parent] for parent in one["parents"] if parent in ids),
                materialized=one["mat"],
                original_file_path=f"{one['folder']}/{one['name']}.sql",
                description=f"Model {one['name']} of the FHIR analytics project. " * 3,
                raw_code="select 1 as x\n" * 40,  # manifests are mostly code, docs and columns
            )
        )
        nodes += [node(f"test.fhir.not_null_{one['name']}_{i}.{i:010x}", unique_id) for i in range(one["tests"])]
    return nodes


def shuffled(nodes: Iterable[dict[str, Any]], order: list[int]) -> list[dict[str, Any]]:
    """The same nodes and parents in another order of the file."""
    known = list(nodes)
    moved = [known[i] for i in order]
    return [
        {
            **one,
            "depends_on": {
                "nodes": one["depends_on"]["nodes"] if one["resource_type"] == "unit_test" else one["depends_on"]["nodes"][::-1]
            },
        }
        for one in moved
    ]
