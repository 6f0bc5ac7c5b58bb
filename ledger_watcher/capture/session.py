"""The one way to run dbt with a ledger: check, claim, run, record, fill gaps, store artifacts, end."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial

from ledger_watcher import __version__
from ledger_watcher.capture.artifacts import Target
from ledger_watcher.capture.book import Book
from ledger_watcher.capture.dbt import Dbt
from ledger_watcher.capture.ending import Ended
from ledger_watcher.capture.request import CaptureRequest, CaptureResult, Checked
from ledger_watcher.capture.resume import scope_of
from ledger_watcher.capture.stages import Stages
from ledger_watcher.capture.workspace import Workspace
from ledger_watcher.emit import Origin, Relay, make_emitter
from ledger_watcher.errors import ConfigError, Fenced, LedgerWatcherError
from ledger_watcher.ledger import ChainReader, Entry, LedgerWriter, RunKey, WriterOptions
from ledger_watcher.records import AttemptFinished, AttemptStarted, bounded_message, utcnow
from ledger_watcher.storage import Store

log = logging.getLogger(__name__)

HURRY = 3.0
"""Seconds for what is left to write, once somebody who interrupts has seen dbt end."""


class Capture:
    """One attempt: :meth:`run` it once, :meth:`interrupt` it from anywhere."""

    def __init__(self, store: Store, run: RunKey, request: CaptureRequest, *, options: WriterOptions | None = None) -> None:
        self._store = store
        self._options = options or WriterOptions()
        self._writer = LedgerWriter(store, run, options=self._options, on_fenced=self._fenced)
        self._request = request
        self._target: Target | None = None
        self._relays: list[Relay] = []
        self._book = Book(self._writer, self._tell)
        self._dbt = Dbt(request)
        self._dbt_ended = False
        self._result: CaptureResult | None = None

    @property
    def result(self) -> CaptureResult | None:
        """The result as soon as dbt and the ledger have ended, also when :meth:`run` raised then."""
        return self._result

    def interrupt(self) -> None:
        """Interrupt dbt, or keep it from starting. May be called from any thread and from a signal handler, more than once.

        When dbt has ended and the storage is away, give up waiting for it in :data:`HURRY` seconds.
        """
        if self._dbt_ended:
            self._writer.finish_within(HURRY)
        self._dbt.interrupt()

    def run(self) -> CaptureResult:
        """Run dbt to its end, whatever happens to the ledger meanwhile, and return when the ledger's end is durable.

        In a thread that lives as long: dbt is interrupted when it dies.

        :raises ConfigError: the command, the project or the storage is not usable; dbt was not started.
        :raises StorageError: the ledger cannot be opened; dbt was not started.
        :raises Fenced: another attempt took the run over; dbt was interrupted. :attr:`result` and the error's ``exit_code`` have its code.
        :raises WriterStopped: the storage stayed out of reach until after dbt had ended; as for Fenced.
        :raises BaseException: whatever was raised into the run from outside (a timeout), when dbt and the ledger have ended.
        """
        checked = Checked.of(self._request)
        if self._request.resume:
            self._check_resumable()
        self._open(checked)
        try:
            ended = self._attempt(checked)
        except BaseException as error:
            # dbt could not be started, or a mistake in this package: the ledger must not look as if the attempt still ran
            with suppress(LedgerWatcherError):
                self._close(
                    Ended(exit_code=None, message=bounded_message(checked.masker().text(f"{type(error).__name__}: {error}")), raised=error)
                )
            raise
        result = self._close(ended)
        if ended.raised is not None:
            raise ended.raised
        return result

    # In the order of things -----------------------------------------------------------------------------------------

    def _check_resumable(self) -> None:
        reader = ChainReader(self._store, self._writer.run)
        reader.open(whole=True)
        if reader.last is None:
            raise ConfigError(
                f"There is nothing to resume: the ledger {self._store.root} has no attempt of {self._writer.run}. "
                "Correct the run's id (`ledger-watcher ls` shows them), or leave out --resume."
            )

    def _open(self, checked: Checked) -> None:
        request = self._request
        now = utcnow()
        started = AttemptStarted(
            ts=now,
            attempt=0,
            command=checked.recorded,
            invocation="in_process" if request.in_process else "subprocess",
            producer_started_at=request.producer_started_at or now,
            host=socket.gethostname(),
            pid=os.getpid(),
            try_number=request.try_number,
            clear_number=request.clear_number,
            version=__version__,
            scope=scope_of(request),
            task_id=request.task_id,
        )
        self._book.state.apply(self._writer.open(started, after=request.after))
        origin = Origin(self._writer.run, self._manifest)
        self._relays = [Relay(name, partial(make_emitter, name, origin)) for name in request.emit]
        self._book.fold([replace(started, attempt=self._writer.epoch)])

    def _attempt(self, checked: Checked) -> Ended:
        if self._writer.takeover_wait:
            log.info(
                "The attempt before has no end, so its dbt may still run: it is fenced now, and has %.0f s to end.",
                self._writer.takeover_wait,
            )
            until = time.monotonic() + self._writer.takeover_wait
            while not self._dbt.interrupted and time.monotonic() < until:
                time.sleep(0.1)  # not an Event, which a signal handler must not set
        with Workspace() as workspace:
            target = self._target = Target.prepare(checked.command, checked.project, checked.env, workspace)
            stages = Stages(request=self._request, checked=checked, target=target, workspace=workspace, dbt=self._dbt, book=self._book)
            ended = stages.run()
            self._dbt_ended = True
            self._writer.finish_within(self._options.drain_timeout)
            stages.leave()
            return ended

    def _close(self, ended: Ended) -> CaptureResult:
        finished = AttemptFinished(
            ts=utcnow(), exit_code=ended.exit_code, ended_by=ended.ended_by, message=ended.message, incomplete=ended.incomplete
        )
        digest: str | None = None
        try:
            digest = self._writer.close(finished)
            self._book.fold([finished])
        except LedgerWatcherError as error:
            self._tell([Entry(0, self._writer.epoch, finished)])  # dbt has ended, whatever became of the ledger
            self._book.problems.append(str(error))
            vars(error)["exit_code"] = ended.exit_code
            raise
        finally:
            self._book.problems += [problem for relay in self._relays for problem in relay.close()]
            self._result = CaptureResult(
                exit_code=ended.exit_code,
                ended_by=ended.ended_by,
                end_sha256=digest,
                state=self._book.state,
                message=ended.message,
                problems=(*self._dbt.problems, *self._book.problems),
            )
        return self._result

    # Helpers --------------------------------------------------------------------------------------------------------

    def _tell(self, entries: list[Entry]) -> None:
        for relay in self._relays:
            relay.put(entries)

    def _manifest(self) -> bytes | None:
        """What dbt has written into the folder of this attempt; when dbt has ended, it may have been moved to the user's already."""
        if self._target is None:
            return None
        data = self._target.read("manifest.json")
        if data is None and self._dbt_ended:
            with suppress(OSError):
                data = (self._target.user / "manifest.json").read_bytes()
        return data

    def _fenced(self, _error: Fenced) -> None:
        self.interrupt()
