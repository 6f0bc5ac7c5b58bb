"""Operators that run one dbt command each, on the worker: ``DbtRunLocalOperator``, ``DbtTestVirtualenvOperator``, ``DbtDocsS3Operator``, ...

They are made of one table (:mod:`~ledger_watcher_airflow.commands`), and are classes of this module all the same: they can be imported,
pickled and subclassed. ``__init__.pyi`` tells type checkers and editors; ``python -m scripts.local_stub`` writes it.
"""

from ledger_watcher_airflow.local.classes import OPERATORS

globals().update(OPERATORS)

__all__ = list(OPERATORS)
