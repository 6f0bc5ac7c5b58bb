"""A run that is looked at again and again while it grows, for pages that draw its timeline."""

from __future__ import annotations

import time

from ledger_watcher.errors import LedgerWatcherError
from ledger_watcher.ledger.follower import RunFollower
from ledger_watcher.ledger.layout import RunKey
from ledger_watcher.ledger.verify import read_artifact
from ledger_watcher.records import Artifact
from ledger_watcher.report.bars import History
from ledger_watcher.report.edges import Edges, known_edges, manifest_of
from ledger_watcher.report.source import Source
from ledger_watcher.state import RunState
from ledger_watcher.storage import Store


class LiveRun:
    """All of a run as far as it was read: every attempt, from its first segment on. Not thread-safe.

    ``problem`` is what stopped the last look; what was read before stays, and the next look goes on from there.
    """

    def __init__(self, store: Store, run: RunKey) -> None:
        self._store = store
        self._follower = RunFollower(store, run, whole=True)
        self._history = History()
        self._manifest: Artifact | None = None
        self._edges: tuple[Edges, list[str]] = None, []
        self._checked = False
        self.problem: LedgerWatcherError | None = None
        self.behind = False
        """There was more to read than the last look had time for."""
        self.objects = 0
        """How many were read: what has not changed since it was last asked for need not be drawn again."""

    @property
    def state(self) -> RunState:
        """What was read."""
        return self._follower.state

    @property
    def begun(self) -> bool:
        """Anything of the run was there."""
        return self._follower.begun

    def look(self, seconds: float = 2.0) -> None:
        """Read what is new, for about so long: one request if nothing is, and one more per new segment.

        A gap before later segments looks like the end of a run: the first look that gets there makes sure, later ones every 30 s.
        """
        until = time.monotonic() + seconds
        self.problem, self.behind = None, False
        try:
            while (found := self._follower.advance()) is not None:
                self._history.apply(found)
                self.objects += 1
                if time.monotonic() > until:
                    self.behind = True
                    return
            if not self._checked:
                self._follower.check_gap()
                self._checked = True
        except LedgerWatcherError as error:
            self.problem = error

    def source(self) -> Source:
        """What a timeline is made of, with remarks on what is not known."""
        notes = [f"This is only what stands before an error: {self.problem}"] if self.problem else []
        if self._follower.expired:
            notes.append(f"The first {self._follower.expired} segments of this run are gone: earlier attempts may be missing.")
        edges, why = self._known_edges()
        return Source(run=self._follower.run, state=self.state, history=self._history, parents=edges, notes=[*notes, *why])

    def _known_edges(self) -> tuple[Edges, list[str]]:
        """Read once per manifest: that of a big project takes a second."""
        stored = manifest_of(self.state)
        if self._edges[0] is None or stored != self._manifest:
            self._manifest = stored
            self._edges = known_edges(self.state, lambda one: read_artifact(self._store, self._follower.run, one))
        return self._edges
