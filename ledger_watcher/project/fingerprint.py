"""What dbt's answer about a project depends on, as short texts: the project's files, other files, dbt itself. None of them starts dbt.

A DAG file is parsed every few seconds, so the files of a project are only looked at (size, times); they are read when one of them has changed.
The text made of their content is the same on every machine.
"""

from __future__ import annotations

import hashlib
import os
import re
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ledger_watcher import plain
from ledger_watcher.project.cache import Cache, named

PROJECT_FILE = "dbt_project.yml"
_READ_BY_DBT = frozenset({".csv", ".jinja", ".json", ".jsonl", ".md", ".py", ".sql", ".yaml", ".yml"})
_WRITTEN_BY_DBT = {"target-path": "target", "log-path": "logs"}
_STATE = ("manifest.json", "run_results.json", "sources.json")
_TAIL = 65_536


def project_hash(folder: Path, cache: Cache) -> str:
    """SHA-256 (hex) of the names and contents of all files of a project that dbt reads, packages included.

    :raises OSError: the folder cannot be read.
    """
    files = sorted(_files(folder))
    seen = named("seen", *(f"{name} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}" for name, stat in files))
    kept = Cache(cache.folder)  # times mean nothing on another machine
    last = named("files", folder)
    with suppress(ValueError, LookupError, TypeError):
        told = plain.loads(kept.get(last) or b"")
        if told["seen"] == seen:
            return str(told["sha256"])
    digest = hashlib.sha256()
    for name, _ in files:
        content = (folder / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode("utf-8", "surrogateescape") + content)
    kept.put(last, plain.dumps({"seen": seen, "sha256": digest.hexdigest()}))
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file, or of the artifacts in a folder of dbt's state; empty if there is none."""
    digest = hashlib.sha256()
    for file in [path / name for name in _STATE] if path.is_dir() else [path]:
        with suppress(OSError):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def dbt_identity(executable: str | None) -> str:
    """Which dbt that is: the packages of its environment, if it has any, else its own size and end.

    :param executable: path of the program; ``None``: the dbt of this Python.
    """
    if executable is None:
        return _packages(Path(sysconfig.get_path("purelib")))
    program = Path(executable).resolve()
    for place in (Path(executable), program):  # a link in a virtual environment; a link to one
        for site in sorted(place.parent.parent.glob("lib/python*/site-packages")):
            if found := _packages(site):
                return found
    with program.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        return f"{program.name} {size} {hashlib.sha256(file.read()).hexdigest()}"


def top_level(text: str, key: str) -> str | None:
    """The value of a top-level key of a YAML text that is a plain or quoted scalar."""
    found = re.search(rf"^{re.escape(key)}[ \t]*:[ \t]*(?:'([^'\n]*)'|\"([^\"\n]*)\"|([^\s#'\"][^#\n]*))", text, re.MULTILINE)
    return next((value.strip() for value in found.groups() if value), None) if found else None


def _packages(site: Path) -> str:
    """dbt-core and what begins with dbt in a folder of packages; empty without dbt-core."""
    names = sorted(entry.name.removesuffix(".dist-info") for entry in os.scandir(site) if re.match(r"dbt[_-].*\.dist-info$", entry.name))
    return " ".join(names) if any(name.startswith("dbt_core-") for name in names) else ""


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Paths below the project and what the system says of them, without hidden folders and those that dbt writes to."""
    text = (folder / PROJECT_FILE).read_text("utf-8", "replace")
    left_out = {os.path.normpath(top_level(text, key) or default) for key, default in _WRITTEN_BY_DBT.items()}
    root = folder.stat()
    todo, seen = [""], {(root.st_dev, root.st_ino)}
    while todo:
        inner = todo.pop()
        for entry in sorted(os.scandir(folder / inner), key=lambda entry: entry.name):
            name = os.path.join(inner, entry.name)  # noqa: PTH118 - thousands of times
            if entry.name.startswith(".") or name in left_out or entry.name == "__pycache__":
                continue
            if entry.is_dir():  # a package may be a link to a folder, and that one hold a link back
                stat = entry.stat()
                if (stat.st_dev, stat.st_ino) not in seen:
                    seen.add((stat.st_dev, stat.st_ino))
                    todo.append(name)
            elif os.path.splitext(entry.name)[1].lower() in _READ_BY_DBT:  # noqa: PTH122
                with suppress(FileNotFoundError):  # a link to nowhere
                    yield name, entry.stat()
