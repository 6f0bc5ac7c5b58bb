"""The plan: what a DAG is drawn from, as one small file. It holds the nodes of a project and which of them dbt selects.

It is made where dbt is (``ledger-watcher plan``) and read where the DAG file is parsed, which needs no dbt, no project and no manifest then. What
dbt answers when a DAG file is parsed is kept in the same form.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ledger_watcher import __version__, plain
from ledger_watcher.errors import ConfigError, LedgerWatcherError
from ledger_watcher.project.cache import Cache, named
from ledger_watcher.project.place import Place
from ledger_watcher.project.selection import Selection
from ledger_watcher.project.view import ProjectView, pack_view, unpack_view

FORMAT = 1
_KEY = "ledger_watcher_plan"


def pack_plan(view: ProjectView) -> bytes:
    """The view with its selection, as a JSON document. The same view always gives the same bytes."""
    chosen = None if view.selected is None else sorted(view.selected)
    head = {_KEY: FORMAT, "version": __version__, "selection": asdict(view.selection), "selected": chosen}
    return plain.dumps({**head, "project": pack_view(view)})


def unpack_plan(data: bytes, where: str) -> ProjectView:
    """The view of :func:`pack_plan`'s document, also of another version of this package.

    :param where: its name, for the error.
    :raises ConfigError: it is none, or of a format that is not known here.
    """
    try:
        found: Any = plain.loads(data)
        number = found[_KEY]
        if number == FORMAT:
            told = found["selection"]
            words = {name: tuple(told[name]) for name in ("select", "exclude", "options")}
            selection = Selection(**words, selector=told["selector"], exactly=told["exactly"])
            chosen = None if found["selected"] is None else frozenset(found["selected"])
            return replace(unpack_view(found["project"], exactly=False), selected=chosen, selection=selection)
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{where} is no plan ({type(error).__name__}: {error}). {_ADVICE}") from error
    raise ConfigError(
        f"{where} is a plan of format {number!r}, this version of ledger-watcher ({__version__}) reads {FORMAT}: upgrade it here, or make the plan "
        "with this version."
    )


def load_plan(place: Place) -> ProjectView:
    """The view of a plan file. Of a remote one a copy is kept, and each call asks its storage whether it is still the same.

    :raises ConfigError: missing, unreadable, or no plan.
    """
    cache = Cache.local()
    try:
        version = place.version()
        kept = named("remote", place.name, version) if version and place.is_remote else None
        data = cache.get(kept) if kept else None
        if data is None:
            data = place.read()
            if kept:
                cache.put(kept, data)
    except (OSError, LedgerWatcherError) as error:
        raise ConfigError(f"The plan {place.name} cannot be read: {error}. {_ADVICE}") from error
    return unpack_plan(data, place.name)


_ADVICE = (
    "Make it where dbt and the project are, with `ledger-watcher plan --output PLAN -- dbt build ...`, and say RenderConfig(plan_path=...)."
)
