"""Importing the core loads neither dbt, nor Airflow, nor the library of a cloud; and it works where none of them is installed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = [
    "airflow",
    "dbt",
    "s3fs",
    "botocore",
    "boto3",
    "aiobotocore",
    "aiohttp",
    "gcsfs",
    "adlfs",
    "azure",
    "rich",
    "pyarrow",
    "openlineage",
    "opentelemetry",
    "ledger_watcher_airflow",
]

EXTRAS = ["ledger_watcher.emit.openlineage", "ledger_watcher.emit.otel"]
"""Modules that are made of the library of an extra, and that only whoever asked for them loads: :func:`ledger_watcher.emit.make_emitter`."""

LOADED = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""

IMPORT_ALL = """
import importlib, importlib.util, json, pkgutil, sys
import ledger_watcher
failed, names = {}, ["ledger_watcher", *(m.name for m in pkgutil.walk_packages(ledger_watcher.__path__, "ledger_watcher."))]
for name in names:
    try:
        name in json.loads(sys.argv[2]) or importlib.import_module(name)
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}"
installed = [name for name in json.loads(sys.argv[1]) if importlib.util.find_spec(name)]
loaded = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps({"names": names, "failed": failed, "installed": installed, "loaded": loaded}))
"""

A_RUN = """
import sys
from ledger_watcher.ledger import ChainReader, LedgerWriter, RunKey
from ledger_watcher.records import AttemptFinished, AttemptStarted, EndedBy, utcnow
from ledger_watcher.state import RunState
from ledger_watcher.storage import open_store
store, run, now = open_store(sys.argv[1]), RunKey("d", "r"), utcnow()
writer = LedgerWriter(store, run)
writer.open(AttemptStarted(ts=now, attempt=0, command=("dbt",), invocation="i", producer_started_at=now))
writer.close(AttemptFinished(ts=now, exit_code=0, ended_by=EndedBy.EXIT))
state = RunState()
state.apply(ChainReader(store, run).read())
print(state.ended, state.attempt.finished.exit_code)
"""


def python(executable: Path | str, code: str, *args: str) -> str:
    """What a fresh interpreter prints; it looks neither at this folder nor at the environment's paths."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [executable, "-c", code, *args], check=False, capture_output=True, text=True, timeout=120, cwd="/", env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "name",
    [
        "ledger_watcher",
        "ledger_watcher.records",
        "ledger_watcher.codec",
        "ledger_watcher.errors",
        "ledger_watcher.state",
        "ledger_watcher.storage",
        "ledger_watcher.ledger",
        "ledger_watcher.project",
        "ledger_watcher.capture",
        "ledger_watcher.cli",
    ],
)
def test_importing_a_part_of_the_core_loads_nothing_heavy(name: str) -> None:
    """All of them are installed here; none is loaded before it is used. DAG files are parsed every few seconds."""
    loaded = json.loads(python(sys.executable, LOADED, name))
    assert [heavy for heavy in HEAVY if heavy in loaded] == []
    assert "ledger_watcher" in loaded


def test_importing_everything_in_the_core_loads_nothing_heavy() -> None:
    """Also modules that nobody thought of when the list above was written."""
    said = json.loads(python(sys.executable, IMPORT_ALL, json.dumps(HEAVY), json.dumps(EXTRAS)))
    assert said["failed"] == {}
    assert [heavy for heavy in HEAVY if heavy in said["loaded"]] == []
    assert {"ledger_watcher.ledger.writer", "ledger_watcher.storage._remote", *EXTRAS} <= set(said["names"])


def test_this_environment_could_tell() -> None:
    """The libraries whose absence is shown above are there to be loaded, so the tests above can fail."""
    loaded = json.loads(python(sys.executable, LOADED, "s3fs", "rich", "pyarrow", "openlineage.client", "opentelemetry.sdk"))
    assert {"s3fs", "botocore", "aiobotocore", "aiohttp", "rich", "pyarrow", "openlineage", "opentelemetry"} <= set(loaded)


@pytest.fixture(scope="session")
def bare() -> Path:
    """The Python of an environment with this project and its dependencies alone; made once for each pyproject.toml."""
    folder = REPOSITORY / ".work" / "bare"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256((REPOSITORY / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    made_for, executable = folder / "made-for", folder / "venv" / "bin" / "python"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made_for.exists() and made_for.read_text() == wanted and executable.exists()):
            made_for.unlink(missing_ok=True)
            shutil.rmtree(folder / "venv", ignore_errors=True)
            _make(folder / "venv")
            made_for.write_text(wanted)
    return executable


def _make(venv: Path) -> None:
    uv = os.environ.get("UV") or shutil.which("uv") or str(REPOSITORY / ".tools" / "bin" / "uv")
    if Path(uv).exists():
        commands = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(venv)],
            [uv, "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), "--editable", str(REPOSITORY)],
        ]
    else:
        commands = [
            [sys.executable, "-m", "venv", str(venv)],
            [str(venv / "bin" / "pip"), "install", "--quiet", "--editable", str(REPOSITORY)],
        ]
    for command in commands:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_everything_in_the_core_can_be_imported_with_its_dependencies_alone(bare: Path) -> None:
    """click, fsspec, jinja2 and msgspec: a dbt environment has little more, and must not need more."""
    heavy = [name for name in HEAVY if name != "ledger_watcher_airflow"]
    said = json.loads(python(bare, IMPORT_ALL, json.dumps(heavy), json.dumps(EXTRAS)))
    assert said["installed"] == [], "the environment is not bare, so it shows nothing"
    assert said["failed"] == {}
    assert "ledger_watcher.ledger.writer" in said["names"]


def test_a_local_ledger_needs_nothing_else(bare: Path, tmp_path: Path) -> None:
    """Writing, reading and folding a run, in that environment."""
    assert python(bare, A_RUN, str(tmp_path)) == "True 0\n"


def test_a_cloud_ledger_says_what_to_install(bare: Path) -> None:
    """The library of the storage is asked for when it is needed, by the name of the extra."""
    code = "from ledger_watcher.storage import open_store\ntry: open_store('s3://b/x').get('k')\nexcept Exception as e: print(type(e).__name__, e)"
    said = python(bare, code)
    assert said.startswith("ConfigError The ledger s3://b/x needs a library that is not installed here")
    assert "pip install 'ledger-watcher[s3]'" in said
