"""How the project is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import Selection, SourceRenderingBehavior, TestBehavior
from ledger_watcher_airflow.config.arguments import names_checked
from ledger_watcher_airflow.config.modes import AssetMode, LoadMode, take_member
from ledger_watcher_airflow.late import refuse_late
from ledger_watcher_airflow.nodes import DbtNode, DbtResourceType

NODE, FOLDER, TAG = "node", "folder", "tag"
_FLAGS = (
    "should_detach_multiple_parents_tests",
    "emit_datasets",
    "group_nodes_by_folder",
    "ephemeral_models_as_empty_operator",
    "enable_owner_inheritance",
    "enable_tag_inheritance",
    "exposures",
    "source_pruning",
)
_GROUPED = (DbtResourceType.MODEL, DbtResourceType.SEED, DbtResourceType.SNAPSHOT, DbtResourceType.TEST)
_INSTEAD = {
    "dbt_deps": "write ProjectConfig(install_dbt_deps=True)",
    "env_vars": "write ProjectConfig(env_vars={...})",
    "enable_mock_profile": "a profile of an Airflow connection is read when dbt is started, at parse only if dbt has to be asked; leave it out",
    "airflow_vars_to_purge_dbt_ls_cache": "what is drawn is cached by the contents of what it comes from; leave it out",
    "node_conversion_by_task_group": "a converter is asked for each task, that of a node's tests with DbtResourceType.TEST; leave it out",
}


@names_checked(_INSTEAD)
@dataclass(frozen=True, slots=True, kw_only=True)
class RenderConfig:
    """How the project becomes tasks.

    :param select: in dbt's words, what is drawn, and built. dbt itself decides what that means: where the DAG file is parsed, or where the plan was
        made. Tests and sources that are not selected are not drawn either.
    :param exclude: in dbt's words, what is not, though it is selected.
    :param selector: instead of ``select``, one of the project's YAML selectors.
    :param load_method: where the nodes come from, see :class:`LoadMode`.
    :param plan_path: a file of ``ledger-watcher plan``: a path, or a URI that fsspec knows. If a selection is given too, it must be that of the plan.
    :param plan_conn_id: Airflow connection for that URI; the environment's own credentials if not given.
    :param dbt_ls_path: the output of ``dbt ls --output json``, likewise a path or a URI.
    :param dbt_executable_path: the dbt that is asked; that of the execution if not given, else that of this environment.
    :param dbt_project_path: the project where the DAG file is parsed, if that is another folder than where dbt runs.
    :param test_behavior: where tests show, see :class:`TestBehavior`.
    :param should_detach_multiple_parents_tests: ``True``: a test of several nodes is a task of its own. ``False``: it counts for each of them, in a
        task ``<node>.shared_test`` that holds up nobody; one that dbt lets nodes wait for is a task of its own, too.
    :param emit_datasets: tell Airflow of each model, seed and snapshot that was built, see :func:`~ledger_watcher_airflow.assets.dbt_asset`.
    :param asset_mode: which task does that.
    :param source_rendering_behavior: which sources show, see :class:`SourceRenderingBehavior`. If any do, ``dbt source freshness`` runs before
        the build, and nodes with no other sources than stale ones are skipped. Where each task runs dbt, that of a source checks it, and nodes
        are skipped that have nothing but skipped ones directly above them.
    :param source_pruning: leave out the sources that nothing of the project reads.
    :param exposures: show exposures as end points, ``<name>_exposure``; a converter for them shows them, too.
    :param group_nodes_by_folder: a task group for each folder of the project, one in another, as they lie: ``models.staging.orders.run``. Those of
        a package stand in a group of its name.
    :param granularity: ``"node"``: a task for each node. ``"folder"``, ``"tag"`` (the first one, by the alphabet) or a function that takes a
        :class:`~ledger_watcher_airflow.nodes.DbtNode` and returns a word (``None``: a task of its own): one task for all nodes of one folder,
        tag or word, with their tests. Folders that need each other show in parts, ``<name>_2_build`` and so on. What a node's ``meta`` says of
        its task, its owner and its documentation then count for nobody.
    :param node_converters: by :class:`~ledger_watcher_airflow.nodes.DbtResourceType`, functions that make the task of a node; see
        :func:`~ledger_watcher_airflow.drawing.convert` for what they are called with.
    :param normalize_task_id: takes the node, returns the id of its task, if that does not stand in a group with its tests.
    :param normalize_task_display_name: the same for the name that is shown; if only the id is given, that is the id it would have had.
    :param ephemeral_models_as_empty_operator: only ``True``: dbt builds nothing of them.
    :param enable_owner_inheritance: a node's owner (``meta.owner``, else that of its dbt group) owns its tasks.
    :param enable_tag_inheritance: the DAG has the tags of all its nodes; tasks have none in Airflow.
    :param docs: each task has its node's description, columns and file as ``doc_md``. If not given: as long as that is at most 10 kB for the
        whole project, since Airflow hands all of it around with every task.
    """

    select: str | Sequence[str] = ()
    exclude: str | Sequence[str] = ()
    selector: str | None = None
    load_method: LoadMode = LoadMode.AUTOMATIC
    plan_path: str | Path | None = None
    plan_conn_id: str | None = None
    dbt_ls_path: str | Path | None = None
    dbt_executable_path: str | Path | None = None
    dbt_project_path: str | Path | None = None
    test_behavior: TestBehavior = TestBehavior.AFTER_EACH
    should_detach_multiple_parents_tests: bool = True
    emit_datasets: bool = True
    asset_mode: AssetMode = AssetMode.PER_RUN
    source_rendering_behavior: SourceRenderingBehavior = SourceRenderingBehavior.NONE
    source_pruning: bool = False
    exposures: bool = False
    group_nodes_by_folder: bool = False
    granularity: str | Callable[[DbtNode], str | None] = NODE
    node_converters: Mapping[DbtResourceType, Callable[..., Any]] | None = None
    normalize_task_id: Callable[[DbtNode], str] | None = None
    normalize_task_display_name: Callable[[DbtNode], str] | None = None
    ephemeral_models_as_empty_operator: bool = True
    enable_owner_inheritance: bool = True
    enable_tag_inheritance: bool = False
    docs: bool | None = None

    def __post_init__(self) -> None:
        take_member(self, "load_method", LoadMode)
        refuse_late(
            "RenderConfig({}=...)",
            {name: getattr(self, name) for name in ("select", "exclude", "selector")},
            "the tasks have to be drawn before; in operator_args it narrows what is built",
        )
        self._check_load()
        take_member(self, "test_behavior", TestBehavior)
        take_member(self, "asset_mode", AssetMode)
        for name in (*_FLAGS, *(("docs",) if self.docs is not None else ())):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"RenderConfig({name}={getattr(self, name)!r}) is neither True nor False.")
        if self.asset_mode is AssetMode.PER_NODE and not self.emit_datasets:
            raise ConfigError(
                "RenderConfig(asset_mode=AssetMode.PER_NODE) emits asset events, emit_datasets=False says not to; leave one out."
            )
        take_member(self, "source_rendering_behavior", SourceRenderingBehavior)
        if not self.ephemeral_models_as_empty_operator:
            raise ConfigError(
                "RenderConfig(ephemeral_models_as_empty_operator=False): dbt builds nothing of an ephemeral model, so there is nothing that a task "
                "of it could show; leave it out."
            )
        for name in ("normalize_task_id", "normalize_task_display_name"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ConfigError(f"RenderConfig({name}={getattr(self, name)!r}) cannot be called; give a function that takes a node.")
        self._check_converters()
        self._check_granularity()

    @property
    def coarse(self) -> bool:
        """A task may stand for many nodes."""
        return self.granularity != NODE

    def _check_converters(self) -> None:
        found: dict[DbtResourceType, Callable[..., Any]] = {}
        for kind, converter in (self.node_converters or {}).items():
            word = getattr(kind, "value", kind)  # those of Cosmos are other enums with the same words
            if word not in {one.value for one in DbtResourceType}:
                known = ", ".join(f"DbtResourceType.{one.name}" for one in DbtResourceType)
                raise ConfigError(
                    f"RenderConfig(node_converters={{{kind!r}: ...}}) is no type of nodes that have tasks; choose of {known}."
                )
            if not callable(converter):
                raise ConfigError(f"RenderConfig(node_converters={{{kind!r}: {converter!r}}}) cannot be called; give a function.")
            found[DbtResourceType(word)] = converter
        object.__setattr__(self, "node_converters", found or None)

    def _check_granularity(self) -> None:
        if not callable(self.granularity) and self.granularity not in (NODE, FOLDER, TAG):
            raise ConfigError(
                f"RenderConfig(granularity={self.granularity!r}) is not known here; choose 'node', 'folder' or 'tag', or give a function that takes "
                "a node and returns a word."
            )
        if not self.coarse:
            return
        conflicts = {
            "group_nodes_by_folder=True": self.group_nodes_by_folder,
            "should_detach_multiple_parents_tests=False": not self.should_detach_multiple_parents_tests,
            "asset_mode=AssetMode.PER_NODE": self.asset_mode is AssetMode.PER_NODE,
            **{f"node_converters={{DbtResourceType.{one.name}: ...}}": one in (self.node_converters or {}) for one in _GROUPED},
        }
        for name, given in conflicts.items():
            if given:
                raise ConfigError(
                    f"RenderConfig({name}) is about tasks of single nodes, but with granularity={self.granularity!r} a task stands for many; leave "
                    "one of them out."
                )

    @property
    def selection(self) -> Selection:
        """What dbt is told to select."""
        return Selection.of(self.select, self.exclude, self.selector)

    def _check_load(self) -> None:
        mode, selection = self.load_method, self.selection
        if mode is LoadMode.CUSTOM:
            raise ConfigError(
                "LoadMode.CUSTOM is a parser of its own that guesses what dbt would make of a project; here only dbt reads it: take "
                "LoadMode.AUTOMATIC, or a plan (`ledger-watcher plan`) where there is no dbt."
            )
        needs = {"plan_path": LoadMode.PLAN, "dbt_ls_path": LoadMode.DBT_LS_FILE}
        given = [name for name in needs if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError("RenderConfig(plan_path=..., dbt_ls_path=...): each of them says what is drawn; leave one of them out.")
        for name, its in needs.items():
            if mode is its and name not in given:
                raise ConfigError(f"RenderConfig(load_method=LoadMode.{mode.name}) needs {name}='...'.")
            if name in given and mode not in (its, LoadMode.AUTOMATIC):
                raise ConfigError(
                    f"RenderConfig({name}=...) is for LoadMode.{its.name}, load_method says {mode.name}; leave one of them out."
                )
        if self.plan_conn_id is not None and self.plan_path is None:
            raise ConfigError("RenderConfig(plan_conn_id=...) is for plan_path='...'; give that, or leave it out.")
        if self.dbt_ls_path is not None and selection:
            raise ConfigError(
                "RenderConfig(dbt_ls_path=...) says which nodes are selected, so select, exclude and selector have no meaning beside it: give them "
                "to the `dbt ls` that writes the file, or leave dbt_ls_path out."
            )
