"""Every mapping of the table beside that of astronomer-cosmos with the same name: one connection, both profiles, field by field.

``DIFFERS`` has every field in which they are not the same, on purpose, and why. A field that is not there is the same in both; the names of
the environment variables are not compared, what they hold is.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeAlias

import cosmos.profiles
import pytest
import yaml
from cosmos.profiles import PostgresUserPasswordProfileMapping as PostgresOfCosmos

from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import DbtCall, ProfileConfig, ProjectConfig, profiles
from ledger_watcher_airflow.profiles.placed import placed, written
from ledger_watcher_airflow.profiles.table import KINDS

PEM = "-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5IGF0IGFsbA==\n-----END PRIVATE KEY-----\n"
PASSWORD = '0123 it\'s "secret" {{ nobody }} \\ €'
KEY = {"type": "service_account", "project_id": "p", "private_key_id": "k1d-of-a-key", "private_key": PEM, "client_email": "a@p.example"}
LOGIN = {"host": "db.example", "login": "me", "password": PASSWORD, "schema": "warehouse", "port": 6543}
SCHEMA = {"schema": "marts"}
SNOWFLAKE = {"account": "acc", "database": "db", "warehouse": "wh"}
MORE = {
    "role": "r",
    "authenticator": "snowflake",
    "host": "h",
    "port": 444,
    "query_tag": "q",
    "insecure_mode": True,
    "client_session_keep_alive": True,
}
GCP = {"project": "p", "dataset": "d"}
ATHENA = {"database": "awsdatacatalog", "region_name": "eu-west-1", "s3_staging_dir": "s3://b/tmp/", "schema": "marts"}
ATHENA_MORE = {
    **ATHENA,
    "aws_session_token": "session-token",
    "aws_profile_name": "prof",
    "debug_query_state": True,
    "lf_tags_database": {"a": "b"},
    "num_retries": 3,
    "poll_interval": 2,
    "s3_data_dir": "s3://b/data/",
    "s3_data_naming": "schema_table",
    "seed_s3_upload_args": {"ACL": "private"},
    "work_group": "wg",
}
TRINO = {"database": "hive", "schema": "marts"}
ABSENT = object()
Connect: TypeAlias = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Case:
    """A connection, the arguments of the mapping, and what is not the same: ``(theirs, ours)`` by the name of the field."""

    name: str
    connection: dict[str, Any] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)
    differs: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    why: str = ""


def case(kind: str, connection: dict[str, Any], args: dict[str, Any] | None = None, *, why: str = "", **differs: tuple[Any, Any]) -> Case:
    return Case(kind, connection, args or {}, differs, why)


OLD_NAMES = "of their five mappings of Snowflake, this one alone does not know the old names in a connection's JSON"


def snowflake(kind: str, **own: Any) -> list[Case]:
    name = f"Snowflake{kind}ProfileMapping"
    columns = {"login": "me", "password": own.pop("password", None), "schema": "marts"}
    old = {f"extra__snowflake__{key}": value for key, value in {**SNOWFLAKE, **own}.items()}
    unread = {"private_key_path": (ABSENT, own.get("private_key_file")), **{key: (ABSENT, value) for key, value in SNOWFLAKE.items()}}
    return [
        case(name, {**columns, "extra": {**SNOWFLAKE, **own}}),
        case(name, {**columns, "extra": {**SNOWFLAKE, **MORE, **own}}, {"threads": 9, "database": "other"}),
        case(name, {**columns, "extra": {**SNOWFLAKE, **own, "region": "eu-west-1"}}),
        case(name, {**columns, "extra": {**SNOWFLAKE, **own, "region": "us-west-2"}}),
        case(name, {**columns, "extra": {**SNOWFLAKE, **own, "account": "acc.eu-west-1", "region": "eu-west-1"}}),
        case(
            name,
            {**columns, "extra": old},
            why=OLD_NAMES if kind == "PrivateKeyFilePem" else "",
            **(unread if kind == "PrivateKeyFilePem" else {}),
        ),
    ]


NO_PORT = "dbt cannot do without a port: the usual one, where theirs is left out by a connection that has none"
CASES = [
    case("PostgresUserPasswordProfileMapping", {**LOGIN, "extra": {"sslmode": "require", "keepalives_idle": 30}}, SCHEMA),
    case("PostgresUserPasswordProfileMapping", LOGIN, {**SCHEMA, "threads": 8, "host": "other", "password": "from the DAG file"}),
    case("PostgresUserPasswordProfileMapping", {**LOGIN, "port": None}, SCHEMA, port=(ABSENT, 5432), why=NO_PORT),
    case("PostgresUserPasswordProfileMapping", {**LOGIN, "extra": {"keepalives_idle": "30"}}, SCHEMA, keepalives_idle=("30", 30), why="dbt wants a number; all of a URI is text"),
    case("RedshiftUserPasswordProfileMapping", {**LOGIN, "extra": {"sslmode": "require", "timeout": 30, "region": "eu-west-1"}}, SCHEMA),
    case("RedshiftUserPasswordProfileMapping", {**LOGIN, "port": None}, SCHEMA, port=(ABSENT, 5439), why=NO_PORT),
    *snowflake("UserPassword", password=PASSWORD),
    *snowflake("PrivateKeyPem", private_key_content=PEM),
    *snowflake("PrivateKeyPem", private_key_content=base64.b64encode(PEM.encode()).decode()),
    *snowflake("EncryptedPrivateKeyPem", private_key_content=PEM, password=PASSWORD),
    *snowflake("PrivateKeyFilePem", private_key_file="/keys/a.p8"),
    *snowflake("EncryptedPrivateKeyFilePem", private_key_file="/keys/a.p8", password=PASSWORD),
    case("GoogleCloudOauthProfileMapping", {"extra": GCP}, {"threads": 3, "location": "EU"}),
    case("GoogleCloudOauthProfileMapping", {"extra": {f"extra__google_cloud_platform__{key}": value for key, value in GCP.items()}}),
    case("GoogleCloudServiceAccountFileProfileMapping", {"extra": {**GCP, "key_path": "/keys/a.json"}}),
    case("GoogleCloudServiceAccountDictProfileMapping", {"extra": {**GCP, "keyfile_dict": KEY}}),
    case("GoogleCloudServiceAccountDictProfileMapping", {"extra": {**GCP, "keyfile_dict": json.dumps(KEY)}}, {"dataset": "mine"}),
    case("DatabricksTokenProfileMapping", {"host": "https://adb.example", "schema": "s", "password": PASSWORD, "extra": {"http_path": "/sql/1"}}, {"catalog": "c"}),
    case("DatabricksTokenProfileMapping", {"host": "adb.example", "schema": "s", "extra": {"http_path": "/sql/1", "token": "a token"}}),
    case("DatabricksOauthProfileMapping", {"host": "adb.example", "schema": "s", "login": "client-of-mine", "password": PASSWORD, "extra": {"http_path": "/sql/1"}}),
    case("DatabricksOauthProfileMapping", {"host": "adb.example", "schema": "s", "extra": {"http_path": "/sql/1", "client_id": "client-of-mine", "client_secret": "s3cr3t of mine"}}),
    case("DatabricksOauthProfileMapping", {"host": "https://adb.example", "schema": "s", "login": "client-of-mine", "password": "pw", "extra": {"http_path": "/sql/1"}},
         host=("https://adb.example", "adb.example"), why="the adapter puts https:// in front itself, as the other Databricks mapping knows"),
    case("DuckDBUserPasswordProfileMapping", {"host": "/data/shop.duckdb"}, {"threads": 2, "extensions": ["icu"]}),
    case("TrinoLDAPProfileMapping", {**LOGIN, "host": "https://trino.example", "extra": {"session_properties": {"a": 1}}}, TRINO),
    case("TrinoLDAPProfileMapping", {**LOGIN, "host": "http://trino.example"}, TRINO),
    case("TrinoJWTProfileMapping", {"host": "trino.example", "port": 443, "login": "me", "extra": {"jwt__token": "a.b.c"}}, TRINO),
    case("TrinoJWTProfileMapping", {"host": "trino.example", "port": 443, "extra": {"jwt__token": "a.b.c"}}, TRINO),
    case("TrinoCertificateProfileMapping", {"host": "t", "port": 443, "login": "me", "extra": {"certs__client_cert_path": "/c.pem", "certs__client_key_path": "/k.pem"}}, TRINO),
    case("SparkThriftProfileMapping", {"host": "spark.example", "port": 10000}, SCHEMA),
    case("SparkThriftProfileMapping", {"host": "spark.example"}, {**SCHEMA, "user": "me"}),
    case("StandardSQLServerAuth", {**LOGIN, "extra": {"database": "db", "driver": "ODBC Driver 18 for SQL Server"}}, {"trust_cert": True}),
    case("StandardSQLServerAuth", {**LOGIN, "port": None, "extra": {"database": "db", "driver": "ODBC"}}),
    case("AthenaAccessKeyProfileMapping", {"login": "AKIA", "password": "aws secret", "extra": ATHENA_MORE}, {"threads": 4}),
    case("AthenaAccessKeyProfileMapping", {"login": "AKIA", "password": "aws secret", "extra": ATHENA}, {"schema": "other"}),
    case("ClickhouseUserPasswordProfileMapping", {**LOGIN, "extra": {"clickhouse": "True"}}, {"secure": True, "driver": "http"}),
    case("ClickhouseUserPasswordProfileMapping", {**LOGIN, "port": None}),
    case("MysqlUserPasswordProfileMapping", LOGIN, {"threads": 2}),
    case("MysqlUserPasswordProfileMapping", {**LOGIN, "port": None}, {"schema": "mine"}, port=(ABSENT, 3306), why=NO_PORT),
]  # fmt: skip


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Makes a connection that Airflow finds in its environment."""

    def connect(columns: dict[str, Any]) -> None:
        value = {"conn_type": "aws" if "s3_staging_dir" in str(columns) else "generic", **columns}
        monkeypatch.setenv("AIRFLOW_CONN_DB", json.dumps(value))

    return connect


