"""The one way to run dbt with a ledger: check, claim, run, record, fill gaps, store artifacts, end."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from ledger_watcher import __version__, codec
from ledger_watcher.capture.argv import Output, without_output_variables
from ledger_watcher.capture.artifacts import Target
from ledger_watcher.capture.console import Console
from ledger_watcher.capture.ending import Ended, ended_by, reason
from ledger_watcher.capture.events import EventParser
from ledger_watcher.capture.plan import list_command, listed
from ledger_watcher.capture.process import DbtProcess
from ledger_watcher.capture.reconcile import reconcile
from ledger_watcher.capture.redact import Masker, redact
from ledger_watcher.capture.request import CaptureRequest, CaptureResult, Checked
from ledger_watcher.capture.resume import decide, judged, nothing_left, scope_of, write_state
from ledger_watcher.capture.runner import INTERRUPTED, Launch, Runner, Sink
from ledger_watcher.capture.start import Start
from ledger_watcher.capture.workspace import Workspace
from ledger_watcher.errors import ConfigError, Fenced, LedgerWatcherError
from ledger_watcher.ledger import ChainReader, Entry, LedgerWriter, RunKey, WriterOptions
from ledger_watcher.records import AttemptFinished, AttemptStarted, Record, bounded_message, utcnow
from ledger_watcher.state import RunState
from ledger_watcher.storage import Store

log = logging.getLogger(__name__)

HURRY = 3.0
"""Seconds for what is left to write, once somebody who interrupts has seen dbt end."""


class _NothingToRun(Exception):
    """The attempt is over before dbt has built anything."""

    def __init__(self, ended: Ended) -> None:
        self.ended = ended


class Capture:
    """One attempt: :meth:`run` it once, :meth:`interrupt` it from anywhere."""

    def __init__(self, store: Store, run: RunKey, request: CaptureRequest, *, options: WriterOptions | None = None) -> None:
        self._store = store
        self._options = options or WriterOptions()
        self._writer = LedgerWriter(store, run, options=self._options, on_fenced=self._fenced)
        self._request = request
        self._state = RunState()
        self._problems: list[str] = []
        self._runner: Runner | None = None
        self._console: Console | None = None
        self._interrupted = False
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
        self._interrupted = True
        if self._dbt_ended:
            self._writer.finish_within(HURRY)
        runner = self._runner  # set before run() looks at the flag, so that no interrupt falls in between
        if runner is not None:
            runner.interrupt()

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
        self._state.apply(self._writer.open(started, after=request.after))
        self._fold([replace(started, attempt=self._writer.epoch)])

    def _attempt(self, checked: Checked) -> Ended:
        if self._writer.takeover_wait:
            log.info(
                "The attempt before has no end, so its dbt may still run: it is fenced now, and has %.0f s to end.",
                self._writer.takeover_wait,
            )
            until = time.monotonic() + self._writer.takeover_wait
            while not self._interrupted and time.monotonic() < until:
                time.sleep(0.1)  # not an Event, which a signal handler must not set
        with Workspace() as workspace:
            target = Target.prepare(checked.command, checked.project, checked.env, workspace)
            try:
                narrowed, todo = self._narrow(checked, target, workspace)
            except _NothingToRun as nothing:
                log.info("%s", nothing.ended.message)
                return nothing.ended
            ended, problem = judged(self._run_dbt(narrowed, target, workspace), self._state, todo)
            self._problems += [problem] if problem else []
            return ended

    def _narrow(self, checked: Checked, target: Target, workspace: Workspace) -> tuple[Checked, frozenset[str]]:
        """The request for what is left to build, and that (nothing: all there is), with the successes taken over in the ledger."""
        past = RunState({epoch: one for epoch, one in self._state.attempts.items() if epoch < self._writer.epoch}, self._state.nodes)
        scope = decide(checked, self._request, past, lambda: self._ask_dbt(checked, target, workspace))
        self._append([*([scope.plan] if scope.plan is not None else []), *scope.carried])
        if scope.todo is None:
            return checked, frozenset()
        if not scope.todo:
            raise _NothingToRun(nothing_left(scope))
        log.info("%s", scope.note)
        state = workspace.folder("state")
        write_state(state, scope.todo)
        return replace(checked, command=checked.command.narrowed(str(state), checked.env)), scope.todo

    def _ask_dbt(self, checked: Checked, target: Target, workspace: Workspace) -> frozenset[str]:
        lines: list[str] = []
        request = self._request
        launch = Launch(
            argv=list_command(checked.command, checked.executable, in_process=request.in_process),
            env={**without_output_variables(checked.env), **target.env},
            cwd=checked.cwd,
            inherited=workspace.inherited,
        )
        log.info("dbt ls is asked which nodes the run has, since attempts before this one did part of it.")
        runner = self._runner = DbtProcess(launch, sink=lambda _event: None, console=Console(Output(), lines.append), grace=request.grace)
        exit_code = INTERRUPTED if self._interrupted else runner.run()
        if exit_code or self._interrupted or runner.raised:
            why = reason(exit_code or INTERRUPTED, runner, interrupted=self._interrupted) or f"exit code {exit_code}"
            message = bounded_message(checked.masker().text(f"dbt ls did not say what is left to build: {why}"))
            by = ended_by(exit_code or INTERRUPTED, runner, interrupted=self._interrupted)
            raise _NothingToRun(Ended(exit_code=exit_code or INTERRUPTED, ended_by=by, message=message, raised=runner.raised))
        return listed(checked.command, lines)

    def _run_dbt(self, checked: Checked, target: Target, workspace: Workspace) -> Ended:
        masker = checked.masker(target.folders(checked.project))
        parser = EventParser(parents=target.parents, mask=masker.text)
        started = Start(request=self._request, checked=checked, target=target, inherited=workspace.inherited, masker=masker)
        runner, self._console = started.runner(self._sink(parser))
        self._runner = runner
        exit_code = INTERRUPTED if self._interrupted else runner.run()
        self._dbt_ended = True
        self._writer.finish_within(self._options.drain_timeout)
        try:
            self._complete(parser, target, masker)
        except Exception as error:  # noqa: BLE001 - what dbt did is known by now, and must not get lost
            runner.problems.append(f"what dbt left could not be read: {type(error).__name__}: {error}")
        lost = [*parser.problems, *runner.problems]
        self._problems += lost
        message = parser.error or reason(exit_code, runner, interrupted=self._interrupted)
        return Ended(
            exit_code=exit_code,
            ended_by=ended_by(exit_code, runner, interrupted=self._interrupted),
            message=bounded_message(masker.text(message)) if message else None,
            incomplete=bounded_message(masker.text("; ".join(lost))),
            raised=runner.raised,
        )

    def _complete(self, parser: EventParser, target: Target, masker: Masker) -> None:
        """Add what the events did not say, store the artifacts, and leave them where plain dbt would have."""
        self._append(parser.close())
        for name, data in target.written(parser.invocation_id).items():
            try:
                stored = redact(name, data, masker)
                if name == "run_results.json":
                    self._append(reconcile(self._state, codec.loads(stored)))
                if self._writer.error is None:
                    self._fold([self._writer.put_file(name, stored)])
            except (ValueError, LedgerWatcherError) as error:  # noqa: PERF203 - three artifacts
                self._problems.append(f"{name} is not in the ledger: {error}")
        self._problems += target.put_back(masker)
        if self._console is not None and self._console.problem is not None:
            self._problems.append(self._console.problem)

    def _close(self, ended: Ended) -> CaptureResult:
        finished = AttemptFinished(
            ts=utcnow(), exit_code=ended.exit_code, ended_by=ended.ended_by, message=ended.message, incomplete=ended.incomplete
        )
        digest: str | None = None
        try:
            digest = self._writer.close(finished)
            self._fold([finished])
        except LedgerWatcherError as error:
            self._problems.append(str(error))
            vars(error)["exit_code"] = ended.exit_code
            raise
        finally:
            self._result = CaptureResult(
                exit_code=ended.exit_code,
                ended_by=ended.ended_by,
                end_sha256=digest,
                state=self._state,
                message=ended.message,
                problems=tuple(self._problems),
            )
        return self._result

    # Helpers --------------------------------------------------------------------------------------------------------

    def _sink(self, parser: EventParser) -> Sink:
        return lambda event: self._append(parser.feed(event))

    def _append(self, records: Iterable[Record]) -> None:
        for record in records:
            self._writer.append(record)
            self._fold([record])

    def _fold(self, records: Iterable[Record]) -> None:
        self._state.apply(Entry(0, self._writer.epoch, record) for record in records)

    def _fenced(self, _error: Fenced) -> None:
        self.interrupt()
