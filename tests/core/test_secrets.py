"""Secrets in every place where a dbt project has them: real dbt runs, and none of them may stand in any object of the ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ledger_watcher.ledger import ChainReader, list_runs
from ledger_watcher.ledger.verify import verify
from ledger_watcher.state import RunState
from ledger_watcher.storage import LocalStore

BIN = Path(sys.executable).parent
PATIENCE = 300.0
"""Seconds after which a dbt that was waited for is taken for lost. A bound for broken code, never a pause."""


def secret(name: str) -> str:
    """A text that stands nowhere else."""
    return f"s3cr3t-{name}-{sum(name.encode()) * 7919 % 100000:05d}-end"


ENV = {
    name: secret(name)
    for name in (
        "DBT_ENV_SECRET_SQL",
        "DBT_ENV_SECRET_LOG",
        "DBT_ENV_SECRET_PRINT",
        "DBT_ENV_SECRET_RUN_HOOK",
        "DBT_ENV_SECRET_POST_HOOK",
        "DBT_ENV_SECRET_RAISED",
        "DBT_ENV_SECRET_ADAPTER",
        "DBT_ENV_SECRET_TEST",
        "WAREHOUSE_TOKEN",  # profiles.yml names it
        "PARTNER_PHRASE",  # the caller names it
    )
} | {"DBT_ENV_SECRET_ODD": "s3cr3t/odd &'\"\\ ö-end"}
LITERAL = {
    name: secret(name)
    for name in (
        "profile-password",
        "vars",
        "url-in-meta",
        "key-in-meta",
        "exposure-url",
        "parameter",
        "command-line",
        "package-url",
    )
}
KEY_LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj"
ODD = ENV["DBT_ENV_SECRET_ODD"]
ALL = {**ENV, **LITERAL, "private-key": KEY_LINE}

PROFILES = f"""
shop:
  target: dev
  outputs:
    dev: {{type: duckdb, path: shop.duckdb, threads: 2}}
    prod:
      type: snowflake
      account: shop
      user: shop
      password: "{LITERAL["profile-password"]}"
      token: "{{{{ env_var('WAREHOUSE_TOKEN') }}}}"
      private_key: |
        -----BEGIN PRIVATE KEY-----
        {KEY_LINE}
        -----END PRIVATE KEY-----
      schema: main
"""
PROJECT = f"""
name: shop
profile: shop
on-run-start: ["select '{ENV["DBT_ENV_SECRET_RUN_HOOK"]}'"]
"""
MODELS = {
    "sql": f"select '{ENV['DBT_ENV_SECRET_SQL']}' as id, '{{{{ var('api_token') }}}}' as a, '{KEY_LINE}' as b",
    "logs": (
        f"{{{{ log('l {ENV['DBT_ENV_SECRET_LOG']} {ENV['WAREHOUSE_TOKEN']} {LITERAL['profile-password']}', info=True) }}}}"
        f"{{{{ print('p {ENV['DBT_ENV_SECRET_PRINT']}') }}}} select 1 as id -- {ENV['DBT_ENV_SECRET_PRINT']}"
    ),
    "odd": f"{{{{ log('https://host/{quote(ODD, safe='')} ' ~ env_var('ODD'), info=True) }}}} select 1 as id",
    "hooked": f"{{{{ config(post_hook=\"select '{ENV['DBT_ENV_SECRET_POST_HOOK']}'\") }}}} select 1 as id",
    "raises": f"{{{{ exceptions.raise_compiler_error('r {ENV['DBT_ENV_SECRET_RAISED']}') if execute }}}}",
    "breaks": f"{{{{ config(materialized='table') }}}} select cast('{ENV['DBT_ENV_SECRET_ADAPTER']}' as integer) as id",
    "partner": f"{{{{ config(materialized='table') }}}} select cast('{ENV['PARTNER_PHRASE']}' as integer) as id",
}
FAILS = f"{{{{ config(alias='fails') }}}} select * from {{{{ ref('sql') }}}} -- {ENV['DBT_ENV_SECRET_TEST']}"  # noqa: S608 - it is meant to hold it
SCHEMA = f"""
models:
  - name: sql
    description: see https://host/?motherduck_token={LITERAL["parameter"]}
    config:
      meta:
        from: postgres://user:{LITERAL["url-in-meta"]}@host/db
        api_key: {LITERAL["key-in-meta"]}