def output(text: str) -> dict[str, Any]:
    """The one target of a profiles.yml."""
    content = yaml.safe_load(text)
    assert list(content) == ["shop"]
    assert (content["shop"]["target"], list(content["shop"]["outputs"])) == ("dev", ["dev"])
    found: dict[str, Any] = content["shop"]["outputs"]["dev"]
    return found


def resolved(value: Any, env: dict[str, str]) -> Any:  # noqa: ANN401
    """What dbt makes of it."""
    if isinstance(value, dict):
        return {key: resolved(one, env) for key, one in value.items()}
    call = re.fullmatch(r"\{\{ env_var\('(\w+)'\) \}\}", value) if isinstance(value, str) else None
    return env[call[1]] if call else value


@pytest.mark.parametrize("one", CASES, ids=[f"{one.name}-{place}" for place, one in enumerate(CASES)])
def test_the_profile_is_that_of_cosmos(one: Case, connect: Connect) -> None:
    connect(one.connection)
    theirs_made = getattr(cosmos.profiles, one.name)(conn_id="db", profile_args=dict(one.args))
    ours_made = getattr(profiles, one.name)(conn_id="db", profile_args=dict(one.args))
    theirs_text = theirs_made.get_profile_file_contents("shop", "dev")
    theirs_raw, ours_raw = output(theirs_text), output(ours_made.get_profile_file_contents("shop", "dev"))
    theirs, ours = resolved(theirs_raw, theirs_made.env_vars), resolved(ours_raw, ours_made.env_vars)
    names = {*theirs, *ours}
    found = {
        name: (theirs.get(name, ABSENT), ours.get(name, ABSENT)) for name in names if theirs.get(name, ABSENT) != ours.get(name, ABSENT)
    }
    assert found == one.differs
    assert bool(found) == bool(one.why)
    assert {name for name in names if "env_var" in str(theirs_raw.get(name))} <= {
        name for name in names if "env_var" in str(ours_raw.get(name))
    }
    assert all(name.startswith("DBT_ENV_SECRET_") for name in ours_made.env_vars)
    for value in ours_made.env_vars.values():
        assert value not in str(ours_raw)


