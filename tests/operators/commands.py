"""Producers that are commands: hostile texts, a command to put them through, and the context of a real-looking task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ledger_watcher_airflow import DbtCall, DbtFlags, ProducerCommand, ProfileConfig, ProjectConfig, producer_command
from ledger_watcher_airflow.ledger import LedgerRef

STARTED = datetime(2026, 7, 31, 12, 0, tzinfo=timezone.utc)
BEGAN = datetime(2026, 7, 31, 11, 0, tzinfo=timezone.utc)
NODES = ("model.shop.b", "model.shop.a")
PLAIN = "manual__2026-07-31T12:00:00+00:00"
HOSTILE = [
    'it\'s "quoted"',
    "$(touch owned) `touch owned` $HOME ${HOME} $$ $(HOME)",
    "two\nlines\r\nand a last one\n",
    "{{ 1 + 1 }} {% raw %} {# gone #} }} %}",
    "{{ run_id }}",
    "snowman ☃ \U0001f600 é",
    "back\\slash \\n \\' \\\" \\u0041",
    "; touch owned & | > owned < /dev/null ! * ? ~ # [a-z]",
    "--ledger=elsewhere",
    "script.sh",
    "settings.json",
    " ",
    "",
    "2026",
    "None",
    "[1, 2]",
    "<script>&amp;</script>",
    "%s %(x)s 100%",
]


def command(**more: Any) -> ProducerCommand:
    """A command with everything that changes from user to user as ``more`` says."""
    project = ProjectConfig(
        more.pop("folder", "/opt/dbt/shop"), dbt_vars=more.pop("dbt_vars", {}), env_vars=more.pop("env_vars", {}), manifest_path="m.json"
    )
    build = DbtCall(project=project, profile=ProfileConfig(profile_name="shop"), flags=DbtFlags(**more.pop("flags", {})), excluded_types=())
    ledger = LedgerRef(uri="s3://company-ledgers/prod", deployment=more.pop("deployment", "default"))
    return producer_command(build, ledger, NODES, **more)


def context(run_id: str = PLAIN, *, conf: dict[str, Any] | None = None, map_index: int = -1) -> dict[str, Any]:
    """What Airflow gives to the templates of a task."""
    ti = SimpleNamespace(
        dag_id="shop",
        task_id="dbt_producer_watcher",
        run_id=run_id,
        map_index=map_index,
        try_number=2,
        max_tries=0,
        start_date=STARTED,
        xcom_push=lambda **_: None,
        get_task_states=lambda **_: {},
    )
    dag_run = SimpleNamespace(clear_number=1, start_date=BEGAN, conf=conf or {}, run_id=run_id, logical_date=STARTED)
    return {"ti": ti, "task_instance": ti, "dag_run": dag_run, "run_id": run_id, "params": {}}


def rendered(operator: Any, ctx: dict[str, Any]) -> Any:  # noqa: ANN401 - any operator
    """The operator as it is when it is executed."""
    operator.render_template_fields({**ctx, "task": operator}, operator.get_template_env())
    return operator


def options(argv: Sequence[str]) -> dict[str, str]:
    """The options of ``ledger-watcher run``."""
    words = argv[argv.index("run") + 1 : argv.index("--")]
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def dbt_words(argv: Sequence[str]) -> list[str]:
    """The dbt command behind the dashes."""
    return list(argv[argv.index("--") + 1 :])


def folder_of(path: Path) -> Path:
    """A project folder, with nothing in it that dbt would need."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "dbt_project.yml").write_text("name: shop\n")
    return path
