"""Which field of a profile comes from where, for each way of connecting to each database.

The fields are those of dbt's adapters (https://docs.getdbt.com/docs/core/connect-data-platform/about-core-connections), what they are called
in an Airflow connection is what Airflow's providers document, and the names of the rows, with their order of sources and their defaults, are
those that users of astronomer-cosmos know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ledger_watcher_airflow.profiles.values import (
    Convert,
    aws_credentials,
    flag,
    key_dict,
    number,
    private_key,
    snowflake_account,
    without_scheme,
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a profile.

    :param sources: where it comes from, the first that says something: ``host``, ``login``, ``password``, ``schema``, ``port``, or ``extra.NAME``. None: from
        ``profile_args`` alone.
    :param required: dbt cannot do without.
    :param secret: it becomes an environment variable.
    :param default: what it is if nothing says anything.
    :param convert: makes of the connection's value what dbt wants.
    """

    sources: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False
    default: Any = None
    convert: Convert | None = None


Fields: TypeAlias = Mapping[str, Field]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A way to connect to a database: dbt's ``type`` and ``method``, and the fields.

    :param secret_keys: names that are secret inside of fields that are mappings.
    :param prefix: of old names in a connection's JSON, ``extra__PREFIX__...``.
    :param credentials: makes more fields of a connection's id.
    """

    type: str
    fields: Fields
    method: str | None = None
    secret_keys: frozenset[str] = frozenset()
    prefix: str = ""
    credentials: Callable[[str], Mapping[str, Any]] | None = None


def _must(*sources: str, **more: Any) -> Field:
    return Field(sources, required=True, **more)


def _may(*sources: str, **more: Any) -> Field:
    return Field(sources, **more)


def _always(value: object) -> Field:
    return Field(default=value)


_LOGIN = {"user": _must("login"), "password": _must("password", secret=True)}


def _port(default: int | None = None) -> Field:
    return _may("port", default=default, convert=number)


_SNOWFLAKE: Fields = {
    "account": _must("extra.account", convert=snowflake_account),
    "user": _must("login"),
    "database": _must("extra.database"),
    "warehouse": _may("extra.warehouse"),
    "schema": _must("schema"),
    "role": _may("extra.role"),
    "authenticator": _may("extra.authenticator"),
    "host": _may("extra.host"),
    "port": _may("extra.port", convert=number),
    "query_tag": _may("extra.query_tag"),
    "insecure_mode": _may("extra.insecure_mode", convert=flag),
    "client_session_keep_alive": _may("extra.client_session_keep_alive", convert=flag),
    "threads": _always(4),
}
_KEY = {"private_key": _must("extra.private_key_content", secret=True, convert=private_key)}
_KEY_FILE = {"private_key_path": _must("extra.private_key_file")}
_PASSPHRASE = {"private_key_passphrase": _must("password", secret=True)}


def _snowflake(*more: Fields) -> Kind:
    fields = dict(_SNOWFLAKE)
    for one in more:
        fields.update(one)
    return Kind(type="snowflake", prefix="snowflake", fields=fields)


def _bigquery(method: str, fields: Fields | None = None, *secret_keys: str) -> Kind:
    own = {"project": _must("extra.project"), "dataset": _must("extra.dataset"), "threads": _always(1), **(fields or {})}
    return Kind(type="bigquery", method=method, prefix="google_cloud_platform", fields=own, secret_keys=frozenset(secret_keys))


def _databricks(fields: Fields) -> Kind:
    own = {"host": _must("host", convert=without_scheme), "schema": _must("schema"), "http_path": _must("extra.http_path")}
    return Kind(type="databricks", fields={**own, **fields})


def _trino(method: str, fields: Fields) -> Kind:
    own = {
        "host": _must("host", convert=without_scheme),
        "port": _must("port", convert=number),
        "user": _may("login"),
        "database": _must(),
        "schema": _must(),
        "session_properties": _may("extra.session_properties"),
    }
    return Kind(type="trino", method=method, fields={**own, **fields})


KINDS: Mapping[str, Kind] = {
    "AthenaAccessKeyProfileMapping": Kind(
        type="athena",
        credentials=aws_credentials,
        fields={
            "aws_access_key_id": Field(),
            "aws_secret_access_key": Field(secret=True),
            "aws_session_token": Field(secret=True),
            "database": _must("extra.database"),
            "region_name": _must("extra.region_name"),
            "s3_staging_dir": _must("extra.s3_staging_dir"),
            "schema": _must("extra.schema"),
            "num_retries": _may("extra.num_retries", convert=number),
            "debug_query_state": _may("extra.debug_query_state", convert=flag),
            **{
                name: _may(f"extra.{name}")
                for name in (
                    "aws_profile_name",
                    "lf_tags_database",
                    "poll_interval",
                    "s3_data_dir",
                    "s3_data_naming",
                    "seed_s3_upload_args",
                    "work_group",
                )
            },
        },
    ),
    "ClickhouseUserPasswordProfileMapping": Kind(
        type="clickhouse",
        fields={
            "host": _must("host"),
            "port": _port(9000),
            "user": _must("login"),
            "password": _may("password", secret=True),
            "schema": _must("schema"),
            "clickhouse": _may("extra.clickhouse"),
            "driver": _always("native"),
            "secure": _always(False),
        },
    ),
    "DatabricksOauthProfileMapping": _databricks(
        {
            "auth_type": _always("oauth"),
            "client_id": _must("login", "extra.client_id", secret=True),
            "client_secret": _must("password", "extra.client_secret", secret=True),
        }
    ),
    "DatabricksTokenProfileMapping": _databricks({"token": _must("password", "extra.token", secret=True)}),
    "DuckDBUserPasswordProfileMapping": Kind(type="duckdb", fields={"path": _must("host")}),
    "GoogleCloudOauthProfileMapping": _bigquery("oauth"),
    "GoogleCloudServiceAccountDictProfileMapping": _bigquery(
        "service-account-json", {"keyfile_json": _must("extra.keyfile_dict", convert=key_dict)}, "private_key", "private_key_id"
    ),
    "GoogleCloudServiceAccountFileProfileMapping": _bigquery("service-account", {"keyfile": _must("extra.key_path")}),
    "MysqlUserPasswordProfileMapping": Kind(
        type="mysql",
        fields={
            "server": _must("host"),
            "port": _port(3306),
            "username": _must("login"),
            "password": _must("password", secret=True),
            "schema": _must("schema"),
        },
    ),
    "PostgresUserPasswordProfileMapping": Kind(
        type="postgres",
        fields={
            "host": _must("host"),
            "port": _port(5432),
            **_LOGIN,
            "dbname": _must("schema"),
            "schema": _must(),
            "keepalives_idle": _may("extra.keepalives_idle", convert=number),
            "sslmode": _may("extra.sslmode"),
        },
    ),
    "RedshiftUserPasswordProfileMapping": Kind(
        type="redshift",
        fields={
            "host": _must("host"),
            "port": _port(5439),
            **_LOGIN,
            "dbname": _must("schema"),
            "schema": _must(),
            "timeout": _may("extra.timeout", convert=number),
            "sslmode": _may("extra.sslmode"),
            "region": _may("extra.region"),
        },
    ),
    "SnowflakeEncryptedPrivateKeyFilePemProfileMapping": _snowflake(_KEY_FILE, _PASSPHRASE),
    "SnowflakeEncryptedPrivateKeyPemProfileMapping": _snowflake(_KEY, _PASSPHRASE),
    "SnowflakePrivateKeyFilePemProfileMapping": _snowflake(_KEY_FILE),
    "SnowflakePrivateKeyPemProfileMapping": _snowflake(_KEY),
    "SnowflakeUserPasswordProfileMapping": _snowflake({"password": _must("password", secret=True)}),
    "SparkThriftProfileMapping": Kind(type="spark", method="thrift", fields={"host": _must("host"), "port": _port(), "schema": _must()}),
    "StandardSQLServerAuth": Kind(
        type="sqlserver",
        fields={
            "server": _must("host"),
            "port": _port(1433),
            **_LOGIN,
            "schema": _must("schema"),
            "database": _must("extra.database"),
            "driver": _must("extra.driver"),
        },
    ),
    "TrinoCertificateProfileMapping": _trino(
        "certificate",
        {"client_certificate": _must("extra.certs__client_cert_path"), "client_private_key": _must("extra.certs__client_key_path")},
    ),
    "TrinoJWTProfileMapping": _trino("jwt", {"jwt_token": _must("extra.jwt__token", secret=True)}),
    "TrinoLDAPProfileMapping": _trino("ldap", _LOGIN),
}
"""By the name of the class that is made of it."""
