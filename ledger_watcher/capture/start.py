"""How dbt is started for a request that was checked: in this process, or as one that forwards its console."""

from __future__ import annotations

from dataclasses import dataclass

from ledger_watcher.capture.argv import without_output_variables
from ledger_watcher.capture.artifacts import Target
from ledger_watcher.capture.console import Console
from ledger_watcher.capture.inprocess import InProcessDbt, Parsed
from ledger_watcher.capture.process import DbtProcess
from ledger_watcher.capture.redact import Masker
from ledger_watcher.capture.request import CaptureRequest, Checked
from ledger_watcher.capture.runner import Launch, Runner, Sink


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a runner is made of.

    ``inherited`` are the file descriptors that a process of its own keeps open, ``parsed`` is what several invocations in this process share.
    """

    request: CaptureRequest
    checked: Checked
    target: Target
    masker: Masker
    inherited: tuple[int, ...] = ()
    parsed: Parsed | None = None

    def runner(self, sink: Sink) -> tuple[Runner, Console | None]:
        """A runner that is not started yet, and its console: none in-process, where dbt itself writes to it."""
        request, checked, command = self.request, self.checked, self.checked.command
        if request.in_process:
            env = {**request.env, **self.target.env}
            launch = Launch(argv=tuple(command.dbt_args), env=env, cwd=checked.cwd, command=command.subcommand)
            return InProcessDbt(launch, sink=sink, grace=request.grace, parsed=self.parsed), None
        forward, mask = request.forward or _print, self.masker.text
        console = Console(command.output(checked.env), lambda line: forward(mask(line)))
        env = {**without_output_variables(checked.env), **self.target.env}
        launch = Launch(argv=(checked.executable, *command.capturing()[1:]), env=env, cwd=checked.cwd, inherited=self.inherited)
        return DbtProcess(launch, sink=sink, console=console, grace=request.grace), console


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - dbt's console
