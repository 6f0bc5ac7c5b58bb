"""The ledger: one contiguous, hash-chained, append-only sequence of segments per run."""

from ledger_watcher.ledger.follower import RunFollower
from ledger_watcher.ledger.layout import RunKey, list_runs
from ledger_watcher.ledger.reader import ChainReader
from ledger_watcher.ledger.segments import FORMAT_VERSION, Entry, Header, Kind
from ledger_watcher.ledger.writer import LedgerWriter, WriterOptions

__all__ = [
    "FORMAT_VERSION",
    "ChainReader",
    "Entry",
    "Header",
    "Kind",
    "LedgerWriter",
    "RunFollower",
    "RunKey",
    "WriterOptions",
    "list_runs",
]
