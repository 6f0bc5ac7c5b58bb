"""Build the documentation: ``python -m scripts.docs [FOLDER]`` (``make docs``), with the Sphinx of .venv-docs.

Its source is docs/, the contributing guide and the changelog, in a copy: there, the tables of the configuration are made of the classes' docstrings, and
a link to a file that is no page becomes its text.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger_watcher.project import SourceRenderingBehavior, TestBehavior
from ledger_watcher_airflow.config import (
    AssetMode,
    ExecutionConfig,
    ExecutionMode,
    InvocationMode,
    LoadMode,
    ProducerRetryOn,
    ProfileConfig,
    ProjectConfig,
    RenderConfig,
)
from ledger_watcher_airflow.flags import DbtFlags
from ledger_watcher_airflow.provider_info import get_provider_info

ROOT = Path(__file__).resolve().parents[1]
CLASSES = (ProjectConfig, ProfileConfig, ExecutionConfig, RenderConfig, DbtFlags)
CHOICES = (ExecutionMode, InvocationMode, ProducerRetryOn, LoadMode, TestBehavior, SourceRenderingBehavior, AssetMode)
PROJECT_PAGES = {"CONTRIBUTING.md": "project/contributing.md", "CHANGELOG.md": "project/changelog.md"}
SETTINGS = {
    "project": "ledger_watcher",
    "extensions": "myst_parser",
    "html_theme": "furo",
    "myst_heading_anchors": 4,
    "suppress_warnings": "misc.highlighting_failure",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
_PARAMETER = re.compile(r":param (\w+): (.*?)(?=\n\s*:(?:param|raises|returns?)\b|\Z)", re.DOTALL)
_WITH_OTHERS = re.compile(r"^and ((?:``\w+``(?:, )?)+): ")


def main() -> int:
    """Sphinx's exit code; each warning is an error."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".work" / "docs").absolute()
    source, target = out / "source", out / "html"
    assemble(source)
    command: list[str | Path] = [ROOT / ".venv-docs" / "bin" / "python", "-m", "sphinx", "-W", "-n", "-q", "--keep-going", "-E", "-C"]
    settings = [f"-D{name}={value}" for name, value in SETTINGS.items()]
    code = subprocess.run([*command, *settings, source, target], check=False).returncode
    print(target / "index.html" if code == 0 else "The documentation has mistakes: see above.")
    return code


def assemble(source: Path) -> None:
    """A copy of docs/ that Sphinx can read, in an empty folder."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source)
    (source / "project").mkdir()
    for path in source.rglob("*.md"):
        place = path.relative_to(source)
        path.write_text(_pages_only(path.read_text(), (ROOT / "docs" / place).parent, depth=len(place.parents) - 1))
    for name, page in PROJECT_PAGES.items():
        (source / page).write_text(_pages_only((ROOT / name).read_text(), ROOT, depth=1))
    reference = source / "reference" / "configuration.md"
    reference.write_text(configuration(reference.read_text()))


def configuration(text: str) -> str:
    """The page with its tables."""
    classes = "\n\n".join(_class_section(one) for one in CLASSES)
    members = [(one, ", ".join(f"`{member.name}`" for member in one)) for one in CHOICES]
    choices = "\n".join(f"| `{one.__name__}` | {names} | {_plain((one.__doc__ or '').partition('.')[0])} |" for one, names in members)
    return (
        text.replace("<!-- classes -->", classes)
        .replace("<!-- choices -->", choices)
        .replace("<!-- options -->", "\n".join(_option_rows()))
    )


def parameters(one: type) -> dict[str, str]:
    """What the docstring of a configuration's class says of its fields, as Markdown; of several in one entry, each gets it."""
    found: dict[str, str] = {}
    for name, words in _PARAMETER.findall(one.__doc__ or ""):
        text = " ".join(words.split())
        others = _WITH_OTHERS.match(text)
        meaning = _plain(_WITH_OTHERS.sub("", text))
        found |= dict.fromkeys([name, *re.findall(r"``(\w+)``", others[1] if others else "")], meaning)
    return found


def _plain(words: str) -> str:
    """Of reStructuredText, Markdown."""
    return _ROLE.sub(r"`\1`", words).replace("``", "`")


def _class_section(one: Any) -> str:  # noqa: ANN401 - a dataclass
    said = parameters(one)
    summary = _plain((one.__doc__ or "").partition("\n")[0])
    title = f"`{one.__name__}`" if one is not DbtFlags else "`operator_args`: dbt's flags"
    if one is DbtFlags:  # those that go without saying
        said = {field.name: f"dbt's `--{field.name.replace('_', '-')}`" for field in dataclasses.fields(one)} | said
    rows = [f"| `{field.name}` | {_default(field)} | {said[field.name]} |" for field in dataclasses.fields(one)]
    return "\n".join([f"## {title}", "", summary, "", "| name | default | meaning |", "|---|---|---|", *rows])


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
        return f"`{type(value).__name__}.{value.name}`" if hasattr(value, "name") else f"`{value!r}`"
    return f"`{field.default_factory()!r}`" if field.default_factory is not dataclasses.MISSING else "required"


def _option_rows() -> Iterator[str]:
    sections: Any = get_provider_info()["config"]
    for section, content in sections.items():
        for name, option in content["options"].items():
            yield f"| `[{section}] {name}` | `AIRFLOW__{section.upper()}__{name.upper()}` | {option['description']} |"


def _pages_only(text: str, folder: Path, *, depth: int) -> str:
    """Links to files of this repository that are no pages become text; those to the pages of the project lead there."""

    def replaced(found: re.Match[str]) -> str:
        image, words, target, anchor = found[1], found[2], found[3], found[4] or ""
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        place = (folder / target).resolve()
        docs = ROOT / "docs"
        if place.is_relative_to(docs) and place.is_file():
            where = place.relative_to(docs).as_posix()
        elif place.is_relative_to(ROOT) and place.relative_to(ROOT).as_posix() in PROJECT_PAGES:
            where = PROJECT_PAGES[place.relative_to(ROOT).as_posix()]
        else:
            return words
        return f"{image}[{words}]({'../' * depth}{where}{anchor})"

    return _LINK.sub(replaced, text)


if __name__ == "__main__":
    sys.exit(main())
