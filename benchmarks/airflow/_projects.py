"""The dbt projects: PostgreSQL, every node a table whose query sleeps."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_SHAPE = Path(__file__).parents[2] / "tests" / "core" / "fixtures" / "fhir_shape.json"
_FOLDERS = ("models/metrics/data_quality", "models/fhir_resources", "models/metadata")
_MEAN = 1.2
_THREADS = {"fhir8": 8}
_USUAL_THREADS = 4
"""Where nothing else is said."""
_LAYERS, _WIDTH = 20, 8
SCHEMA = "bench"
PROFILE = "bench"


@dataclass(frozen=True, slots=True)
class Node:
    """A seed, or a model that sleeps for ``seconds``, with ``tests`` of its column."""

    name: str
    parents: tuple[str, ...] = ()
    seconds: float = 0.0
    tests: tuple[str, ...] = ()
    seed: bool = False


def fhir() -> list[Node]:
    """185 models and 2 seeds of google/fhir-dbt-analytics with its edges; the models take 1.2 s on average, most less, a few much more."""
    shape = json.loads(_SHAPE.read_text("utf-8"))["nodes"]
    kept = [node for node in shape if node["type"] == "seed" or node["folder"] in _FOLDERS]
    models = [node["name"] for node in kept if node["type"] == "model"]
    rng = random.Random(185)  # noqa: S311 - the same durations each time
    drawn = [min(rng.lognormvariate(0.0, 0.8), 8.0) for _ in models]
    scale = _MEAN * len(drawn) / sum(drawn)
    seconds = {name: round(value * scale, 3) for name, value in zip(models, drawn, strict=True)}
    return [Node(one["name"], tuple(one["parents"]), seconds.get(one["name"], 0.0), seed=one["type"] == "seed") for one in kept]


def fhir40() -> list[Node]:
    """40 models of them, parents first, behind the seeds."""
    kept: dict[str, Node] = {}
    todo = {node.name: node for node in sorted(fhir(), key=lambda node: not node.seed)}
    while sum(not node.seed for node in kept.values()) < 40:  # noqa: PLR2004
        name = next(name for name, node in todo.items() if set(node.parents) <= set(kept))
        kept[name] = todo.pop(name)
    return list(kept.values())


def jaffle() -> list[Node]:
    """The size of the project that every dbt user knows: 3 seeds, 5 models, 20 tests; nothing sleeps."""
    seeds = [Node(f"raw_{name}", seed=True) for name in ("customers", "orders", "payments")]
    checks = ("not_null", "unique")
    staging = [Node(f"stg_{seed.name[4:]}", (seed.name,), tests=checks) for seed in seeds]
    orders = Node("orders", ("stg_orders", "stg_payments"), tests=checks)
    return [*seeds, *staging, orders, Node("customers", ("stg_customers", "orders"), tests=checks)]


def deep() -> list[Node]:
    """20 layers of 8 models of 0.2 s, each after two of the layer above."""
    names = [[f"layer_{layer:02}_{place}" for place in range(_WIDTH)] for layer in range(_LAYERS)]
    return [
        Node(name, (names[layer - 1][place], names[layer - 1][(place + 1) % _WIDTH]) if layer else (), 0.2)
        for layer, row in enumerate(names)
        for place, name in enumerate(row)
    ]


PROJECTS: dict[str, Callable[[], list[Node]]] = {"fhir": fhir, "fhir8": fhir, "jaffle": jaffle, "deep": deep, "fhir40": fhir40}


def write(name: str, folder: Path, *, port: int, password: str) -> None:
    """Write one of :data:`PROJECTS` into a new folder; user, database and schema of the warehouse are those of ``_servers``."""
    nodes = PROJECTS[name]()
    for place in ("models", "seeds"):
        (folder / place).mkdir(parents=True)
    output = {"type": "postgres", "host": "127.0.0.1", "port": port, "user": "dbt", "password": password, "dbname": "warehouse"}
    profile = {PROFILE: {"target": "dev", "outputs": {"dev": {**output, "schema": SCHEMA, "threads": _THREADS.get(name, _USUAL_THREADS)}}}}
    project = {"name": name, "profile": PROFILE, "version": "1.0", "models": {"+materialized": "table"}}
    _write_yaml(folder / "profiles.yml", profile)
    _write_yaml(folder / "dbt_project.yml", project)
    for node in nodes:
        if node.seed:
            (folder / "seeds" / f"{node.name}.csv").write_text("id\n1\n", "utf-8")
        else:
            (folder / "models" / f"{node.name}.sql").write_text(_query(node), "utf-8")
    _write_yaml(folder / "models" / "schema.yml", {"models": list(_tested(nodes))})


def _query(node: Node) -> str:
    parents = "".join(f"-- depends_on: {{{{ ref('{parent}') }}}}\n" for parent in node.parents)
    return f"{parents}select 1 as id from pg_sleep({node.seconds})\n"  # noqa: S608 - a number of ours


def _tested(nodes: Iterable[Node]) -> Iterable[dict[str, object]]:
    for node in nodes:
        if node.tests:
            yield {"name": node.name, "columns": [{"name": "id", "data_tests": list(node.tests)}]}


def _write_yaml(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1), "utf-8")  # JSON is YAML
