"""One dbt for many questions: a process that imports it once and parses each project once, and a ``dbt`` that hands it a command line.

The program is started as any dbt executable is, with the arguments, the environment and the folder that its caller gives it; only the seconds
of importing and parsing are saved. The manifest that it writes is the one of that parse.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLIENT = f"""#!{sys.executable} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({{path!r}})
    line.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    code, text = json.loads(line.makefile().readline())
print(text)
sys.exit(code)
"""


@dataclass(frozen=True)
class DbtServer:
    """``program`` is the dbt executable."""

    program: Path

    def ls(self, project: Path, *words: str) -> tuple[int, list[dict[str, object]]]:
        """What plain ``dbt ls`` prints, whose words are a test's: the exit code and the nodes."""
        argv = [
            str(self.program),
            "--quiet",
            "ls",
            "--project-dir",
            str(project),
            "--profiles-dir",
            str(project),
            "--output",
            "json",
            *words,
        ]
        done = subprocess.run(argv, capture_output=True, text=True, cwd=project, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@contextmanager
def serving(folder: Path) -> Iterator[DbtServer]:
    """The server, for as long as the context lasts; ``folder`` is for its socket and the program."""
    path = folder / "line"
    program = folder / "dbt"
    program.write_text(CLIENT.format(path=str(path)))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        process = subprocess.Popen([sys.executable, __file__], stdin=listening.fileno(), stdout=subprocess.DEVNULL)
        try:
            yield DbtServer(program)
        finally:
            process.terminate()
            process.wait(60)


def _serve() -> None:
    from dbt.cli.main import dbtRunner

    listening, manifests = socket.socket(fileno=os.dup(0)), {}
    while True:
        line, _ = listening.accept()
        with line:
            argv, cwd, env = json.loads(line.makefile().readline())
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(env)
            project = argv[argv.index("--project-dir") + 1]
            if project not in manifests:
                own = ["--project-dir", project, "--profiles-dir", project, "--target-path", str(Path(project) / ".parsed")]
                manifests[project] = dbtRunner().invoke(["--quiet", "parse", *own]).result
            result = dbtRunner(manifest=manifests[project]).invoke(argv)
            if "--target-path" in argv:
                folder = Path(argv[argv.index("--target-path") + 1])
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(project) / ".parsed" / "manifest.json", folder)
            text = "\n".join(result.result or ()) if result.success else str(result.exception)
            line.sendall(json.dumps([0 if result.success else 2, text]).encode() + b"\n")


if __name__ == "__main__":
    _serve()
