"""The one way to run dbt with a ledger: check, claim, run, record, fill gaps, store artifacts, end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ledger_watcher import __version__, codec
from ledger_watcher.capture.argv import without_output_variables
from ledger_watcher.capture.artifacts import Target
from ledger_watcher.capture.console import Console
from ledger_watcher.capture.events import EventParser
from ledger_watcher.capture.inprocess import InProcessDbt
from ledger_watcher.capture.process import DbtProcess
from ledger_watcher.capture.reconcile import reconcile
from ledger_watcher.capture.redact import Masker, redact
from ledger_watcher.capture.request import CaptureRequest, CaptureResult, Checked
from ledger_watcher.capture.runner import INTERRUPTED, Launch, Runner
from ledger_watcher.errors import Fenced, LedgerWatcherError
from ledger_watcher.ledger import Entry, LedgerWriter, RunKey, WriterOptions
from ledger_watcher.records import AttemptFinished, AttemptStarted, EndedBy, Plan, Record, bounded_message, utcnow
from ledger_watcher.state import RunState
from ledger_watcher.storage import Store

_SIGNALLED = 128
_NOT_HANDLED = 2


@dataclass(frozen=True, slots=True)
class _Ended:
    """How dbt ended, before the ledger does."""

    exit_code: int | None
    ended_by: EndedBy
    message: str | None
    incomplete: str | None
    raised: BaseException | None


class Capture:
    """One attempt: :meth:`run` it once, :meth:`interrupt` it from anywhere."""

    def __init__(self, store: Store, run: RunKey, request: CaptureRequest, *, options: WriterOptions | None = None) -> None:
        self._writer = LedgerWriter(store, run, options=options, on_fenced=self._fenced)
        self._request = request
        self._state = RunState()
        self._problems: list[str] = []
        self._runner: Runner | None = None
        self._console: Console | None = None
        self._interrupted = False
        self._result: CaptureResult | None = None

    @property
    def result(self) -> CaptureResult | None:
        """The result as soon as dbt and the ledger have ended, also when :meth:`run` raised then."""
        return self._result

    def interrupt(self) -> None:
        """Interrupt dbt, or keep it from starting. May be called from any thread and from a signal handler, more than once."""
        self._interrupted = True
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
        self._open(checked)
        try:
            ended = self._attempt(checked)
        except BaseException as error:
            # dbt could not be started, or a mistake in this package: the ledger must not look as if the attempt still ran
            with suppress(LedgerWatcherError):
                self._close(_Ended(None, EndedBy.EXIT, bounded_message(f"{type(error).__name__}: {error}"), None, error))
            raise
        result = self._close(ended)
        if ended.raised is not None:
            raise ended.raised
        return result

    # In the order of things -----------------------------------------------------------------------------------------

    def _open(self, checked: Checked) -> None:
        request, mask = self._request, Masker(checked.env).text
        now = utcnow()
        started = AttemptStarted(
            ts=now,
            attempt=0,
            command=tuple(mask(part) for part in checked.command.redacted()),
            invocation="in_process" if request.in_process else "subprocess",
            producer_started_at=request.producer_started_at or now,
            host=socket.gethostname(),
            pid=os.getpid(),
            try_number=request.try_number,
            clear_number=request.clear_number,
            version=__version__,
        )
        self._state.apply(self._writer.open(started))
        self._fold([replace(started, attempt=self._writer.epoch)])
        if request.plan is not None:
            self._append([Plan(ts=utcnow(), unique_ids=request.plan, source=request.plan_source)])

    def _attempt(self, checked: Checked) -> _Ended:
        target = Target.prepare(checked.command, checked.project, checked.env)
        try:
            masker = Masker(checked.env, target.folders(checked.project))
            parser = EventParser(parents=target.parents, mask=masker.text)
            runner = self._runner = self._make_runner(checked, target, parser, masker)
            exit_code = INTERRUPTED if self._interrupted else runner.run()
            try:
                self._complete(parser, target, masker)
            except Exception as error:  # noqa: BLE001 - what dbt did is known by now, and must not get lost
                runner.problems.append(f"what dbt left could not be read: {type(error).__name__}: {error}")
            lost = [*parser.problems, *runner.problems]
            self._problems += lost
            message = parser.error or self._reason(exit_code, runner)
            return _Ended(
                exit_code=exit_code,
                ended_by=self._ended_by(exit_code, runner),
                message=bounded_message(masker.text(message)) if message else None,
                incomplete=bounded_message("; ".join(lost)),
                raised=runner.raised,
            )
        finally:
            target.remove()

    def _make_runner(self, checked: Checked, target: Target, parser: EventParser, masker: Masker) -> Runner:
        request, command = self._request, checked.command
        forward = request.forward or _print

        def sink(event: Mapping[str, Any]) -> None:
            self._append(parser.feed(event))

        if request.in_process:
            launch = Launch(argv=tuple(command.dbt_args), env={**request.env, **target.env}, cwd=checked.cwd)
            return InProcessDbt(launch, sink=sink, grace=request.grace)
        env = {**without_output_variables(checked.env), **target.env}
        self._console = Console(command.output(checked.env), lambda line: forward(masker.text(line)))
        launch = Launch(argv=(checked.executable, *command.capturing()[1:]), env=env, cwd=checked.cwd)
        return DbtProcess(launch, sink=sink, console=self._console, grace=request.grace)

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

    def _close(self, ended: _Ended) -> CaptureResult:
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

    def _append(self, records: Iterable[Record]) -> None:
        for record in records:
            self._writer.append(record)
            self._fold([record])

    def _fold(self, records: Iterable[Record]) -> None:
        self._state.apply(Entry(0, self._writer.epoch, record) for record in records)

    def _fenced(self, _error: Fenced) -> None:
        self.interrupt()

    def _ended_by(self, exit_code: int, runner: Runner) -> EndedBy:
        if runner.raised is not None:
            return EndedBy.TIMEOUT if "timeout" in type(runner.raised).__name__.lower() else EndedBy.SIGNAL
        interrupted = self._interrupted or runner.interrupted
        return EndedBy.SIGNAL if (interrupted and exit_code) or exit_code > _SIGNALLED else EndedBy.EXIT

    def _reason(self, exit_code: int, runner: Runner) -> str | None:
        """Why dbt ended as it did, if it did not say so in an event."""
        if runner.raised is not None:
            return f"dbt was interrupted by {type(runner.raised).__name__}: {runner.raised}"
        if exit_code > _SIGNALLED and not (exit_code == INTERRUPTED and self._interrupted):
            number = exit_code - _SIGNALLED
            name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
            return f"dbt was killed by {name}" + (" (often the system is out of memory)" if number == signal.SIGKILL else "")
        if exit_code and (self._interrupted or runner.interrupted):
            return "dbt was interrupted"
        return runner.error if exit_code >= _NOT_HANDLED else None


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - dbt's console
