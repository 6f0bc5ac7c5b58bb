"""``ledger-watcher emit``: tell others of a run that the ledger has."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from ledger_watcher.cli._common import EXIT_ERROR, LedgerCommand, locate, say_error, say_note
from ledger_watcher.cli._runs import Reading, Wanted, patiently
from ledger_watcher.cli._select import entries, run_options, select
from ledger_watcher.emit import EMITTERS, Origin, Relay, check_emitters, make_emitter
from ledger_watcher.ledger.verify import read_artifact

_MANIFEST = "manifest.json"
_PATIENCE = 600.0


@click.command(cls=LedgerCommand, name="emit")
@click.argument("to", type=click.Choice(list(EMITTERS)))
@run_options
def emit(to: str, ledger: str, storage_options: tuple[str, ...], **named: Any) -> None:
    """Tell of a run in LEDGER: OpenLineage events, or OpenTelemetry spans. Without options it is the newest run.

    The same is told, with the same ids, as by `ledger-watcher run --emit` while the run goes on: for runs before that was set up, or when the
    service was away. Where to, the environment says (OPENLINEAGE_URL, OTEL_EXPORTER_OTLP_ENDPOINT, ...): see docs/emit.md. What depends on
    what comes from the manifest that the run stored. Of a run under way it is what there is so far.

    LEDGER is a root or the folder of one run, as `ls --uri` prints it; it may be left out if LEDGER_WATCHER_LEDGER is set.

    Exit codes: 0 everything was sent, whatever became of the run; 3 it was not, or the run could not be read; 2 is a mistake in the options.
    """
    check_emitters((to,))
    reading = select(locate(ledger, storage_options), Wanted(**named), whole=True)
    found = list(entries(reading))
    data = _manifest(reading)
    if data is None:
        say_note("The run has stored no manifest, so what depends on what is not told.")
    relay = Relay(to, partial(make_emitter, to, Origin(reading.run, lambda: data)), most_waiting=len(found) + 1)
    relay.put(found)
    problems = relay.close(_PATIENCE)
    for problem in problems:
        say_error(problem)
    if problems:
        sys.exit(EXIT_ERROR)
    say_note(f"Told {to} of {reading.run}.")


def _manifest(reading: Reading) -> bytes | None:
    newest_first = [attempt for _, attempt in sorted(reading.state.attempts.items(), reverse=True)]
    stored = next((attempt.artifacts[_MANIFEST] for attempt in newest_first if _MANIFEST in attempt.artifacts), None)
    return patiently(lambda: read_artifact(reading.store, reading.run, stored)) if stored is not None else None
