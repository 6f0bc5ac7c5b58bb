"""``ledger-watcher run``: run dbt and keep what happens in a ledger."""

from __future__ import annotations

import logging
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click

from ledger_watcher import codec
from ledger_watcher.capture import Capture, CaptureRequest, Checked
from ledger_watcher.capture.plan import read_plan
from ledger_watcher.capture.request import CaptureResult
from ledger_watcher.cli._common import LedgerCommand, parse_storage_options, say_note
from ledger_watcher.deps import install_deps
from ledger_watcher.errors import ConfigError
from ledger_watcher.ledger import RunKey
from ledger_watcher.packing import unpack
from ledger_watcher.records import EndedBy, utcnow
from ledger_watcher.storage import open_store
from ledger_watcher.verdict import HANDLED, errors_of, recorded_nodes, rendered_hash

_NO_EXIT_CODE = 1


_F = TypeVar("_F", bound=Callable[..., Any])


_T = TypeVar("_T")


def _unless_empty(convert: Callable[[str], _T]) -> Callable[[str], _T | None]:
    """An empty value is as none at all: what fills a command in from a template always writes the option.

    click turns the ValueError of ``convert`` into a usage error, and names the type as it is called.
    """

    def converted(text: str) -> _T | None:
        return convert(text) if text else None

    converted.__name__ = convert.__name__.strip("_")
    return converted


def _time(text: str) -> datetime:
    """An RFC 3339 time."""
    return codec.time_of(text).astimezone(timezone.utc)


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError
    return text


def _option(*names: str, **attrs: Any) -> Callable[[_F], _F]:
    """An option that is also read from ``LEDGER_WATCHER_<NAME>``."""
    variable = names[0].removeprefix("--").replace("-", "_").upper()
    return click.option(*names, envvar=f"LEDGER_WATCHER_{variable}", show_envvar=True, **attrs)


def _plan(file: Path | None, exactly: str | None) -> tuple[str, ...] | None:
    if file is not None and exactly:
        raise ConfigError("--plan and --exactly both say what the run is to build; give one of them.")
    return tuple(sorted(unpack(exactly))) if exactly else read_plan(file) if file is not None else None


