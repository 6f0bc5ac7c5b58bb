"""The distributions built from this tree, and fresh environments into which they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def uv() -> str:
    """The program that the Makefile uses, too."""
    return shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")


def run(*command: str | Path, **environment: str) -> str:
    """What the command prints; an error of its own words if it fails. No package of this checkout is in its way."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, f"{command}: {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def interpreter(version: str) -> Path | None:
    """A Python of that version on this machine: on PATH, or pyenv's."""
    places = [Path(found) for found in [shutil.which(f"python{version}"), shutil.which("python3")] if found]
    for python in [*places, *sorted(_PYENV.glob(f"{version}.*/bin/python"))]:
        told = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if told.stdout.strip() == version:  # pyenv's shims are there for versions that are not in use, and fail
            return python
    return None


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @classmethod
    def made(cls, folder: Path, python: Path, *packages: str) -> Environment:
        """With these packages, in versions that the development environment has, too, where it has them."""
        run(uv(), "venv", "--quiet", "--clear", "--python", python, folder)
        constraints = ROOT / "requirements" / "dev.txt"
        run(uv(), "pip", "install", "--quiet", "--python", folder / "bin" / "python", "--constraint", constraints, *packages)
        return cls(folder)

    def program(self, name: str, *arguments: str, **environment: str) -> str:
        """What one of its programs prints."""
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        return run(self.folder / "bin" / name, *arguments, PATH=path, **environment)

    def python(self, code: str, environment: Mapping[str, str] | None = None) -> str:
        """What a program in it prints."""
        return self.program("python", "-I", "-c", code, **(environment or {})).strip()
