"""What Airflow's UI shows of ledgers: an app of its own, which the api-server mounts and shows in tabs.

:mod:`~ledger_watcher_airflow.ui.plugin` is what Airflow loads in every process; all else is imported by the first request.
"""
