"""The earlier run that tells how long a run will take."""

from __future__ import annotations

from contextlib import suppress

from ledger_watcher.cli._runs import Reading, Wanted, find_runs, newest_first
from ledger_watcher.errors import LedgerWatcherError
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.report.eta import Past
from ledger_watcher.storage import Store

_LOOKED_AT = 50
"""So many runs of the DAG, the last ones by name (Airflow's run ids of one type have the time in them), are asked when they began."""
_READ = 5
"""So many of those, the newest ones, are read."""


def past_of(store: Store, run: RunKey) -> Past | None:
    """What the run before took: of the same DAG, group and map index, ended; one that went well comes before one that did not.

    ``None`` if there is none, or it cannot be read: then an estimate has to do without.
    """
    fallback: Past | None = None
    with suppress(LedgerWatcherError):
        for reading in _candidates(store, run):
            state = Reading(store, reading.run).advance().state
            attempt = state.attempt
            past = Past.of(reading.run.run_id, state) if attempt is not None and attempt.finished is not None else None
            if past is not None and attempt is not None and attempt.finished is not None and attempt.finished.exit_code == 0:
                return past
            fallback = fallback or past
    return fallback


def _candidates(store: Store, run: RunKey) -> list[Reading]:
    wanted = Wanted(deployment=run.deployment, dag_id=run.dag_id, group=run.group, map_index=run.map_index)
    others = [other for other in find_runs(store, wanted) if other != run]
    return [reading for reading in newest_first(store, others[-_LOOKED_AT:]) if reading.problem is None][:_READ]
