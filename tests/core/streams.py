"""Recorded event streams of dbt, and the records that the parser makes of them."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ledger_watcher import codec
from ledger_watcher.capture import EventParser, parents_of, wanted_line
from ledger_watcher.records import HookFinished, Log, NodeFinished, Record

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = ("1.8", "1.9", "1.10", "1.11", "1.12")


@cache
def lines(name: str) -> tuple[bytes, ...]:
    """The lines of ``dbt-events/<name>.jsonl.gz``."""
    return tuple(gzip.decompress((FIXTURES / "dbt-events" / f"{name}.jsonl.gz").read_bytes()).splitlines(keepends=True))


def events(name: str) -> list[dict[str, Any]]:
    """The events of a stream; lines that are none are left out."""
    return [codec.loads(line) for line in lines(name) if line.startswith(b"{")]


@cache
def graph(version: str) -> Mapping[str, Sequence[str]]:
    """unique_id -> its parents, from the manifest of that version's run."""
    return parents_of(codec.loads(gzip.decompress((FIXTURES / "manifests" / f"manifest-{version}.json.gz").read_bytes())))


@cache
def run_results(version: str) -> dict[str, Any]:
    """run_results.json of that version: of 1.11 it is that of the run in ``callback-1.11``, of the others of another run."""
    found: dict[str, Any] = codec.loads(gzip.decompress((FIXTURES / "run-results" / f"run_results-{version}.json.gz").read_bytes()))
    return found


@dataclass(frozen=True)
class Parsed:
    """A stream, parsed."""

    parser: EventParser
    records: list[Record]

    @property
    def finished(self) -> dict[str, NodeFinished]:
        """The results, by node; each node must have exactly one."""
        found = [record for record in self.records if isinstance(record, NodeFinished)]
        assert len({record.unique_id for record in found}) == len(found)
        return {record.unique_id: record for record in found}

    @property
    def hooks(self) -> dict[str, HookFinished]:
        return {record.unique_id: record for record in self.records if isinstance(record, HookFinished)}

    @property
    def logs(self) -> dict[str, Log]:
        return {record.unique_id: record for record in self.records if isinstance(record, Log)}

    def of(self, kind: type[Record]) -> list[Record]:
        return [record for record in self.records if isinstance(record, kind)]


def parse(name: str, *, parents: Callable[[], Mapping[str, Sequence[str]]] | None = None) -> Parsed:
    """Feed a stream as the subprocess reader does: wanted lines only, then the close."""
    parser = EventParser(parents=parents)
    records: list[Record] = []
    for line in lines(name):
        if line.startswith(b"{") and wanted_line(line):
            records += parser.feed(codec.loads(line))
    return Parsed(parser, [*records, *parser.close()])


def parse_build(version: str) -> Parsed:
    """The stream ``build-<version>`` with that version's manifest."""
    return parse(f"build-{version}", parents=lambda: graph(version))
