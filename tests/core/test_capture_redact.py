from __future__ import annotations

import gzip
import json
from pathlib import Path
from urllib.parse import quote

import pytest

from ledger_watcher import codec
from ledger_watcher.capture import DbtCommand, Masker, redact
from ledger_watcher.capture.redact import masked
from ledger_watcher.capture.secrets import SECRET_KEY, known_secrets, secret_values
from tests.core.streams import FIXTURES, run_results

SECRET = 'pä"ss'


def test_arguments_and_environment_are_left_out() -> None:
    found = codec.loads(redact("run_results.json", codec.dumps(run_results("1.11"))))
    assert found["args"]["which"] == "build"
    assert not {"vars", "invocation_command", "profiles_dir", "project_dir", "log_path"} & set(found["args"])
    assert "env" not in found["metadata"]
    assert [result["unique_id"] for result in found["results"]] == [result["unique_id"] for result in run_results("1.11")["results"]]


def test_manifest_keeps_its_nodes() -> None:
    raw = gzip.decompress((FIXTURES / "manifests" / "manifest-1.11.json.gz").read_bytes())
    before, after = codec.loads(raw), codec.loads(redact("manifest.json", raw))
    assert before["metadata"].pop("env") is not None
    assert after == before


@pytest.mark.parametrize("ascii_only", [True, False])
def test_secret_values_are_masked_however_they_are_written(ascii_only: bool) -> None:
    masker = Masker({SECRET})
    data = json.dumps({"results": [{"message": f"no access with {SECRET}", SECRET: "harmless abc"}]}, ensure_ascii=ascii_only).encode()
    found = codec.loads(redact("run_results.json", data, masker))
    assert found == {"results": [{"message": "no access with *****", "*****": "harmless abc"}]}
    assert masker.text(f"<{SECRET}>") == "<*****>"


def test_the_attempts_folder_becomes_the_users() -> None:
    masker = Masker({}, [("../tmp/x", "target"), ("/tmp/x", "target")])  # noqa: S108
    assert (
        masker.text("compiled code at /tmp/x/run/a.sql and ../tmp/x/run/b.sql") == "compiled code at target/run/a.sql and target/run/b.sql"
    )
    assert codec.loads(masker.paths(b'{"compiled_path": "/tmp/x/compiled/a.sql"}')) == {"compiled_path": "target/compiled/a.sql"}


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff"])
def test_what_is_not_an_artifact_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON"):
        redact("run_results.json", data)


@pytest.mark.parametrize("found", [{"args": []}, {"metadata": None}, {"metadata": {"env": {"A": "b"}}}])
def test_odd_artifacts(found: dict[str, object]) -> None:
    assert "A" not in redact("sources.json", codec.dumps(found)).decode()


PROFILE = """
shop:
  target: dev   # password: not-this-one
  outputs:
    dev:
      type: postgres
      user: postgres
      password: postgres
      pass: "quo\\"ted \\u00e4 pass"
      dbname: shop
    ci: {type: snowflake, user: "me", token: flow-token-1, 'client_secret': 'it''s secret', port: 5432}
    prod:
      user: svc
      password: "{{ env_var('PROD_PASSWORD') }}"
      private_key_passphrase: "{{ env_var('UNSET', 'the default phrase') }}"
      access_key: {{ env_var("ACCESS") | trim }}   # comment
      keyfile_json:
        client_email: a@b
        private_key: |-
          -----BEGIN PRIVATE KEY-----
          MIIEvQIBADANBgkqhkiG9w0BAQ
          -----END PRIVATE KEY-----
      schema: main
      session_token:
      refresh_token: plain # a comment
"""


def test_secret_values_of_a_profile() -> None:
    env = {"PROD_PASSWORD": "from-the-environment", "ACCESS": "AKIA-1", "OTHER": "x"}
    assert secret_values(PROFILE, env) == [
        'quo"ted ä pass',
        "flow-token-1",
        "it's secret",
        "from-the-environment",
        "the default phrase",
        "AKIA-1",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n-----END PRIVATE KEY-----",
        "plain",
    ], "postgres is no secret, since it is also a type and a user"


@pytest.mark.parametrize(
    "text",
    [
        "{api_token: abc-12345, day: 2026-01-01}",
        '{"day": "2026-01-01", "api_token": "abc-12345"}',
        "{'api_token':'abc-12345'}",
        "api_token: abc-12345",
    ],
)
def test_secret_values_of_vars(text: str) -> None:
    assert [value for value in secret_values(text, {}) if value] == ["abc-12345"]


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_password",
        "PGPASSWORD",
        "pass",
        "pwd",
        "token",
        "apiToken",
        "client_secret",
        "private_key",
        "api-key",
        "sas",
        "credentials",
    ],
)
def test_secret_names(name: str) -> None:
    assert SECRET_KEY.match(name)


@pytest.mark.parametrize(
    "name", ["compass", "bypass", "key", "key_id", "tokens_used", "secretary", "password_hint_shown", "unique_key", "owner", "sasquatch"]
)
def test_other_names(name: str) -> None:
    assert not SECRET_KEY.match(name)


