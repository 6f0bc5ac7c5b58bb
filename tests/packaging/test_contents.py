"""What is in the wheel and in the sdist."""

from __future__ import annotations

import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from tests.packaging.installed import ROOT, run, uv

PACKAGES = {"ledger_watcher": ROOT, "ledger_watcher_airflow": ROOT / "operators"}
LEFT_BY_DBT = ("target", "logs", "dbt_packages", "__pycache__")


def tree() -> set[str]:
    """Every file of both packages, as a wheel names it, but for what Python and dbt leave there."""
    return {
        path.relative_to(base).as_posix()
        for package, base in PACKAGES.items()
        for path in (base / package).rglob("*")
        if path.is_file() and not set(path.parts) & set(LEFT_BY_DBT) and path.suffix not in (".duckdb", ".wal") and path.name != ".user.yml"
    }


def in_wheel(dist: Path) -> set[str]:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def in_sdist(dist: Path) -> set[str]:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_the_wheel_has_all_files_of_both_packages_and_no_other(dist: Path) -> None:
    """py.typed, the report's page with its scripts and styles, the example's project; no test."""
    files = {name for name in in_wheel(dist) if ".dist-info/" not in name}
    assert files == tree()
    assert {"ledger_watcher/py.typed", "ledger_watcher_airflow/py.typed", "ledger_watcher/report/page/page.css"} <= files


def test_the_sdist_has_them_and_what_builds_them(dist: Path) -> None:
    files = in_sdist(dist)
    packages = {f"operators/{name}" if name.startswith("ledger_watcher_airflow/") else name for name in tree()}
    others = {name for name in files - packages if not any(package.startswith(f"{name}/") for package in packages)}
    assert packages <= files
    assert others == {"pyproject.toml", "PKG-INFO", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore"}


def test_a_wheel_of_the_sdist_is_the_same(dist: Path, tmp_path: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    run(uv(), "build", "--quiet", "--wheel", "--out-dir", tmp_path, sdist)
    assert in_wheel(tmp_path) == in_wheel(dist)


def test_the_index_would_take_them(dist: Path) -> None:
    twine = ROOT / ".venv-packaging" / "bin" / "twine"
    if not twine.exists():
        pytest.skip("twine is not here: scripts/venv.sh packaging")
    assert run(twine, "check", "--strict", *dist.glob("ledger_watcher-*")).count("PASSED") == 2


def test_the_metadata_name_licence_scripts_and_entry_points(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = HeaderParser().parsestr(archive.read(f"{folder}/METADATA").decode())
        entries = archive.read(f"{folder}/entry_points.txt").decode()
        assert f"{folder}/licenses/LICENSE" in archive.namelist()
    assert metadata["Name"] == "ledger-watcher"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.10"
    assert {"airflow", "dbt", "s3", "gcs", "azure"} <= set(metadata.get_all("Provides-Extra", []))
    assert "[console_scripts]\nledger-watcher = " in entries
    assert "[apache_airflow_provider]\nprovider_info = " in entries
