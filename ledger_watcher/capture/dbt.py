"""The dbt of one attempt: invoked once or, stage by stage, several times, and interrupted once and for all."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ledger_watcher.capture.argv import Output, without_output_variables
from ledger_watcher.capture.artifacts import Target
from ledger_watcher.capture.console import Console
from ledger_watcher.capture.ending import Ended, OverAlready, ended_by, reason
from ledger_watcher.capture.events import EventParser
from ledger_watcher.capture.inprocess import Parsed
from ledger_watcher.capture.plan import list_command, listed
from ledger_watcher.capture.process import DbtProcess
from ledger_watcher.capture.redact import Masker
from ledger_watcher.capture.request import CaptureRequest, Checked
from ledger_watcher.capture.runner import INTERRUPTED, Launch, Runner, Sink
from ledger_watcher.capture.start import Start
from ledger_watcher.capture.workspace import Workspace
from ledger_watcher.records import bounded_message

log = logging.getLogger(__name__)


class Dbt:
    """Runs commands of one checked request in one target folder. An interrupt ends the one that runs and keeps the others from starting."""

    def __init__(self, request: CaptureRequest) -> None:
        self.interrupted = False
        self.problems: list[str] = []
        self._request = request
        self._runner: Runner | None = None
        self._parsed = Parsed()

    def interrupt(self) -> None:
        """See :meth:`~.runner.Runner.interrupt`."""
        self.interrupted = True
        runner = self._runner  # set before anything looks at the flag, so that no interrupt falls in between
        if runner is not None:
            runner.interrupt()

    def run(
        self,
        checked: Checked,
        target: Target,
        workspace: Workspace,
        take: Callable[[EventParser], Sink],
        after: Callable[[EventParser, Masker], None],
    ) -> Ended:
        """Run the command to its end.

        :param take: makes of the parser what takes the events.
        :param after: called when dbt has ended, to read what it left.
        """
        masker = checked.masker(target.folders(checked.project))
        parser = EventParser(parents=target.parents, mask=masker.text)
        start = Start(
            request=self._request, checked=checked, target=target, masker=masker, inherited=workspace.inherited, parsed=self._parsed
        )
        runner, console = start.runner(take(parser))
        self._runner = runner
        exit_code = INTERRUPTED if self.interrupted else runner.run()
        by = ended_by(exit_code, runner, interrupted=self.interrupted)
        why = reason(exit_code, runner, interrupted=self.interrupted)
        self.interrupted = self.interrupted or runner.interrupted or runner.raised is not None  # nothing is started after that
        try:
            after(parser, masker)
        except Exception as error:  # noqa: BLE001 - what dbt did is known by now, and must not get lost
            runner.problems.append(f"what dbt left could not be read: {type(error).__name__}: {error}")
        lost = [*parser.problems, *runner.problems]
        self.problems += [*lost, *([console.problem] if console is not None and console.problem else [])]
        message = parser.error or why
        return Ended(
            exit_code=exit_code,
            ended_by=by,
            message=bounded_message(masker.text(message)) if message else None,
            incomplete=bounded_message(masker.text("; ".join(lost))),
            raised=runner.raised,
        )

    def listed(self, checked: Checked, target: Target, workspace: Workspace) -> frozenset[str]:
        """Which nodes the command selects, by ``dbt ls``.

        :raises OverAlready: it did not say.
        """
        lines: list[str] = []
        request = self._request
        launch = Launch(
            argv=list_command(checked.command, checked.executable, in_process=request.in_process),
            env={**without_output_variables(checked.env), **target.env},
            cwd=checked.cwd,
            inherited=workspace.inherited,
        )
        runner = self._runner = DbtProcess(launch, sink=lambda _event: None, console=Console(Output(), lines.append), grace=request.grace)
        exit_code = INTERRUPTED if self.interrupted else runner.run()
        if exit_code or self.interrupted or runner.raised:
            why = reason(exit_code or INTERRUPTED, runner, interrupted=self.interrupted) or f"exit code {exit_code}"
            message = bounded_message(checked.masker().text(f"dbt ls did not say what is left to build: {why}"))
            by = ended_by(exit_code or INTERRUPTED, runner, interrupted=self.interrupted)
            raise OverAlready(Ended(exit_code=exit_code or INTERRUPTED, ended_by=by, message=message, raised=runner.raised))
        return listed(checked.command, lines)