def known(tmp_path: Path, command: tuple[str, ...], env: dict[str, str], *names: str) -> frozenset[str]:
    project = tmp_path / "project"
    project.mkdir(exist_ok=True)
    return known_secrets(DbtCommand.parse(command), env, tmp_path, project, names)


def test_known_secrets_are_those_of_the_environment_the_caller_the_profile_and_the_vars(tmp_path: Path) -> None:
    (tmp_path / "profiles.yml").write_text("a: {password: in-the-profile}")
    env = {"DBT_ENV_SECRET_A": " value-a\n", "DBT_ENV_SECRET_B": "abc", "NAMED": "value-n", "OTHER": "value-o"}
    found = known(tmp_path, ("dbt", "build", "--vars", "{token: in-the-vars, a: b}"), env, "NAMED", "UNSET")
    assert found == {"value-a", "value-n", "in-the-profile", "in-the-vars"}


@pytest.mark.parametrize("way", ["option", "variable", "home", "project"])
def test_the_profile_is_looked_for_where_dbt_does(tmp_path: Path, way: str) -> None:
    folder = {"home": tmp_path / "home" / ".dbt", "project": tmp_path / "project"}.get(way, tmp_path / "elsewhere")
    folder.mkdir(parents=True)
    (folder / "profiles.yml").write_text("a: {password: in-the-profile}")
    command = ("dbt", "build", *(("--profiles-dir", "elsewhere") if way == "option" else ()))
    env = {"HOME": str(tmp_path / "home")} | ({"DBT_PROFILES_DIR": str(folder)} if way == "variable" else {})
    assert known(tmp_path, command, env) == {"in-the-profile"}


def test_a_short_password_that_nobody_named_is_left_alone(tmp_path: Path) -> None:
    """``test`` stands in half of all names: masked, a run could not be read any more."""
    (tmp_path / "profiles.yml").write_text("a: {password: test}")
    assert known(tmp_path, ("dbt", "test"), {}) == frozenset()


def test_a_secret_of_several_lines_is_found_line_by_line(tmp_path: Path) -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nshort\n-----END KEY-----"
    masker = Masker(known(tmp_path, ("dbt", "build"), {"DBT_ENV_SECRET_KEY": key}))
    assert masker.text(f"<{key}>") == "<*****>"
    assert masker.text("at MIIEvQIBADANBgkqhkiG9w0BAQ, short") == "at *****, short"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("clone https://token@host/a.git", "clone https://*****@host/a.git"),
        ("HTTPS://user:p@ss@host:1/a?b=c", "HTTPS://*****@host:1/a?b=c"),
        ("'postgres://user:pass@host/db'", "'postgres://user:*****@host/db'"),
        ("postgresql+psycopg2://u:p@h", "postgresql+psycopg2://u:*****@h"),
        ("ssh://git@host/a and git@host:a", "ssh://git@host/a and git@host:a"),
        ("abfss://container@account.dfs.core.windows.net/x", "abfss://container@account.dfs.core.windows.net/x"),
        ("md:db?motherduck_token=abc&x=1", "md:db?motherduck_token=*****&x=1"),
        ("https://h/x?sv=1&sig=a%2Fb&se=2", "https://h/x?sv=1&sig=*****&se=2"),
        ("https://h/x?X-Amz-Signature=ab'", "https://h/x?X-Amz-Signature=*****'"),
        ("https://h/x?page=2 a@b", "https://h/x?page=2 a@b"),
        ("where a = b and e = 'x@y'", "where a = b and e = 'x@y'"),
    ],
)
def test_credentials_in_urls(text: str, shown: str) -> None:
    assert Masker().text(text) == shown
    assert codec.loads(redact("manifest.json", codec.dumps({"a": [text]}), Masker())) == {"a": [shown]}


def test_texts_under_secret_names_in_artifacts() -> None:
    meta = {"api_token": "x", "passwords": ["y"], "password": ["a", {"b": "c"}], "token": {"pwd": "z", "n": "n"}, "secret": 1, "pass": ""}
    shown = {
        "api_token": "*****",
        "passwords": ["y"],
        "password": ["*****", {"b": "c"}],
        "token": {"pwd": "*****", "n": "n"},
        "secret": 1,
        "pass": "",
    }
    found = redact("manifest.json", codec.dumps({"meta": meta, "parent_map": {"model.shop.user_token": ["seed.shop.a"]}}), Masker())
    assert codec.loads(found) == {"meta": shown, "parent_map": {"model.shop.user_token": ["seed.shop.a"]}}


@pytest.mark.parametrize("text", ["{}", json.dumps("{}")[1:-1], quote("{}"), repr("{}"), "select '{}'"])
def test_other_ways_to_write_a_secret(text: str) -> None:
    secret = "a/b 'c'\\d&ä"
    for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), repr(secret)[1:-1], secret.replace("'", "''")):
        assert Masker([secret]).text(text.replace("{}", form)) == text.replace("{}", "*****")


def test_adapter_responses_are_masked_too() -> None:
    assert masked({"code": "a b", "n": 1, "deep": [{"x": "b"}]}, lambda text: text.replace("b", "*")) == {
        "code": "a *",
        "n": 1,
        "deep": [{"x": "*"}],
    }