def test_every_mapping_of_the_table_is_compared() -> None:
    assert {one.name for one in CASES} == set(KINDS)
    assert set(KINDS) <= set(cosmos.profiles.__all__)


REFUSED = [
    ("PostgresUserPasswordProfileMapping", LOGIN, {}, "needs 'schema'"),
    ("PostgresUserPasswordProfileMapping", {**LOGIN, "host": None}, SCHEMA, "its 'host'"),
    (
        "SnowflakeUserPasswordProfileMapping",
        {"login": "me", "password": "pw", "schema": "s", "extra": {"database": "d"}},
        {},
        "'account' in its extra",
    ),
    ("DatabricksTokenProfileMapping", {"host": "h", "schema": "s", "password": "pw"}, {}, "'http_path' in its extra"),
    ("SparkThriftProfileMapping", {"host": "h"}, {}, "needs 'schema'"),
]


@pytest.mark.parametrize(("name", "connection", "args", "word"), REFUSED)
def test_a_profile_that_dbt_would_refuse_is_not_made(
    name: str, connection: dict[str, Any], args: dict[str, Any], word: str, connect: Connect
) -> None:
    """Theirs is, with less in it: dbt says so, later."""
    connect(connection)
    theirs = getattr(cosmos.profiles, name)("db", args)
    assert theirs.get_profile_file_contents("shop", "dev")
    with pytest.raises(ConfigError, match=word):
        getattr(profiles, name)("db", args).read()


