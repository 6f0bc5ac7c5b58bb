"""What a test or a demo asks of a running Airflow: the public REST API, and the metadata database for reading."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import create_engine, text

_LOCKED = 60.0
"""Seconds for which a request is repeated that found a SQLite database locked."""
_APART = 0.3
"""Seconds between two questions to the api-server: what it spends on answers, the run that is waited for has not."""


class StackError(RuntimeError):
    """Airflow did not do what was asked; the message carries the evidence: a log's tail, an import error, the task states."""


class AirflowClient:
    """Calls with the token of the simple auth manager, where everyone is an admin. HTTP errors are StackErrors with the server's words."""

    def __init__(self, url: str, dags_folder: Path, database_url: str) -> None:
        self.url = url
        self.dags_folder = dags_folder
        self._http = requests.Session()
        self._http.trust_env = False  # no proxy on the way to loopback
        self._engine = create_engine(database_url)

    def call(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 -- JSON
        """The decoded answer of `/api/v2/<path>`; options are those of requests."""
        if "Authorization" not in self._http.headers:
            token = self._http.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
        deadline = time.monotonic() + _LOCKED
        while True:
            answer = self._http.request(method, f"{self.url}/api/v2/{path}", timeout=90, **options)
            # SQLite lets one process write at a time, and Airflow gives up after a while. What it began it has rolled back.
            # It says so with a 500, of a backfill with a 503.
            locked = not answer.ok and "database is locked" in answer.text.lower()
            if not locked or time.monotonic() > deadline:
                break
        if not answer.ok:
            raise StackError(f"{method} {path}: HTTP {answer.status_code}: {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """Return once the DAG was parsed after the last change of its file.

        Raises StackError with the traceback when a file in the folder cannot be imported as it now is, or after `timeout` seconds.
        """

        def parsed() -> bool:
            for error in self.call("GET", "importErrors")["import_errors"]:
                if _is_newer(error["timestamp"], self.dags_folder / error["filename"]):
                    raise StackError(f"{error['filename']} cannot be imported:\n{error['stack_trace']}")
            dags = self.call("GET", "dags", params={"dag_id_pattern": dag_id, "limit": 100})["dags"]
            return any(dag["dag_id"] == dag_id and _is_newer(dag["last_parsed_time"], Path(dag["fileloc"])) for dag in dags)

        if not until(parsed, timeout, _APART):
            known = [dag["dag_id"] for dag in self.call("GET", "dags")["dags"]]
            raise StackError(f"DAG {dag_id} was not parsed within {timeout} s; the DAGs of {self.dags_folder} are {known}")

    def trigger(self, dag_id: str, run_id: str | None = None, conf: Mapping[str, object] | None = None) -> str:
        """Start a run, without a logical date, and return its run id."""
        body = {"dag_run_id": run_id, "conf": dict(conf or {}), "logical_date": None}
        return str(self.call("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run: queued, running, success or failed."""
        return str(self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 120) -> str:
        """Return success or failed. Raises StackError with a table of the task states after `timeout` seconds."""
        state = "unknown"

        def finished() -> bool:
            nonlocal state
            state = self.run_state(dag_id, run_id)
            return state in {"success", "failed"}

        if until(finished, timeout, _APART):
            return state
        rows = (
            f"  {task['task_id']:40} {task['state'] or '-':16} try {task['try_number']}  {task['start_date']} .. {task['end_date']}"
            for task in self.task_instances(dag_id, run_id)
        )
        raise StackError("\n".join([f"{dag_id} {run_id} is {state} after {timeout} s:", *rows]))

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run as the API describes them."""
        tasks: list[dict[str, Any]] = []
        while True:
            page = {"limit": 100, "offset": len(tasks), "order_by": "id"}
            answer = self.call("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", params=page)
            tasks += answer["task_instances"]
            if len(tasks) >= answer["total_entries"] or not answer["task_instances"]:
                return tasks

    def clear(
        self,
        dag_id: str,
        run_id: str,
        task_ids: Sequence[str | tuple[str, int]] | None = None,
        *,
        downstream: bool = False,
        only_failed: bool = False,
    ) -> list[str]:
        """Clear task instances of a run (all of them without task_ids), let the run go on, and return the cleared task ids in order.

        Of a mapped task, all instances, or with ``(task_id, map_index)`` one.
        """
        body: dict[str, object] = {"dag_run_id": run_id, "dry_run": False, "include_downstream": downstream, "only_failed": only_failed}
        if task_ids is not None:
            body["task_ids"] = list(task_ids)
        cleared = self.call("POST", f"dags/{dag_id}/clearTaskInstances", json=body)
        return sorted(str(task["task_id"]) for task in cleared["task_instances"])

    def set_state(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Mark a task instance as a user does in the UI: success, failed or skipped."""
        self.call("PATCH", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}", json={"new_state": state})

    def backfill(self, dag_id: str, first: str, last: str) -> list[str]:
        """Start a backfill, two runs at a time, and return its run ids in order; the times are RFC 3339, both included."""
        body = {"dag_id": dag_id, "from_date": first, "to_date": last, "max_active_runs": 2, "reprocess_behavior": "failed"}
        self.call("POST", "backfills", json=body)
        runs = self.call("GET", f"dags/{dag_id}/dagRuns", params={"run_type": "backfill", "order_by": "logical_date"})["dag_runs"]
        return [str(run["dag_run_id"]) for run in runs]

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Delete a run that has ended, with its task instances."""
        self.call("DELETE", f"dags/{dag_id}/dagRuns/{run_id}")

    def logs(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """The log of one try as the UI gets it: one event per line, and a line `type: message` for each exception of an event."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        lines: list[str] = []
        for entry in self.call("GET", path, params={"full_content": True}, headers={"Accept": "application/json"})["content"]:
            lines.append(entry["event"])
            lines += [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
        return "\n".join(lines)

    def sql(self, query: str, params: Mapping[str, object] | Iterable[tuple[str, object]] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query on the metadata database, for reading only; `:name` in the query stands for params["name"]."""
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), dict(params))]

    def close(self) -> None:
        """Give back the connections; the client opens new ones when it is used again."""
        self._http.close()
        self._http.headers.pop("Authorization", None)  # the next start has new secrets
        self._engine.dispose()


def until(true: Callable[[], bool], timeout: float, every: float = 0.1) -> bool:
    """Ask every 0.1 s or as said, at least once, until the answer is true; False after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def _is_newer(stamp: str | None, file: Path) -> bool:
    """Whether this time, as the API writes it, is after the last change of a file that is still there."""
    if stamp is None or not file.exists():
        return False
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() > file.stat().st_mtime
