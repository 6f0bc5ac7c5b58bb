"""manifest.json to :class:`~ledger_watcher.project.view.ProjectView`, through a small cache file.

A manifest is megabytes and a DAG file is parsed every few seconds by Airflow, so the view is kept in a file of its own, found by
the manifest's path, size and modification time (or what its storage says of its version) and this package's version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ledger_watcher import __version__, plain
from ledger_watcher.errors import ConfigError, LedgerWatcherError
from ledger_watcher.project.cache import Cache, named
from ledger_watcher.project.place import Place
from ledger_watcher.project.selection import Selection
from ledger_watcher.project.view import BUILDABLE, EXPOSURES, SOURCES, TESTS, WITHOUT_TASK, NodeView, ProjectView, pack_view, unpack_view

_KEPT = BUILDABLE | SOURCES | TESTS | WITHOUT_TASK | EXPOSURES
_SECTIONS = ("unit_tests", "functions", "sources", "exposures")
_BETWEEN = ("metrics", "semantic_models", "saved_queries")
"""Sections of what stands between a model and an exposure, and is not drawn."""
_NAMED_BY_ID = BUILDABLE | SOURCES | EXPOSURES
_COLUMNS = 20
_COLUMN_TEXT = 80
_META = ("cosmos", "ledger_watcher")
_LISTING = (
    "Make it with `dbt --quiet ls --output json --output-keys unique_id resource_type name package_name depends_on original_file_path tags config "
    "relation_name freshness description meta > FILE`, with --select and --exclude as you like."
)
_SUPPORTED = ("/v10.json", "/v11.json", "/v12.json")


def load_project(manifest: Path | Place) -> ProjectView:
    """The view of a manifest, which may be remote: then each call asks its storage whether it is still the same.

    :raises ConfigError: missing, unreadable, not a manifest, or of a version that is not known; says how to make one.
    """
    place = Place.of(manifest) if isinstance(manifest, Path) else manifest
    cache = Cache.local()
    try:
        version = place.version()
        kept = named("project", __version__, sorted(_KEPT), place.name, version) if version else None
        data = cache.get(kept) if kept else None
        with suppress(ValueError, LookupError, TypeError):  # corrupt, or of another version
            return unpack_view(plain.loads(data or b""))
        view = parse_manifest(place.read(), place.name)
    except ConfigError:
        raise
    except (OSError, LedgerWatcherError) as error:
        raise _no_manifest(place.name, str(error)) from error
    if kept:
        cache.put(kept, plain.dumps(pack_view(view)))
    return view


def parse_manifest(data: bytes, path: Path | str) -> ProjectView:
    """The view of a manifest's bytes; every field but ``unique_id`` may be absent (dbt Fusion leaves many out).

    Arguments for a node's task stand in its ``meta`` (its own or its config's) under ``cosmos.operator_kwargs``, where users of
    astronomer-cosmos have them, or ``ledger_watcher.operator_kwargs``, which wins.

    :raises ConfigError: it is no such manifest, or such an entry of ``meta`` is no mapping.
    """
    try:
        raw = plain.loads(data)
        metadata = raw["metadata"]
        _check_schema(path, str(metadata.get("dbt_schema_version") or ""))
        nodes = [*raw["nodes"].values(), *(node for section in _SECTIONS for node in (raw.get(section) or {}).values())]
        teams = {group["name"]: _team((group.get("owner") or {}).get("name")) for group in (raw.get("groups") or {}).values()}
        selectors = (raw.get("selectors") or {}).values()
        default = next((str(one.get("name") or "?") for one in selectors if isinstance(one, Mapping) and one.get("default")), "")
        between = {uid: _parents(node) for section in _BETWEEN for uid, node in (raw.get(section) or {}).items()}
        views = sorted(
            (_view(node, teams, between) for node in nodes if node.get("resource_type") in _KEPT), key=lambda node: node.unique_id
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _no_manifest(path, f"it is not a dbt manifest ({type(error).__name__}: {error})") from error
    return ProjectView(
        project=str(metadata.get("project_name") or ""),
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        nodes={node.unique_id: node for node in views},
        default_selector=default,
    )


def load_listing(place: Place) -> ProjectView:
    """The view of what ``dbt ls --output json`` printed: of the selected nodes, and of no others. Lines that are no JSON are passed over.

    :raises ConfigError: it cannot be read, or names no node, or says too little of one.
    """
    try:
        data = place.read()
        rows = [plain.loads(line) for line in data.splitlines() if line.startswith(b"{")]
        odd = next((row for row in rows if not {"unique_id", "resource_type"} <= row.keys()), None)
        views = (
            sorted((_view(row) for row in rows if row.get("resource_type") in _KEPT), key=lambda node: node.unique_id)
            if odd is None
            else []
        )
    except (OSError, LedgerWatcherError, ValueError, AttributeError) as error:
        raise ConfigError(f"The output of dbt ls {place.name} cannot be read: {error}. {_LISTING}") from error
    if not rows or odd is not None:
        problem = "has a line without unique_id or resource_type" if odd is not None else "has no line with a node"
        raise ConfigError(f"The output of dbt ls {place.name} {problem}. {_LISTING}")
    return ProjectView(
        project="",
        manifest_sha256=hashlib.sha256(data).hexdigest(),
        nodes={node.unique_id: node for node in views},
        selected=frozenset(node.unique_id for node in views),
        selection=Selection(exactly=True),
    )


def _check_schema(path: Path | str, schema: str) -> None:
    if not schema.endswith(_SUPPORTED):
        raise ConfigError(
            f"{path} has the schema {schema or 'unknown'!r}; manifests of dbt 1.6 to 1.12 and Fusion (v10 to v12) are known. "
            "Point ProjectConfig(manifest_path=...) at such a manifest.json, or upgrade dbt or ledger-watcher."
        )


def _view(
    node: Mapping[str, Any], teams: Mapping[str, str] | None = None, between: Mapping[str, tuple[str, ...]] | None = None
) -> NodeView:
    unique_id = str(node["unique_id"])
    config = node.get("config") or {}
    kind = str(node["resource_type"])
    parents = _built_parents(node, between or {}) if kind in EXPOSURES else _parents(node)
    meta = {name: value for told in (config.get("meta"), node.get("meta")) if isinstance(told, dict) for name, value in told.items()}
    return NodeView(
        unique_id=unique_id,
        # model.package.name, model.package.name.v2, source.package.name.table: what follows the package, so that nothing collides
        name=unique_id.split(".", 2)[-1].replace(".", "_") if kind in _NAMED_BY_ID else str(node.get("name") or unique_id),
        resource_type=kind,
        package=str(node.get("package_name") or ""),
        parents=parents,
        materialized=str(config.get("materialized") or ""),
        path=str(node.get("original_file_path") or ""),
        description=str(node.get("description") or ""),
        tags=tuple(str(tag) for tag in node.get("tags") or config.get("tags") or ()),
        owner=_owner(kind, parents),
        relation=str(node.get("relation_name") or "") if kind in BUILDABLE else "",
        operator_kwargs=_operator_kwargs(node, config),
        freshness=kind in SOURCES and _has_freshness(node.get("freshness") or config.get("freshness")),
        team=_team(meta.get("owner")) or (teams or {}).get(str(node.get("group") or config.get("group") or ""), ""),
        columns=_columns(node.get("columns")),
        meta=meta,
    )


def _parents(node: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple((node.get("depends_on") or {}).get("nodes") or ())


def _built_parents(node: Mapping[str, Any], between: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The parents, and of metrics and the like what they are made of."""
    found: list[str] = []
    left, seen = list(_parents(node)), set[str]()
    while left:
        parent = left.pop(0)
        if parent not in seen:
            seen.add(parent)
            left += between.get(parent, ())
            found += [] if parent in between else [parent]
    return tuple(found)


