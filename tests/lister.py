"""A dbt executable that lists the nodes that a test says, in milliseconds instead of seconds."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.projects import manifest

_SCRIPT = f"""#!{sys.executable} -SE
import json, os, shutil, sys
here = os.path.dirname(os.path.abspath(__file__))
folder = os.environ.get("DBT_PROFILES_DIR")
profile = open(folder + "/profiles.yml").read() if folder else None
with open(here + "/said", "a") as file:
    file.write(json.dumps([sys.argv[1:], profile, os.environ.get("TOLD")]) + "\\n")
if "deps" in sys.argv:
    os.makedirs(sys.argv[-1].partition("=")[2] + "/dbt_packages/p")
    sys.exit(0)
if os.path.exists(here + "/broken"):
    print("Parsing Error: model x, password is hunter2hunter2")
    sys.exit(2)
target = sys.argv[sys.argv.index("--target-path") + 1]
os.makedirs(target, exist_ok=True)
shutil.copy(here + "/manifest.json", target)
print("12:00:00  Running with dbt")
for name in json.load(open(here + "/selected")):
    print(json.dumps({{"unique_id": name}}))
"""


@dataclass(frozen=True)
class Lister:
    """Such a program in a folder; it notes there what it is told. While the folder has a file ``broken``, it fails."""

    folder: Path

    def write(self, *nodes: dict[str, Any], selected: tuple[str, ...]) -> Path:
        """The program: its project has these nodes, of which it lists some."""
        (self.folder / "manifest.json").write_text(json.dumps(manifest(*nodes)))
        (self.folder / "selected").write_text(json.dumps(selected))
        program = self.folder / "dbt"
        program.write_text(_SCRIPT)
        program.chmod(0o755)
        return program

    @property
    def notes(self) -> list[tuple[list[str], str | None, str | None]]:
        """Of each start, the arguments, the profile in DBT_PROFILES_DIR, and the variable TOLD."""
        file = self.folder / "said"
        return [tuple(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def said(self) -> list[list[str]]:
        """The arguments of each start."""
        return [arguments for arguments, _, _ in self.notes]
