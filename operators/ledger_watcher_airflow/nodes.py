"""A dbt node as users' own functions get it: converters, names of tasks, groups. The names are those that users of astronomer-cosmos know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ledger_watcher.project import SOURCES, NodeView


class DbtResourceType(str, Enum):
    """Type of a dbt node."""

    MODEL = "model"
    SNAPSHOT = "snapshot"
    SEED = "seed"
    TEST = "test"
    SOURCE = "source"
    EXPOSURE = "exposure"


@dataclass(frozen=True, slots=True, kw_only=True)
class DbtNode:
    """One node of the project. ``tests`` are the unique_ids of the tests that are about it alone."""

    view: NodeView
    project_dir: Path
    tests: tuple[str, ...] = ()

    @property
    def unique_id(self) -> str:
        """``model.shop.orders``, for a version ``model.shop.orders.v2``."""
        return self.view.unique_id

    @property
    def name(self) -> str:
        """As task ids have it: ``orders``, for a version ``orders_v2``, for a source ``source_table``."""
        return self.view.name

    @property
    def resource_name(self) -> str:
        """As dbt selects it: ``orders``, ``orders.v2``, ``source.table``."""
        return self.unique_id.split(".", 2)[-1]

    @property
    def resource_type(self) -> DbtResourceType:
        """Its type; a unit test is a test."""
        kind = self.view.resource_type
        return DbtResourceType.TEST if kind == "unit_test" else DbtResourceType(kind)

    @property
    def package_name(self) -> str:
        """The dbt package that it is from."""
        return self.view.package

    @property
    def depends_on(self) -> list[str]:
        """The unique_ids of its parents."""
        return list(self.view.parents)

    @property
    def original_file_path(self) -> Path:
        """Its file, from the folder of its package."""
        return Path(self.view.path)

    @property
    def file_path(self) -> Path:
        """Its file, if it is one of the project's own."""
        return self.project_dir / self.view.path

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self.view.tags)

    @property
    def meta(self) -> Mapping[str, Any]:
        """Its ``meta``."""
        return self.view.meta

    @property
    def owner(self) -> str:
        """``meta.owner``, else the owner of its dbt group, else nothing."""
        return self.view.team

    @property
    def description(self) -> str:
        """What its documentation says."""
        return self.view.description

    @property
    def config(self) -> Mapping[str, Any]:
        """Of its config ``materialized``, ``tags`` and ``meta``."""
        return {"materialized": self.view.materialized, "tags": self.tags, "meta": self.meta}

    @property
    def has_test(self) -> bool:
        """A test is about it alone."""
        return bool(self.tests)

    @property
    def has_freshness(self) -> bool:
        """It is a source whose freshness dbt can tell."""
        return self.view.resource_type in SOURCES and self.view.freshness
