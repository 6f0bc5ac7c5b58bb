"""Which nodes a DAG has: from a manifest, a plan, an output of ``dbt ls``, or from dbt itself. Called whenever a DAG file is parsed.

As long as nothing has changed, neither dbt nor a library of a cloud is imported or started, unless something of it lies in a cloud: then its
storage is asked whether it is still the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ledger_watcher.errors import ConfigError
from ledger_watcher.project import Cache, Place, ProjectView, Question, Selection, load_listing, load_plan, load_project
from ledger_watcher.project.fingerprint import dbt_identity
from ledger_watcher_airflow.config import ExecutionConfig, LoadMode, ProfileConfig, ProjectConfig, RenderConfig
from ledger_watcher_airflow.flags import DbtCall, DbtFlags
from ledger_watcher_airflow.late import is_late
from ledger_watcher_airflow.ledger import connected_filesystem

_SELECTING = ("select", "exclude", "selector")


def load(
    project: ProjectConfig, profile: ProfileConfig, execution: ExecutionConfig, render: RenderConfig, operator_args: Mapping[str, Any]
) -> ProjectView:
    """The nodes of the project, which of them are drawn, and how dbt is told to build the same.

    :raises ConfigError: they cannot be had; says how.
    """
    flags, _ = DbtFlags.split({**operator_args, **(execution.setup_operator_args or {})})
    flags.selecting(render.selection)  # refuses what contradicts it
    if render.dbt_project_path is not None:
        project = replace(project, dbt_project_path=render.dbt_project_path)
        project.check()
    here = partial(_asked, project, profile, execution, render, flags)
    mode = _mode(project, render)
    if mode is LoadMode.PLAN:
        return _planned(render)
    if mode is LoadMode.DBT_LS_FILE:
        listing = load_listing(Place.of(str(render.dbt_ls_path)))
        return listing if project.manifest_path is None else _narrowed(load_project(_manifest(project)), listing)
    narrowed_when_built = bool(
        flags.given(_SELECTING)
    )  # dbt build then leaves the default selector out: get_selection_spec in dbt/task/runnable.py
    if mode is LoadMode.DBT_LS:
        listed = here()
        return replace(listed, selected=None) if listed.default_selector and narrowed_when_built else listed
    view = load_project(_manifest(project))
    if render.selection:
        return _narrowed(view, here())
    if view.default_selector and not narrowed_when_built:
        return _narrowed(view, here(default=view.default_selector))
    return view


def _mode(project: ProjectConfig, render: RenderConfig) -> LoadMode:
    """Where the nodes come from, if nobody said.

    :raises ConfigError: there is neither a project nor anything else here.
    """
    mode = render.load_method
    if mode is LoadMode.AUTOMATIC and (render.plan_path is not None or render.dbt_ls_path is not None):
        return LoadMode.PLAN if render.plan_path is not None else LoadMode.DBT_LS_FILE
    if mode is LoadMode.AUTOMATIC and project.manifest_path is not None:
        return LoadMode.DBT_MANIFEST
    only_here = mode in (LoadMode.AUTOMATIC, LoadMode.DBT_LS) or (mode is LoadMode.DBT_MANIFEST and project.manifest_path is None)
    if only_here and not project.project_dir.is_dir():
        raise ConfigError(
            f"There is no dbt project at {project.project_dir}. Correct ProjectConfig(dbt_project_path=...), or, if the project is only where dbt "
            "runs, give ProjectConfig(manifest_path=...) or RenderConfig(plan_path=...) as well."
        )
    if mode is LoadMode.AUTOMATIC:
        return LoadMode.DBT_LS if render.selection or not _default_manifest(project).is_file() else LoadMode.DBT_MANIFEST
    return mode


def _default_manifest(project: ProjectConfig) -> Path:
    return project.project_dir / "target" / "manifest.json"


def _manifest(project: ProjectConfig) -> Place:
    return _place(project.manifest_path or _default_manifest(project), project.manifest_conn_id, "leave manifest_conn_id out")


def _place(where: str | Path, conn_id: str | None, otherwise: str) -> Place:
    filesystem = partial(connected_filesystem, str(where), conn_id, otherwise) if conn_id else None
    return Place.of(where, filesystem=filesystem)


def _planned(render: RenderConfig) -> ProjectView:
    view = load_plan(_place(render.plan_path or "", render.plan_conn_id, "leave plan_conn_id out"))
    made, given = view.selection, render.selection
    if given and given != replace(made, options=()):
        raise ConfigError(
            f"The plan {render.plan_path} was made for {_shown(made)}, RenderConfig selects {_shown(given)}: leave that out, or make the plan again with "
            f"`{_command(given)}`."
        )
    return view


def _narrowed(view: ProjectView, answer: ProjectView) -> ProjectView:
    """The manifest's nodes, of which dbt has selected some.

    :raises ConfigError: dbt knows nodes that the manifest does not.
    """
    chosen = frozenset(answer.nodes) if answer.selected is None else answer.selected
    missing = sorted(chosen - view.nodes.keys())
    if missing:
        raise ConfigError(
            f"dbt selects {missing[0]} (and {len(missing) - 1} more), which the manifest does not have: it is older than the project. Make it again with "
            "`dbt parse`, or leave manifest_path out, so that dbt is asked for all."
        )
    return replace(view, selected=chosen, selection=answer.selection)


def _asked(
    project: ProjectConfig, profile: ProfileConfig, execution: ExecutionConfig, render: RenderConfig, flags: DbtFlags, default: str = ""
) -> ProjectView:
    """dbt's answer, from the cache or from dbt. ``default``: the selector that dbt takes itself."""
    selection = render.selection
    late = [name for name in ("vars", "env", "target") if is_late(getattr(flags, name))]
    if late:
        raise ConfigError(
            f"operator_args[{late[0]!r}] is known only when tasks run, but dbt is asked which nodes there are when the DAG file is parsed: make a plan with "
            f"`{_command(selection)}`, and say RenderConfig(plan_path=...)."
        )
    told = {name: getattr(selection, name) for name in _SELECTING}
    project = replace(project, dbt_project_path=project.project_dir.absolute())
    call = DbtCall(project=project, profile=profile, flags=replace(flags, **told))
    executable = _executable(execution, render)
    question = Question(
        command=call.argv(executable or "dbt"),
        in_process=executable is None,
        project_dir=project.project_dir,
        selection=selection,
        env=call.env,
        files=(profile.file or Path("~/.dbt/profiles.yml").expanduser(),),
        also=_mapping(profile),
        deps=flags.install_deps,
    )
    cache = _cache()
    known = question.known(cache)
    if known is not None:
        return known
    from ledger_watcher.capture.listing import ask  # noqa: PLC0415 - only where dbt is started
    from ledger_watcher_airflow.profiles.placed import placed  # noqa: PLC0415

    @contextmanager
    def started(question: Question) -> Iterator[Question]:
        with placed(call) as real:
            yield replace(question, command=real.argv(executable or "dbt"), env=real.env)

    try:
        return ask(question, cache, started=started)
    except ConfigError as error:
        means = _shown(selection) if selection else f"the selector {default!r}, which selectors.yml makes the default,"
        why = (
            f"Which nodes {means} means is for dbt to say, and it did not"
            if selection or default
            else f"There is no manifest at {_default_manifest(project)} (`dbt parse` makes one; or name it with ProjectConfig(manifest_path=...)), so dbt "
            "was asked for the nodes of the project, and did not answer"
        )
        raise ConfigError(
            f"{why}: {error}\nCorrect that, or name a dbt that can with RenderConfig(dbt_executable_path=...). Or make a plan where dbt is, "
            f"`{_command(selection)}` with the profile and variables of the DAG, and say RenderConfig(plan_path='plan.json')."
        ) from error