@click.command(cls=LedgerCommand, name="run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_option("--ledger", required=True, metavar="URI", help="The ledger's root: a folder, or a URI such as s3://bucket/prefix.")
@_option("--dag-id", metavar="ID", help="The DAG, or any name. Default: the dbt project's name.")
@_option("--run-id", metavar="ID", help="The run. Default: cli__ and the time.")
@_option("--group", default="", metavar="G", help="The full path of the producer's task group.")
@_option("--map-index", default=-1, metavar="N", help="The producer's map index, if it is mapped.")
@_option("--deployment", default="default", show_default=True, metavar="D", help="The Airflow deployment, if several share the ledger.")
@_option("--project-dir", type=click.Path(path_type=Path), metavar="P", help="Where dbt is started. Default: here.")
@_option("--in-process", is_flag=True, help="Run dbt in this Python process instead of its own; dbt must be installed here.")
@_option("--storage-option", "storage_options", multiple=True, metavar="KEY=VALUE", help="For the storage library; VALUE may be JSON.")
@_option("--try-number", type=int, metavar="N", help="The try of the Airflow task that runs this.")
@_option("--clear-number", type=int, metavar="N", help="The DAG run's clear_number.")
@_option(
    "--producer-started-at",
    type=_unless_empty(_time),
    metavar="TIME",
    help="When the Airflow task that runs this started (RFC 3339). Default: now.",
)
@_option("--task-id", metavar="ID", help="The Airflow task that runs this, if it is not the producer.")
@_option(
    "--since",
    type=_unless_empty(_time),
    metavar="TIME",
    help="When the run began (RFC 3339): attempts from before are those of a deleted run of the same name, and do not count.",
)
@_option("--done", metavar="PACKED", help="Nodes that are not to be built, whatever the ledger says of them: see below.")
@_option("--only", metavar="PACKED", help="Build these nodes, and nothing else: see below.")
@_option("--exactly", metavar="PACKED", help="The nodes of the run, whatever the command selects: see below.")
@_option("--after", type=_unless_empty(int), metavar="N", help="The newest attempt must be this one; if another began meanwhile, stop.")
@_option(
    "--plan", type=click.Path(path_type=Path), metavar="FILE", help="The unique_ids that the run is to build: a JSON list, or one a line."
)
@_option("--redact-env", multiple=True, metavar="NAME", help="An environment variable whose value must not be recorded. Repeatable.")
@_option("--fresh", is_flag=True, help="Run everything, whatever attempts before this one did.")
@_option("--resume", is_flag=True, help="Go on from the attempts before, also across a clear; an error if there are none.")
@_option("--freshness", is_flag=True, help="Run `dbt source freshness` before; what has only stale sources is skipped: see below.")
@_option("--sources", metavar="PACKED", help="The sources that --freshness checks. Default: all of the project.")
@_option("--tests-last", is_flag=True, help="Build everything before the first test runs (`dbt build` only).")
@_option("--deps", is_flag=True, help="Run `dbt deps` before; if that fails, its exit code is returned.")
@_option("--emit", multiple=True, metavar="NAME", help="Tell of the run as it goes: openlineage, otel (see docs/emit.md). Repeatable.")
@_option("--rendered", type=_sha256, metavar="SHA256", help="Hash of the nodes that have a task in Airflow: see below.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- dbt build ...")
def run(command: tuple[str, ...], **options: Any) -> None:
    """Run a dbt command and record it in a ledger.

    Example: ledger-watcher run --ledger s3://bucket/ledger -- dbt build --select tag:daily

    The exit code is dbt's (0 success, 1 nodes failed, 2 anything else, 128 + n if signal n killed it), and 3 if the ledger or the input is
    the problem: then standard error has one line that says what to do. SIGINT and SIGTERM interrupt dbt, which cancels its queries; after
    10 seconds it gets SIGTERM, after 10 more SIGKILL.

    Given the id of a run that the ledger has (--run-id), it goes on from there: dbt builds what has not succeeded yet, and is not started
    if nothing is left. The user's selection is then replaced by the nodes that are left, all other flags stay.

    With --freshness, nodes below stale sources (older than their error_after) and no others are skipped, also if the command selects
    with a YAML selector; nodes below a source that dbt could not check are skipped as below a failed node. A stale source is no error.
    With --tests-last, no test keeps a node from being built. All of that is one attempt, with one exit code.

    PACKED is a set of unique_ids, base64 of zlib of a JSON list; ledger_watcher.packing.pack() makes it. Where an option
    stands with an empty value, it is as if it were left out. Nodes named with --exactly are built instead of those that the command
    selects; unlike those of --only, they are the whole run.

    With --rendered, 1 becomes 0 if dbt ran to its end, recorded exactly those nodes, and every error is one of theirs: then their tasks
    show it, and the one that runs this has done its work. Airflow's producers give it. With --only it says nothing: the exit code
    is dbt's.
    """
    if options["resume"] and options["run_id"] is None:
        raise ConfigError("--resume needs --run-id, the run to go on with; `ledger-watcher ls` shows them.")
    request = CaptureRequest(
        command=command,
        in_process=options["in_process"],
        project_dir=options["project_dir"],
        try_number=options["try_number"],
        clear_number=options["clear_number"],
        producer_started_at=options["producer_started_at"],
        redact_env=frozenset(options["redact_env"]),
        plan=_plan(options["plan"], options["exactly"]),
        selected=True,
        exactly=bool(options["exactly"]),
        fresh=options["fresh"],
        resume=options["resume"],
        done=unpack(options["done"]) if options["done"] else frozenset(),
        only=unpack(options["only"]) if options["only"] else None,
        freshness=options["freshness"],
        sources=unpack(options["sources"]) if options["sources"] else None,
        tests_last=options["tests_last"],
        since=options["since"],
        after=options["after"],
        task_id=options["task_id"] or None,
        emit=options["emit"],
    )
    key = RunKey(
        dag_id=options["dag_id"] or Checked.of(request).project.name or "dbt",
        run_id=options["run_id"] or f"cli__{utcnow():%Y-%m-%dT%H:%M:%S.%fZ}",
        group=options["group"],
        map_index=options["map_index"],
        deployment=options["deployment"],
    )
    if options["deps"] and (code := install_deps(request, click.echo)):
        say_note(f"`dbt deps` ended with exit code {code}, so the command was not run.")
        sys.exit(code)
    store = open_store(options["ledger"], storage_options=parse_storage_options(options["storage_options"]))
    capture = Capture(store, key, request)
    say_note(f"Ledger of {key}: {store.root.rstrip('/')}/{key.prefix}")
    with _signals(capture), _remarks():
        result = capture.run()
    for problem in result.problems:
        say_note(f"Note: {problem}")
    say_note(f"Ledger ended with {result.end_sha256} (dbt: exit code {result.exit_code}, {result.ended_by.value}).")
    sys.exit(_judged(result, request, options["rendered"]))


def _judged(result: CaptureResult, request: CaptureRequest, rendered: str | None) -> int:
    """The exit code for whoever has a task per node: see ``--rendered``."""
    code = _NO_EXIT_CODE if result.exit_code is None else result.exit_code
    if rendered is None or request.only is not None or result.exit_code not in (0, HANDLED) or result.ended_by is not EndedBy.EXIT:
        return code
    recorded = recorded_nodes(result.state) | request.done
    if rendered_hash(recorded) != rendered:
        say_note(
            f"The {len(recorded)} nodes that dbt worked on are not those that have a task in Airflow: the manifest of the DAG file is of another "
            "version of this project than the one that dbt ran, or of another selection. Deploy the same version to both, then clear the "
            f"run. The exit code is dbt's ({code})."
        )
        return code
    if code != HANDLED:
        return code
    errors = errors_of(result.state, recorded)
    if errors.hidden or not errors.shown:
        say_note(f"Errors without a task of their own: {errors.named or 'dbt named no node'}. So the exit code is dbt's.")
        return code
    say_note(f"dbt ran to its end with {len(errors.shown)} failed nodes; their own tasks show them, so the exit code is 0.")
    return 0


class _Notes(logging.Handler):
    """What the package logs, as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        say_note(record.getMessage())


@contextmanager
def _remarks() -> Iterator[None]:
    """Show what the package logs (what is taken over, a storage that is away) on standard error."""
    package, handler = logging.getLogger("ledger_watcher"), _Notes()
    level, propagate = package.level, package.propagate
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False  # dbt's libraries may set up logging of their own
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        package.propagate = propagate


@contextmanager
def _signals(capture: Capture) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP (the terminal or the SSH session is gone) interrupt dbt once, and are then waited for: the ledger gets its end."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        capture.interrupt()

    handled = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup the run is meant to outlive its terminal
        handled.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
