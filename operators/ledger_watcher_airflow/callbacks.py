"""Users' own functions: what they are called with, and what an error in one of them does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ledger_watcher.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from ledger_watcher.records import NodeFinished
    from ledger_watcher.state import RunState
    from ledger_watcher_airflow.decision import Watcher

Callback: TypeAlias = Callable[..., object]
Callbacks: TypeAlias = Callback | Sequence[Callback] | None

Warnings: TypeAlias = list[list[str]]
"""Name and message of each node that warned; lists, because it goes through an event of the triggerer as JSON."""


def checked(name: str, given: Callbacks) -> tuple[Callback, ...]:
    """One function or several, as a tuple.

    :param name: of the argument, for the error.
    :raises ConfigError: one of them cannot be called.
    """
    found = () if given is None else (given,) if callable(given) else tuple(given)
    for one in found:
        if not callable(one):
            raise ConfigError(f"{name} holds {one!r}, which cannot be called; give a function or a list of functions.")
    return found


def warnings_of(state: RunState, watcher: Watcher) -> Warnings:
    """The nodes of the watcher that ended with a warning."""
    from ledger_watcher_airflow.decision import fresh_record  # noqa: PLC0415 - a DAG file's parse needs none of it

    records = (fresh_record(state, unique_id, watcher.born) for unique_id in watcher.nodes)
    return warnings_among(record for record in records if record is not None)


def warnings_among(records: Iterable[NodeFinished]) -> Warnings:
    """Those of nodes that ended with a warning."""
    from ledger_watcher.records import Outcome  # noqa: PLC0415 - as above

    return [
        [record.name or record.unique_id.split(".")[2], record.message or record.status]
        for record in records
        if record.outcome is Outcome.WARN
    ]


def tell_of_warnings(callbacks: Sequence[Callback], context: Context, warnings: Warnings, log: Any) -> None:  # noqa: ANN401 - Airflow's loggers
    """Call each with the context and, in it, ``test_names`` and ``test_results``, in the same order.

    An error in one is logged and does not change what became of the task, as in Airflow's own callbacks.
    """
    more = {"test_names": [name for name, _ in warnings], "test_results": [message for _, message in warnings]}
    for callback in callbacks:
        try:
            callback({**context, **more})
        except Exception:  # noqa: PERF203 - one after another, each on its own
            log.exception("on_warning_callback %r failed", callback)


def tell_of_artifacts(
    callbacks: Sequence[Callback], project_dir: Callable[[], Path], arguments: Mapping[str, Any], context: Context
) -> None:
    """Call each with the project's folder, where dbt's artifacts are below ``target``, and ``arguments``.

    The folder is asked for only if there is a callback. One that takes ``context`` gets that, too. An error in one is raised, and those behind it are not called.
    """
    for callback in callbacks:
        more = {"context": context} if _takes_context(callback) else {}
        callback(str(project_dir()), **{**more, **arguments})


def _takes_context(callback: Callback) -> bool:
    parameters = inspect.signature(callback).parameters
    return "context" in parameters or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
