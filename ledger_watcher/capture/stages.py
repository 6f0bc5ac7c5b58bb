"""What dbt is invoked for in one attempt, in this order: to check the sources, to build, to test. The last two are mostly one.

It is one attempt all the same: one epoch of the ledger, one run_results.json, one exit code, which is that of the first stage that went wrong. A
stale source is nothing that went wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ledger_watcher import codec
from ledger_watcher.capture.argv import DbtCommand
from ledger_watcher.capture.artifacts import Target
from ledger_watcher.capture.book import Book
from ledger_watcher.capture.dbt import Dbt
from ledger_watcher.capture.ending import Ended, OverAlready, in_turn
from ledger_watcher.capture.events import EventParser
from ledger_watcher.capture.freshness import SOURCE, below, chosen, skipped, source_records, without_sources
from ledger_watcher.capture.reconcile import reconcile
from ledger_watcher.capture.redact import Masker, redact
from ledger_watcher.capture.request import CaptureRequest, Checked
from ledger_watcher.capture.resume import Scope, decide, judged, nothing_left, plan_of, write_state
from ledger_watcher.capture.runner import Sink
from ledger_watcher.capture.workspace import Workspace
from ledger_watcher.errors import LedgerWatcherError
from ledger_watcher.project.edges import parents_of
from ledger_watcher.records import CALLER, STALE, NodeFinished, Outcome, Record

log = logging.getLogger(__name__)

_RESULTS, _SOURCES = "run_results.json", "sources.json"
_TESTS = ("test.", "unit_test.")


@dataclass(kw_only=True)
class Stages:
    """The stages of one attempt: :meth:`run` them, then :meth:`leave` what they wrote."""

    request: CaptureRequest
    checked: Checked
    target: Target
    workspace: Workspace
    dbt: Dbt
    book: Book
    _invocations: list[str | None] = field(default_factory=list)
    _results: list[bytes] = field(default_factory=list)

    def run(self) -> Ended:
        """Check, build and test what this attempt is for.

        :raises ConfigError: the caller's function that decides what is skipped does not do that.
        """
        try:
            return self._run()
        except OverAlready as over:
            log.info("%s", over.ended.message)
            return over.ended

    def _run(self) -> Ended:
        ask = self._ask_dbt
        scope = decide(self.checked, self.request, self.book.past, ask)
        self.book.append([*([scope.plan] if scope.plan is not None else []), *scope.carried])
        if scope.todo is not None and not scope.todo and not self._checks(scope):
            raise OverAlready(nothing_left(scope))
        if scope.note is not None:
            log.info("%s", scope.note)
        if self.request.in_process and (self._checks(scope) or self.request.tests_last):
            self._must(self._invoke(self.checked.command.parsing()))
        ended, todo = self._check_sources(scope) if self._checks(scope) else (None, scope.todo)
        if todo is None or todo:
            built = self._build(scope, todo)
            ended = built if ended is None else in_turn(ended, built)
        told, problem = judged(ended or Ended(exit_code=0), self.book.state, todo or ())
        self.book.problems += [problem] if problem else []
        return told

    def leave(self) -> None:
        """Store the artifacts, and put them where plain dbt would have written them."""
        masker = self.checked.masker(self.target.folders(self.checked.project))
        if len(self._results) > 1:
            with suppress(ValueError, LookupError, TypeError, OSError):  # odd ones are left as they are: the last stage's
                (self.target.path / _RESULTS).write_bytes(_joined(self._results))
        written = self.target.written(*self._invocations)
        with ThreadPoolExecutor(len(written) or 1, thread_name_prefix="artifact") as pool:  # the storage answers while files are moved here
            storing = {name: pool.submit(self._store, name, data, masker) for name, data in written.items()}
            problems = self.target.put_back(masker)
        for name, done in storing.items():
            try:
                self.book.fold(done.result())
            except (ValueError, LedgerWatcherError) as error:  # noqa: PERF203 - three artifacts
                self.book.problems.append(f"{name} is not in the ledger: {error}")
        self.book.problems += problems

    # One method per stage -------------------------------------------------------------------------------------------

    def _checks(self, scope: Scope) -> bool:
        return scope.sources is None or bool(scope.sources)

    def _check_sources(self, scope: Scope) -> tuple[Ended, frozenset[str] | None]:
        """How the check of the sources ended, and what is left to build after it.

        :raises OverAlready: it did not come to its end, or failed for another reason than its sources.
        """
        found: list[NodeFinished] = []
        ended = self._invoke(self._narrowed(self.checked.command.freshness(), scope.sources), put_aside=found)
        data = self.target.written(*self._invocations[-1:]).get(_SOURCES)
        records, sources = source_records(found, _loaded(data))
        self.book.append(records)
        bad = {record.unique_id for record in records if record.outcome in (Outcome.FAILED, Outcome.CANCELLED)}
        stale = {source.unique_id for source in sources if source.stale}
        if not ended.to_the_end or (ended.exit_code and not bad and not stale):
            raise OverAlready(ended)
        ended = ended if bad else replace(ended, exit_code=0, message=None)
        fresh = {source.unique_id for source in sources} - bad - stale
        if self.request.only is not None:
            self._remember(fresh, stale)
        if not (bad or stale or self.request.freshness_skip):
            return ended, scope.todo
        manifest = self._manifest()
        lower = below(parents_of(manifest), fresh=fresh, stale=stale, broken=bad)
        selected = self._selected(scope)
        broken = lower.broken.keys() & selected
        default = frozenset((lower.stale.keys() & selected) - broken)
        skip = chosen(self.request.freshness_skip, sources, default, _entries(manifest)) & selected - broken
        nodes = _entries(manifest)
        self.book.append(skipped(name, nodes.get(name, {}), lower.broken[name]) for name in sorted(broken))
        for name in sorted(skip):
            by = STALE if name in lower.stale else CALLER
            self.book.append([skipped(name, nodes.get(name, {}), lower.stale.get(name, ()), by_choice=by)])
        if not (broken or skip):
            return ended, scope.todo
        log.info("%d nodes are skipped because of stale sources, %d because of sources that dbt could not check.", len(skip), len(broken))
        return ended, selected - broken - skip

    def _build(self, scope: Scope, todo: frozenset[str] | None) -> Ended:
        command = self.checked.command
        if not self.request.tests_last:
            return self._invoke(self._narrowed(command, todo))
        nodes = None if todo is None else frozenset(name for name in todo if not name.startswith(_TESTS))
        ended = Ended(exit_code=0)
        if nodes is None or nodes:
            ended = self._invoke(self._narrowed(command.without_tests(), nodes))
        return in_turn(ended, self._test(scope, todo)) if ended.to_the_end else ended

    def _test(self, scope: Scope, todo: frozenset[str] | None) -> Ended:
        """Run the tests that ``todo`` holds (``None``: all) and that are not about a node that failed."""
        epoch = max(self.book.state.attempts)
        ends = [node.finished for node in self.book.state.nodes.values() if node.epoch == epoch and node.finished is not None]
        failed = {record.unique_id for record in ends if not record.outcome.ok and record.by_choice is None}
        if todo is None and not failed and not self.checked.command.chooses_types:
            return self._invoke(self.checked.command.testing())
        tests = frozenset(name for name in (self._selected(scope) if todo is None else todo) if name.startswith(_TESTS))
        manifest = self._manifest() if failed else {}
        nodes, parents = _entries(manifest), parents_of(manifest)
        causes = {name: cause for name in tests if (cause := failed.intersection(parents.get(name, ())))}
        self.book.append(skipped(name, nodes.get(name, {}), causes[name]) for name in sorted(causes))
        left = tests - causes.keys()
        return self._invoke(self._narrowed(self.checked.command.testing(), left)) if left else Ended(exit_code=0)

    # Helpers --------------------------------------------------------------------------------------------------------

    def _store(self, name: str, data: bytes, masker: Masker) -> list[Record]:
        return self.book.store(name, redact(name, data, masker))

    def _invoke(self, command: DbtCommand, *, put_aside: list[NodeFinished] | None = None) -> Ended:
        """Run dbt once and record what it does, all but the sources that are ``put_aside``."""

        def keep(records: list[Record]) -> None:
            aside = [one for one in records if isinstance(one, NodeFinished) and one.unique_id.startswith(SOURCE)]
            if put_aside is not None and aside:
                put_aside.extend(aside)
                records = [one for one in records if one not in aside]
            self.book.append(records)

        def take(parser: EventParser) -> Sink:
            return lambda event: keep(parser.feed(event))

        def after(parser: EventParser, masker: Masker) -> None:
            self._invocations.append(parser.invocation_id)
            keep(parser.close())
            data = self.target.written(parser.invocation_id).get(_RESULTS)
            if data is not None and data not in self._results:
                self._results.append(data)
                with suppress(ValueError):  # which leave() says of it
                    self.book.append(reconcile(self.book.state, codec.loads(redact(_RESULTS, data, masker))))

        return self.dbt.run(replace(self.checked, command=command), self.target, self.workspace, take, after)

    def _must(self, ended: Ended) -> None:
        if ended.exit_code != 0:
            raise OverAlready(ended)

    def _narrowed(self, command: DbtCommand, nodes: Collection[str] | None) -> DbtCommand:
        if nodes is None:
            return command
        state = self.workspace.folder(f"state-{command.subcommand}")
        write_state(state, nodes)
        return command.narrowed(str(state), self.checked.env)

    def _selected(self, scope: Scope) -> frozenset[str]:
        """The nodes that this attempt is for, of which dbt is asked if nobody knows exactly."""
        if scope.todo is not None:
            return scope.todo
        if scope.plan is not None and (self.request.selected or not self.checked.command.selects):
            return without_sources(scope.plan.unique_ids)
        found = self._ask_dbt()
        if scope.plan is None:
            self.book.append([plan_of(found, self.request)])
        return found

    def _ask_dbt(self) -> frozenset[str]:
        log.info("dbt ls is asked which nodes the run has.")
        return self.dbt.listed(self.checked, self.target, self.workspace)

    def _remember(self, fresh: set[str], stale: set[str]) -> None:
        """What attempts before said of the sources that are not checked now: for an attempt that checks only some."""
        for name, node in self.book.state.nodes.items():
            if name.startswith(SOURCE) and node.finished is not None and name not in fresh | stale:
                (stale if node.finished.by_choice else fresh if node.finished.outcome.ok else set()).add(name)

    def _manifest(self) -> Mapping[str, Any]:
        return _loaded(self.target.read("manifest.json")) or {}


def _loaded(data: bytes | None) -> Mapping[str, Any] | None:
    found = None
    with suppress(ValueError):
        found = codec.loads(data) if data is not None else None
    return found if isinstance(found, Mapping) else None


def _entries(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {name: entry for section in ("nodes", "unit_tests", "functions") for name, entry in (manifest.get(section) or {}).items()}


def _joined(results: list[bytes]) -> bytes:
    """One run_results.json of those of several stages: the first one's, with the results of all."""
    documents = [codec.loads(data) for data in results]
    whole = {**documents[0], "results": [result for document in documents for result in document["results"]]}
    whole["elapsed_time"] = sum(document.get("elapsed_time") or 0.0 for document in documents)
    return codec.dumps(whole)