exposures:
  - name: board
    type: dashboard
    owner: {{name: me}}
    url: https://user:{LITERAL["exposure-url"]}@host/board
    depends_on: [ref('sql')]
"""
PACKAGES = f"""
packages:
  - git: "https://user:{LITERAL["package-url"]}@127.0.0.1:1/b.git"
    revision: "1"
"""
BUILD = ("env", f"OTHER={LITERAL['command-line']}", "dbt", "build", "--vars", f"{{api_token: {LITERAL['vars']}, day: 2026-01-01}}")

DRIVER = """
import sys
from pathlib import Path
from ledger_watcher.capture import Capture, CaptureRequest, DbtCommand, Masker, session
from ledger_watcher.ledger import RunKey
from ledger_watcher.storage import open_store
ledger, mode, masking, *command = sys.argv[1:]
if masking == "off":
    Masker.text = lambda self, text: text
    Masker.tree = lambda self, value: value
    session.redact = lambda name, data, masker=None: data
    DbtCommand.redacted = lambda self: self.argv
request = CaptureRequest(
    command=tuple(command), in_process=mode == "in_process", project_dir=Path.cwd(), redact_env=frozenset({"PARTNER_PHRASE"})
)
result = Capture(open_store(ledger), RunKey("shop", mode), request).run()
print("problems:", result.problems, "exit code:", result.exit_code)
"""


class Run:
    """A dbt run under way, with a ledger of its own."""

    def __init__(self, folder: Path, mode: str, masking: str, *command: str) -> None:
        self.project = folder / f"{mode}-{masking}-{len(command)}"
        self.ledger = folder / f"{self.project.name}-ledger"
        make_project(self.project)
        if "deps" in command:
            (self.project / "packages.yml").write_text(PACKAGES)
        environment = {
            **os.environ,
            **ENV,
            "ODD": ODD,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "GIT_TERMINAL_PROMPT": "0",
            "TMPDIR": str(folder),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(self.ledger), mode, masking, *command],
            cwd=self.project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def objects(self) -> dict[str, str]:
        """Every object of the ledger, when dbt has ended."""
        output, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, output
        self.output = output
        return {str(path.relative_to(self.ledger)): path.read_text("utf-8") for path in self.ledger.rglob("*") if path.is_file()}


def make_project(folder: Path) -> None:
    (folder / "models").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "profiles.yml").write_text(PROFILES)
    (folder / "dbt_project.yml").write_text(PROJECT)
    (folder / "models" / "schema.yml").write_text(SCHEMA)
    for name, sql in MODELS.items():
        (folder / "models" / f"{name}.sql").write_text(sql)
    (folder / "tests" / "fails.sql").write_text(FAILS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Run]]:
    folder = tmp_path_factory.mktemp("secrets")
    started = {
        ("subprocess", "on"): Run(folder, "subprocess", "on", *BUILD),
        ("in_process", "on"): Run(folder, "in_process", "on", *BUILD),
        ("in_process", "off"): Run(folder, "in_process", "off", *BUILD),
        ("deps", "on"): Run(folder, "in_process", "on", "dbt", "deps"),
        ("deps", "off"): Run(folder, "in_process", "off", "dbt", "deps"),
    }
    yield started
    for run in started.values():
        run.process.kill()
        run.process.wait()


def forms(text: str) -> set[str]:
    """How a text may be written in an object, from the formats' own rules: plain, in JSON, in JSON in JSON, in a URL."""
    plain, ascii_only = json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]
    return {text, plain, ascii_only, json.dumps(plain, ensure_ascii=False)[1:-1], json.dumps(ascii_only)[1:-1], quote(text, safe="")}


