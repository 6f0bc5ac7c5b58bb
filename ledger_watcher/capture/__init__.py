"""dbt to records: run it in this process or as another, take its events, and keep them in a ledger. Imports no dbt."""

from ledger_watcher.capture.argv import DbtCommand
from ledger_watcher.capture.artifacts import Project, Target
from ledger_watcher.capture.console import readable
from ledger_watcher.capture.events import EventParser, wanted_line
from ledger_watcher.capture.reconcile import reconcile
from ledger_watcher.capture.redact import Masker, redact
from ledger_watcher.capture.request import CaptureRequest, CaptureResult, Checked
from ledger_watcher.capture.session import Capture
from ledger_watcher.project.edges import parents_of

__all__ = [
    "Capture",
    "CaptureRequest",
    "CaptureResult",
    "Checked",
    "DbtCommand",
    "EventParser",
    "Masker",
    "Project",
    "Target",
    "parents_of",
    "readable",
    "reconcile",
    "redact",
    "wanted_line",
]