# Their objects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", CASES, ids=[f"{one.name}-{place}" for place, one in enumerate(CASES)])
def test_an_object_of_cosmos_is_written_with_variables_that_dbt_masks(one: Case, connect: Connect) -> None:
    connect(one.connection)
    mapping = getattr(cosmos.profiles, one.name)(conn_id="db", profile_args=dict(one.args))
    text, env = written(mapping, "shop", "dev")
    wanted = output(mapping.get_profile_file_contents("shop", "dev"))
    assert resolved(output(text), env) == resolved(wanted, mapping.env_vars)
    referred = set(re.findall(r"env_var\(''?(\w+)''?\)", text))
    assert all(name.startswith("DBT_ENV_SECRET_") for name in referred)
    assert referred <= set(env)
    for value in env.values():
        assert value not in text or value == "None", "of Athena without a session, theirs is the word None"


def test_a_secret_that_their_object_writes_out_is_taken_out(connect: Connect) -> None:
    connect(LOGIN)
    mapping = PostgresOfCosmos(
        "db", {**SCHEMA, "sslpassword": "of a key file", "role": "{{ env_var('ROLE') }}"}, disable_event_tracking=True
    )
    text, env = written(mapping, "shop", "dev")
    assert "of a key file" not in text
    assert output(text)["role"] == "{{ env_var('ROLE') }}"
    assert resolved(output(text), {**env, "ROLE": "r"})["sslpassword"] == "of a key file"
    assert env["DBT_SEND_ANONYMOUS_USAGE_STATS"] == "False"


def test_a_profile_config_takes_it_and_reads_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_DB", raising=False)
    profile = ProfileConfig(profile_name="shop", target_name="dev", profile_mapping=PostgresOfCosmos("db", SCHEMA))
    call = DbtCall(project=ProjectConfig("/opt/dbt/shop", manifest_path="m.json"), profile=profile)
    monkeypatch.setattr("airflow.sdk.Connection.get", lambda _: pytest.fail("it was read"))
    assert call.argv("dbt")[-4:] == ("--profile", "shop", "--target", "dev")


def test_their_errors_name_the_connection(connect: Connect) -> None:
    call = SimpleNamespace(
        profile=ProfileConfig(profile_name="shop", profile_mapping=PostgresOfCosmos("nowhere", SCHEMA)), flags=SimpleNamespace(target=None)
    )
    with pytest.raises(ConfigError, match=r"PostgresUserPasswordProfileMapping\('nowhere'\) cannot make a profile"), placed(call):
        pass
    connect({**LOGIN, "password": None})
    with pytest.raises(ConfigError, match="password"):
        written(PostgresOfCosmos("db", SCHEMA), "shop", "dev")