def found_in(objects: dict[str, str]) -> dict[str, list[str]]:
    """The secrets that stand in any object, and in which."""
    found = {name: [path for path, text in objects.items() if any(form in text for form in forms(value))] for name, value in ALL.items()}
    return {name: paths for name, paths in found.items() if paths}


def kinds(paths: list[str]) -> set[str]:
    """The folders of a run that these objects lie in."""
    return {path.split("/")[-2] for path in paths}


def test_there_are_twenty_secrets_and_nothing_hides_them_but_us(runs: dict[tuple[str, str], Run]) -> None:
    """Without our masking each of them reaches the ledger: so their absence below is not for want of trying."""
    assert len(set(ALL.values())) == 20
    build, deps = found_in(runs["in_process", "off"].objects()), found_in(runs["deps", "off"].objects())
    assert set(build) | set(deps) == set(ALL)
    assert set(deps) == {"package-url"}
    places = [kinds(paths) for paths in (*build.values(), *deps.values())]
    assert set().union(*places) == {"seg", "ckpt", "files"}
    assert sum("seg" in place for place in places) >= 8, "and not only in the artifacts"


@pytest.mark.parametrize("kind", ["subprocess", "in_process", "deps"])
def test_no_object_of_the_ledger_has_a_secret(runs: dict[tuple[str, str], Run], kind: str) -> None:
    run = runs[kind, "on"]
    objects = run.objects()
    assert found_in(objects) == {}
    assert {"seg", "ckpt"} <= kinds(list(objects))
    store = LocalStore(str(run.ledger))
    (key,) = list_runs(store)
    found = verify(store, key)
    assert found.problems == []
    assert found.ended
    assert found.artifacts == (0 if kind == "deps" else 2)


def test_nor_has_the_console_that_we_write(runs: dict[tuple[str, str], Run]) -> None:
    """In-process, dbt writes the console on its own, and is scrubbed by nobody but itself."""
    run = runs["subprocess", "on"]
    run.objects()
    assert found_in({"console": run.output}) == {}
    assert "l ***** ***** *****" in run.output


@pytest.mark.parametrize("kind", ["subprocess", "in_process"])
def test_what_is_no_secret_stays(runs: dict[tuple[str, str], Run], kind: str) -> None:
    run = runs[kind, "on"]
    run.objects()
    store = LocalStore(str(run.ledger))
    (key,) = list_runs(store)
    state = RunState()
    state.apply(ChainReader(store, key).read())
    assert {node.split(".")[2] for node in state.nodes} == {*MODELS, "fails", "board"}
    messages = {name: node.finished.message for name, node in state.nodes.items() if node.finished is not None and node.finished.message}
    assert "Could not convert string '*****' to INT32" in messages["model.shop.breaks"]
    assert "Could not convert string '*****' to INT32" in messages["model.shop.partner"]
    assert "r *****" in messages["model.shop.raises"]
    assert any("l ***** ***** *****" in line for record in state.nodes["model.shop.logs"].logs for line in record.lines)
    attempt = state.attempt
    assert attempt is not None
    assert attempt.started is not None
    assert attempt.started.command == ("env", "OTHER=***", "dbt", "build", "--vars", "***")
    manifest = json.loads(store.get(attempt.artifacts["manifest.json"].path))
    meta = manifest["nodes"]["model.shop.sql"]["config"]["meta"]
    assert meta == {"from": "postgres://user:*****@host/db", "api_key": "*****"}
    assert manifest["exposures"]["exposure.shop.board"]["url"] == "https://*****@host/board"
    assert manifest["metadata"]["project_name"] == "shop"