def _executable(execution: ExecutionConfig, render: RenderConfig) -> str | None:
    """The dbt that is asked; ``None``: the one that this Python can import."""
    if render.dbt_executable_path is not None:
        return str(render.dbt_executable_path)
    if execution.dbt_executable_path is not None and execution.producer is None:
        return str(execution.dbt_executable_path)
    return None if dbt_identity(None) else "dbt"


def _mapping(profile: ProfileConfig) -> tuple[str, ...]:
    """What is known of a profile of an Airflow connection without looking it up."""
    mapping = profile.profile_mapping
    if mapping is None:
        return ()
    kind = type(mapping)
    return (f"{kind.__module__}.{kind.__qualname__}", *(repr(getattr(mapping, name, "")) for name in ("conn_id", "profile_args")))


def _cache() -> Cache:
    """That of this machine, and the one that Airflow's configuration names."""
    from airflow.sdk.configuration import conf  # noqa: PLC0415

    local = Cache.local()
    uri = conf.get("ledger_watcher", "remote_cache_dir", fallback=None)
    if not uri:
        return local
    from ledger_watcher.storage import open_store  # noqa: PLC0415 - only where machines share a cache

    conn_id = conf.get("ledger_watcher", "remote_cache_dir_conn_id", fallback=None)
    filesystem = partial(connected_filesystem, uri, conn_id, "leave remote_cache_dir_conn_id out") if conn_id else None
    return replace(local, shared=open_store(uri, filesystem=filesystem))


def _shown(selection: Selection) -> str:
    return shlex.join(selection.words) or "the whole project"


def _command(selection: Selection) -> str:
    return shlex.join(("ledger-watcher", "plan", "--output", "plan.json", "--", "dbt", "build", *selection.words))
