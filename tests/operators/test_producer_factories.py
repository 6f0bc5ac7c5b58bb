"""The ready producers. Their providers are in an environment of their own: Google's and dbt do not fit into one."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import kubernetes_producer
from tests.operators.commands import command

ROOT = Path(__file__).parents[2]
CHECKS = sorted((Path(__file__).parent / "providers").glob("check_*.py"))


@pytest.fixture(scope="session")
def providers() -> Path:
    """The Python that has all providers, made by the project's own script."""
    done = subprocess.run([str(ROOT / "scripts" / "venv.sh"), "providers"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / ".venv-providers" / "bin" / "python"


@pytest.mark.timeout(600)
def test_each_producer_sends_what_it_should(providers: Path, tmp_path: Path) -> None:
    """Dozens of checks with the real operators: see the other files, which may be run on their own in the same way."""
    arguments = ["-m", "pytest", *map(str, CHECKS), "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "checks")]
    done = subprocess.run([str(providers), *arguments], check=False, capture_output=True, text=True, cwd=ROOT, env=dict(os.environ))
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    counted = re.search(r"(\d+) passed", done.stdout)
    written = sum(len(re.findall(r"^def test_", file.read_text(), re.MULTILINE)) for file in CHECKS)
    assert counted is not None
    assert int(counted[1]) >= written > 5
    assert "skipped" not in done.stdout


def test_without_its_provider_a_producer_says_what_to_install() -> None:
    make = kubernetes_producer(image="registry.example/dbt:1")
    with pytest.raises(ConfigError, match=r"pip install 'ledger-watcher\[kubernetes\]'"):
        make(command())
