"""What must hold after each attempt and each run of the campaign."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from ledger_watcher.capture.workspace import PREFIX
from ledger_watcher.state import RunState


class Broken(Exception):
    """A promise was broken; the message says which."""


def check_that(holds: object, what: str) -> None:
    """:raises Broken: it does not hold."""
    if not holds:
        raise Broken(what)


def done(state: RunState) -> set[str]:
    """What a ledger has as a success."""
    return {name for name, node in state.nodes.items() if node.finished is not None and node.finished.outcome.ok}


def outcomes(state: RunState) -> dict[str, str]:
    """The outcome of each node."""
    return {name: node.status for name, node in state.nodes.items()}


def check_attempt(number: int, before: Collection[str], begun: Collection[str]) -> None:
    """:raises Broken: it began a node that was a success already."""
    again = sorted(set(begun) & set(before))
    check_that(not again, f"attempt {number} ran nodes that the ledger had as successes: {again}")


def check_end(state: RunState, expected: Mapping[str, str]) -> None:
    """:raises Broken: the run did not end as an undisturbed one, or left something behind."""
    check_that(state.ended, "the ledger has no end")
    found = outcomes(state)
    odd = {name: (found.get(name), outcome) for name, outcome in expected.items() if found.get(name) != outcome}
    check_that(not odd, f"outcomes (found, expected) differ: {odd}")
    left = [path.name for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*")]
    check_that(not left, f"temporary folders are left: {left}")


def reap() -> None:
    """Wait until every descendant has ended: this process is their subreaper."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
