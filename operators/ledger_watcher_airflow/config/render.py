"""How the project is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import SourceRenderingBehavior, TestBehavior
from ledger_watcher_airflow.config.modes import AssetMode, LoadMode, take_member


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderConfig:
    """How the project becomes tasks.

    :param load_method: ``DBT_MANIFEST``, which is also what ``AUTOMATIC`` means.
    :param test_behavior: where tests show, see :class:`TestBehavior`.
    :param should_detach_multiple_parents_tests: ``True``: a test of several nodes is a task of its own. ``False``: it counts for each of them, in a
        task ``<node>.shared_test`` that holds up nobody; one that dbt lets nodes wait for is a task of its own, too.
    :param emit_datasets: tell Airflow of each model, seed and snapshot that was built, see :func:`~ledger_watcher_airflow.assets.dbt_asset`.
    :param asset_mode: which task does that.
    :param source_rendering_behavior: which sources show, see :class:`SourceRenderingBehavior`. If any do, ``dbt source freshness`` runs before
        the build, and nodes with no other sources than stale ones are skipped.
    """

    load_method: LoadMode = LoadMode.AUTOMATIC
    test_behavior: TestBehavior = TestBehavior.AFTER_EACH
    should_detach_multiple_parents_tests: bool = True
    emit_datasets: bool = True
    asset_mode: AssetMode = AssetMode.PER_RUN
    source_rendering_behavior: SourceRenderingBehavior = SourceRenderingBehavior.NONE

    def __post_init__(self) -> None:
        take_member(self, "load_method", LoadMode)
        take_member(self, "test_behavior", TestBehavior)
        take_member(self, "asset_mode", AssetMode)
        for name in ("should_detach_multiple_parents_tests", "emit_datasets"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"RenderConfig({name}={getattr(self, name)!r}) is neither True nor False.")
        if self.asset_mode is AssetMode.PER_NODE and not self.emit_datasets:
            raise ConfigError(
                "RenderConfig(asset_mode=AssetMode.PER_NODE) emits asset events, emit_datasets=False says not to; leave one out."
            )
        take_member(self, "source_rendering_behavior", SourceRenderingBehavior)
