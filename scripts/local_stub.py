"""Write the stub of the operators that are made of a table: ``python -m scripts.local_stub``."""

from __future__ import annotations

from pathlib import Path

from ledger_watcher_airflow.local import classes

STUB = Path(classes.__file__).with_name("__init__.pyi")


def stub() -> str:
    """What type checkers and editors are told."""
    made = {name: one.__mro__[1] for name, one in sorted(classes.OPERATORS.items())}
    homes: dict[str, set[str]] = {}
    for base in made.values():
        homes.setdefault(base.__module__, set()).add(base.__name__)
    imports = [f"from {home} import {', '.join(sorted(names))}" for home, names in sorted(homes.items())]
    shown = ["__all__ = [", *(f'    "{name}",' for name in made), "]"]
    lines = [f"class {name}({base.__name__}): ..." for name, base in made.items()]
    return "\n".join(["# Written by scripts/local_stub.py", "", *imports, "", *shown, "", *lines, ""])


if __name__ == "__main__":
    STUB.write_text(stub())