def _team(owner: object) -> str:
    """An owner as Airflow has them: a text, or several; what else stands there (a mapping) is for other tools."""
    several = owner if isinstance(owner, list) else [owner]
    return ", ".join(one.strip() for one in several if isinstance(one, str) and one.strip())


def _columns(columns: object) -> dict[str, str]:
    """The first columns that are described, each by the first line of its description."""
    told = columns.items() if isinstance(columns, Mapping) else ()
    texts = {str(name): _first_line(one.get("description")) for name, one in told if isinstance(one, Mapping)}
    return dict([(name, text) for name, text in texts.items() if text][:_COLUMNS])


def _first_line(text: object) -> str:
    return str(text or "").strip().partition("\n")[0][:_COLUMN_TEXT].strip()


def _operator_kwargs(node: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place in _META:
        for meta in (node.get("meta"), config.get("meta")):
            told = meta.get(place) if isinstance(meta, dict) else None
            if isinstance(told, dict) and told.get("profile_config"):
                raise ConfigError(
                    f"meta.{place}.profile_config of {node['unique_id']} ({node.get('original_file_path') or 'dbt_project.yml'}): one run of dbt has one "
                    "profile. Leave it out, and give the nodes of another profile a DbtTaskGroup of their own."
                )
            given = told.get("operator_kwargs") if isinstance(told, dict) else None
            if given is not None and not isinstance(given, dict):
                raise ConfigError(
                    f"meta.{place}.operator_kwargs of {node['unique_id']} ({node.get('original_file_path') or 'dbt_project.yml'}) is {given!r}; write "
                    "a mapping of arguments of its task, such as {pool: warehouse, retries: 2}."
                )
            found.update(given or {})
    return found


def _has_freshness(limits: object) -> bool:
    """As dbt has it (FreshnessThreshold and Time in artifacts/resources): one of the limits has a count and a period."""
    both = [limits.get(name) for name in ("warn_after", "error_after")] if isinstance(limits, Mapping) else []
    return any(isinstance(one, Mapping) and one.get("count") is not None and bool(one.get("period")) for one in both)


def _owner(kind: str, parents: tuple[str, ...]) -> str | None:
    if kind == "unit_test":
        return parents[0] if parents else None
    about = set(parents)
    return about.pop() if kind == "test" and len(about) == 1 else None


def _no_manifest(path: Path | str, why: str) -> ConfigError:
    return ConfigError(
        f"There is no usable dbt manifest at {path}: {why}. Make it with `dbt parse` (or any dbt command) in the project, deploy "
        "target/manifest.json together with the DAG, and point ProjectConfig(manifest_path=...) at it."
    )
