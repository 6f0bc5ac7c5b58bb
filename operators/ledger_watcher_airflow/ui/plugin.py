"""What Airflow loads (entry point ``airflow.plugins``), in every process: it imports nothing that is not there already.

The views are iframes of the same origin, so that Airflow's session cookie goes along with what they ask for (``_token``, on the path of
``[api] base_url``; api_fastapi/core_api/security.py:get_user reads it, whatever the auth manager is). Their addresses are relative: the UI
has a ``<base>``, so they hold under a base path. What the UI puts in place of ``{DAG_ID}`` is encoded as a component of an address.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from ledger_watcher_airflow.ui.lazy import LazyApp

PREFIX = "/ledger-watcher"
_HERE = PREFIX.removeprefix("/")


class LedgerWatcherPlugin(AirflowPlugin):
    """The timeline on the page of a DAG run, a node's story on that of a task, and lists of ledgers."""

    name = "ledger_watcher"
    fastapi_apps: list[Any] = [{"name": "Ledger Watcher", "app": LazyApp(), "url_prefix": PREFIX}]  # noqa: RUF012 - so does the base class
    external_views: list[Any] = [  # noqa: RUF012
        {"name": "dbt", "destination": "dag_run", "url_route": "dbt-run", "href": f"{_HERE}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}"},
        {"name": "dbt", "destination": "task", "url_route": "dbt-task", "href": f"{_HERE}/task?dag_id={{DAG_ID}}&task_id={{TASK_ID}}"},
        {
            "name": "dbt",
            "destination": "task_instance",
            "url_route": "dbt-task-instance",
            "href": f"{_HERE}/task?dag_id={{DAG_ID}}&task_id={{TASK_ID}}&map_index={{MAP_INDEX}}",
        },
        {"name": "dbt", "destination": "dag", "url_route": "dbt-dag", "href": f"{_HERE}/ledgers?dag_id={{DAG_ID}}"},
        {"name": "dbt ledgers", "destination": "nav", "category": "browse", "url_route": "dbt-ledgers", "href": f"{_HERE}/ledgers"},
    ]
