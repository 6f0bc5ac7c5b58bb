"""What happens to a run, told to others as it happens: OpenLineage events, OpenTelemetry spans.

An emitter takes the records of a run in their order, from the producer while dbt runs (:mod:`ledger_watcher.emit.relay`) or from a ledger afterwards
(``ledger-watcher emit``), and tells the same in both cases, with the same ids. It never disturbs a run: what goes wrong is said at the end.
"""

from ledger_watcher.emit.emitter import EMITTERS, Emitter, Graph, Origin, check_emitters, make_emitter, wanted_emitters
from ledger_watcher.emit.relay import Relay

__all__ = ["EMITTERS", "Emitter", "Graph", "Origin", "Relay", "check_emitters", "make_emitter", "wanted_emitters"]
