"""dbt without a ledger: run it once, and know of every node how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from ledger_watcher import codec
from ledger_watcher.capture.argv import NARROWABLE
from ledger_watcher.capture.artifacts import Target
from ledger_watcher.capture.ending import ended_by, reason
from ledger_watcher.capture.events import EventParser
from ledger_watcher.capture.freshness import source_records
from ledger_watcher.capture.redact import Masker
from ledger_watcher.capture.request import CaptureRequest, Checked
from ledger_watcher.capture.resume import write_state
from ledger_watcher.capture.runner import INTERRUPTED, Runner
from ledger_watcher.capture.start import Start
from ledger_watcher.capture.workspace import Workspace
from ledger_watcher.errors import ConfigError
from ledger_watcher.records import EndedBy, HookFinished, NodeFinished, Outcome, bounded_message

_SOURCES = "sources.json"
_CHECK = "source"

ABOUT_ONE_RUN = frozenset({"manifest.json", "run_results.json", _SOURCES})
"""Artifacts that several runs of one project at a time would take from each other."""

_BAD = frozenset({Outcome.FAILED, Outcome.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class BareResult:
    """How it went. ``exit_code`` is dbt's, as in :class:`~.request.CaptureResult`; texts are without secrets.

    ``error`` is what dbt said of a run that ended badly: the messages of failed nodes and hooks, or of what ended the run as a whole. A stale
    source is ``skipped`` by choice in ``nodes``, though dbt's exit code is that of a failure; ``stale``: that is all that is wrong.
    """

    exit_code: int
    ended_by: EndedBy
    error: str | None = None
    stale: bool = False
    nodes: Mapping[str, NodeFinished] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """dbt ran to its end, and nothing failed."""
        return self.exit_code == 0 and self.ended_by is EndedBy.EXIT


class BareRun:
    """One run of dbt, as a context manager: within it the artifacts are there, afterwards they are where plain dbt would have put them.

    Of the request, what is about a ledger has no meaning. ``only`` may name sources for ``dbt source freshness``, too.

    :param shared: other runs work on the same project at the same time: :data:`ABOUT_ONE_RUN` are not left in its target folder.
    :raises ConfigError: the request cannot be run.
    """

    def __init__(self, request: CaptureRequest, *, shared: bool = False) -> None:
        self.problems: list[str] = []
        """What could not be taken or left; complete after the context."""
        self._request = request
        self._checked = Checked.of(replace(request, only=None))
        known = {*NARROWABLE, _CHECK}
        if request.only is not None and self._checked.command.subcommand not in known:
            raise ConfigError(f"`dbt {self._checked.command.subcommand}` cannot be told which nodes; those that can are {sorted(known)}.")
        self._leave = ABOUT_ONE_RUN if shared else frozenset()
        self._runner: Runner | None = None
        self._interrupted = False
        self._stack = ExitStack()

    def __enter__(self) -> BareRun:  # noqa: PYI034 - Self is Python 3.11's
        checked = self._checked
        self._workspace = self._stack.enter_context(Workspace())
        self._target = Target.prepare(checked.command, checked.project, checked.env, self._workspace)
        self._masker: Masker = checked.masker(self._target.folders(checked.project))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:
            self.problems += self._target.put_back(self._masker, without=self._leave)

    def interrupt(self) -> None:
        """Interrupt dbt, or keep it from starting. May be called from any thread and from a signal handler, more than once."""
        self._interrupted = True
        runner = self._runner  # set before run() looks at the flag, so that no interrupt falls in between
        if runner is not None:
            runner.interrupt()

    def run(self) -> BareResult:
        """Run dbt to its end, in a thread that lives as long: dbt is interrupted when it dies.

        :raises BaseException: whatever was raised into the run from outside (a timeout), when dbt has ended.
        """
        checked = self._narrowed()
        parser = EventParser(mask=self._masker.text)
        nodes: dict[str, NodeFinished] = {}
        hooks: dict[str, HookFinished] = {}

        def take(event: Mapping[str, object]) -> None:
            for record in parser.feed(event):
                if isinstance(record, NodeFinished):
                    nodes[record.unique_id] = record
                elif isinstance(record, HookFinished):
                    hooks[record.unique_id] = record

        start = Start(request=self._request, checked=checked, target=self._target, masker=self._masker, inherited=self._workspace.inherited)
        runner, console = start.runner(take)
        self._runner = runner
        exit_code = INTERRUPTED if self._interrupted else runner.run()
        shown = console.problem if console is not None else None
        self.problems += map(self._masker.text, [*parser.problems, *runner.problems, *([shown] if shown else [])])
        if runner.raised is not None:
            raise runner.raised
        if checked.command.subcommand == _CHECK:
            nodes = self._with_ages(nodes, self._target.written(parser.invocation_id).get(_SOURCES))
        ended: list[HookFinished | NodeFinished] = [*hooks.values(), *nodes.values()]
        bad: list[HookFinished | NodeFinished] = [one for one in ended if one.outcome in _BAD]
        stale = [one for one in nodes.values() if one.by_choice is not None]
        failed = [f"{one.unique_id}: {one.message or one.status}" for one in [*bad, *stale]]
        ended_badly = parser.error or reason(exit_code, runner, interrupted=self._interrupted) or (runner.error if exit_code else None)
        error = "\n".join([*([ended_badly] if ended_badly else []), *failed])
        by = ended_by(exit_code, runner, interrupted=self._interrupted)
        return BareResult(
            exit_code=exit_code,
            ended_by=by,
            error=bounded_message(self._masker.text(error)),
            stale=bool(stale) and not bad and not ended_badly and by is EndedBy.EXIT,
            nodes=nodes,
        )

    @property
    def artifacts(self) -> Path:
        """The folder that dbt wrote to."""
        return self._target.path

    def project(self) -> Path:
        """A folder that looks like the project's own, whose target folder has the artifacts of this run and no others.

        Of the rest it has links. It is the project's own if dbt wrote there (``--target-path``, or commands without artifacts of a run).
        """
        own, view = self._checked.project.folder, self._workspace.path / "project"
        if not self._target.fresh or view.exists():
            return view if self._target.fresh else own
        self._target.name_paths(self._masker)
        view.mkdir()
        shown = Path("target" if Path(self._target.shown).is_absolute() else self._target.shown)
        for entry in own.iterdir():
            if entry.name != shown.parts[0]:
                (view / entry.name).symlink_to(entry)
        (view / shown).parent.mkdir(parents=True, exist_ok=True)
        (view / shown).symlink_to(self._target.path)
        return view

    @staticmethod
    def _with_ages(nodes: Mapping[str, NodeFinished], written: bytes | None) -> dict[str, NodeFinished]:
        """The records of sources with what the artifact has of them: how old they are, and so whether they are stale."""
        found = None
        with suppress(ValueError):
            found = codec.loads(written) if written is not None else None
        records, _ = source_records(nodes.values(), found if isinstance(found, Mapping) else None)
        return {record.unique_id: record for record in records}

    def _narrowed(self) -> Checked:
        """What is to be run, for the nodes of the request only, if it names some."""
        checked, only = self._checked, self._request.only
        if only is None:
            return checked
        state = self._workspace.folder("state")
        write_state(state, only)
        return replace(checked, command=checked.command.narrowed(str(state), checked.env))
