"""A dbt executable that does what a test says, in milliseconds instead of seconds."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds after which something that was waited for is taken for lost. A bound for broken code, never a pause."""

_SCRIPT = f"""#!{sys.executable} -SE
import json, os, signal, sys, threading, time
def say(name, level="info", msg="", data=None, **node):
    info = {{"name": name, "level": level, "msg": msg or name, "ts": "2026-01-01T00:00:00Z", "invocation_id": "inv"}}
    data = dict(data or {{}})
    if node:
        data["node_info"] = {{"unique_id": "model.shop.a", "resource_type": "model", "node_started_at": "2026-01-01T00:00:00", **node}}
    print(json.dumps({{"info": info, "data": data}}), flush=True)
def text(line, file=sys.stdout):
    print(line, file=file, flush=True)
def write(name, **content):
    folder = os.environ.get("DBT_TARGET_PATH", "target")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w") as file:
        json.dump({{"metadata": {{"invocation_id": "inv"}}, **content}}, file)
def option(name):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None
def selected(nodes):
    # what the command is to build; `dbt ls` says it and ends
    if "ls" in sys.argv:
        for node in nodes:
            text(json.dumps({{"unique_id": node}}))
        sys.exit(0)
    if option("--select") != "result:error":
        return list(nodes)
    with open(os.path.join(option("--state"), "run_results.json")) as file:
        wanted = {{result["unique_id"] for result in json.load(file)["results"] if result["status"] == "error"}}
    return [node for node in nodes if node in wanted]
def build(unique_id, status="success"):
    say("NodeStart", "debug", unique_id=unique_id)
    say("NodeFinished", "debug", unique_id=unique_id, data={{"run_result": {{"status": status, "message": "said " + status, "execution_time": 1.5}}}})
say("MainReportVersion", data={{"version": "=1.99.0"}})
exec(os.environ["FAKE_DBT"])
"""


@dataclass
class FakeDbt:
    """The executable, in a project of its own. ``env`` makes it do ``code``."""

    path: Path
    project: Path

    @staticmethod
    def make(folder: Path) -> FakeDbt:
        project = folder / "shop"
        project.mkdir()
        (project / "dbt_project.yml").write_text("name: shop\n")
        path = folder / "dbt"
        path.write_text(_SCRIPT)
        path.chmod(0o755)
        return FakeDbt(path, project)

    def env(self, code: str) -> dict[str, str]:
        return {"FAKE_DBT": code}


@dataclass
class Screen:
    """Takes forwarded lines; a test waits for one of them."""

    lines: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, text: str) -> None:
        """Wait until a line with ``text`` was forwarded."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(text in line for line in self.lines), PATIENCE), self.lines


@contextmanager
def running(target: Any) -> Iterator[threading.Thread]:  # noqa: ANN401
    """Run a function in a thread and wait for its end."""
    thread = threading.Thread(target=target)
    thread.start()
    yield thread
    thread.join(PATIENCE)
    assert not thread.is_alive()


def json_of(path: Path) -> Any:  # noqa: ANN401
    return json.loads(path.read_text())
