"""The client of the real Airflow, where the real one answers too seldom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from scripts.airflow_client import AirflowClient, StackError

LOCKED = json.dumps({"detail": {"reason": "Database error", "orig_error": "database is locked"}})
NO_BACKFILL = json.dumps({"detail": "Database is locked. Backfill creation is not supported on SQLite under concurrent access."})


@contextmanager
def answering(*answers: tuple[int, str]) -> Iterator[AirflowClient]:
    """A server that gives these answers to POSTs, one after another."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, '{"access_token": "t"}')

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(*left.pop(0))

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield AirflowClient(f"http://127.0.0.1:{server.server_port}", Path(), "sqlite://")
        finally:
            server.shutdown()
            thread.join()


def test_what_a_locked_sqlite_refused_is_asked_again() -> None:
    with answering((500, LOCKED), (503, NO_BACKFILL), (200, '{"dag_run_id": "r"}')) as client:
        assert client.trigger("d") == "r"


def test_any_other_error_is_said_at_once() -> None:
    with answering((500, '{"detail": "no such table"}')) as client, pytest.raises(StackError, match="no such table"):
        client.trigger("d")
