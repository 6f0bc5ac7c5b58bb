"""What a node's task and its trigger have agreed on: words of events and arguments, here so that a DAG file's parse needs no trigger."""

from __future__ import annotations

NODE_TRIGGER = "ledger_watcher_airflow.NodeTrigger"
"""The class of the trigger of a node's task, by the shortest name: it is stored with every task."""
RECOVER = "recover"
"""Key of the event that asks for dbt to run on a worker; its value is the reason."""
WARNED = "warned"
"""Key of the event that ends a task well on a worker, which has a warning to tell of; its value are names and messages."""
BUILT = "built"
"""Key of the event that ends a task well on a worker which tells of assets; its value is what dbt built, as :attr:`Built.told` is."""
ON_BUILD = "build"
"""Value of ``worker``: a task that succeeds ends on a worker, which is told what was built."""
ON_SUCCESS = "success"
"""Value of ``worker``: a task that succeeds ends on a worker."""
ON_WARNING = "warning"
"""Value of ``worker``: a task that succeeds with a warning does."""
MANY = 10
"""Nodes of one task up to which they are listed in what Airflow stores, and shown in full in its log."""
