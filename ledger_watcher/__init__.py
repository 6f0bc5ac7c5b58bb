"""Run dbt once, anywhere, and keep what happened to every node in an append-only ledger on shared storage.

This package is the core: records, storage, the ledger itself, the capture of dbt's events and the command line.
It never imports Airflow; importing it imports no dbt and no cloud library. The Airflow side is ``ledger_watcher_airflow``.
"""

__version__ = "0.1.0"
