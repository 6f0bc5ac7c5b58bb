"""Profiles of Airflow connections, without dbt: what is refused, what is written where, what dbt is started with. See also tests/cosmos."""

from __future__ import annotations

import copy
import json
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from ledger_watcher.capture import session
from ledger_watcher.errors import ConfigError
from ledger_watcher_airflow import (
    DbtCall,
    DbtDag,
    DbtFlags,
    DbtRunLocalOperator,
    ExecutionConfig,
    ProfileConfig,
    ProjectConfig,
    bash_producer,
    profiles,
)
from ledger_watcher_airflow.profiles import ConnectionProfileMapping, DbtProfileConfigVars, Field, Kind
from ledger_watcher_airflow.profiles.placed import placed, written
from ledger_watcher_airflow.profiles.table import KINDS
from tests.operators.test_producer import FakeCapture, context, result

POSTGRES = profiles.PostgresUserPasswordProfileMapping
SCHEMA = {"schema": "marts"}
PASSWORD = "pw 0123 {{ nobody }}"
COLUMNS = {"conn_type": "postgres", "host": "db.example", "login": "me", "password": PASSWORD, "schema": "shop"}
Connect = Callable[..., None]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    def connect(**columns: object) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_DB", json.dumps({**COLUMNS, **columns}))

    connect()
    return connect


def call(mapping: Any, folder: str = "/opt/dbt/shop", **more: Any) -> DbtCall:  # noqa: ANN401 - any mapping
    profile = ProfileConfig(profile_name="shop", profile_mapping=mapping, **more)
    return DbtCall(project=ProjectConfig(folder, manifest_path="m.json", env_vars={"A": "1"}), profile=profile)


# What is refused at parse ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: ProfileConfig(profile_name="shop", profile_mapping=POSTGRES), r"write profile_mapping=Postgres\w+\(conn_id="),
        (lambda: ProfileConfig(profile_name="shop", profile_mapping="db"), "'db'.* has no env_vars"),
        (lambda: ProfileConfig(profile_name="shop", profile_mapping=POSTGRES("db", SCHEMA), profiles_yml_filepath="p/profiles.yml"), "leave one"),
        (lambda: POSTGRES("", SCHEMA), "id of an Airflow connection"),
        (lambda: POSTGRES("db"), r"write profile_args=\{'schema': '...'\}"),
        (lambda: POSTGRES("db", {"schema": None}), "needs 'schema'"),
        (lambda: POSTGRES("db", {**SCHEMA, "path": Path("/data")}), "what YAML has not"),
        (lambda: POSTGRES("db", {**SCHEMA, "type": "redshift"}), "makes profiles of type 'postgres'"),
        (lambda: profiles.SparkThriftProfileMapping("db", {**SCHEMA, "method": "odbc"}), "makes profiles of method 'thrift'"),
        (lambda: POSTGRES("db", SCHEMA, dbt_config_vars={"debug": True}), "write a DbtProfileConfigVars"),
        (lambda: POSTGRES("db", SCHEMA, True, DbtProfileConfigVars(send_anonymous_usage_stats=True)), "contrary"),
        (lambda: DbtProfileConfigVars(debug="yes"), "debug='yes'"),
        (lambda: DbtProfileConfigVars(log_format="xml"), "text, json and default"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_parse(make: Callable[[], object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        make()


def test_two_profiles_for_one_call_are_refused() -> None:
    with pytest.raises(ConfigError, match="--profiles-dir together with"):
        DbtCall(
            project=ProjectConfig("/opt/dbt/shop", manifest_path="m.json"),
            profile=ProfileConfig(profile_name="shop", profile_mapping=POSTGRES("db", SCHEMA)),
            flags=DbtFlags(dbt_cmd_flags=["--profiles-dir=/elsewhere"]),
        )


def test_a_producer_that_is_a_command_is_told_what_to_write_instead(make_dag: Callable[..., DbtDag]) -> None:
    """The connection is not where dbt runs then, and a password may not go there through Airflow's database."""
    with pytest.raises(ConfigError, match=r"(?s)reads an Airflow connection on the worker.*profiles_yml_filepath.*env_from="):
        make_dag(
            profile_config=ProfileConfig(profile_name="shop", profile_mapping=POSTGRES("db", SCHEMA)),
            execution_config=ExecutionConfig(ledger_uri="s3://bucket/ledgers", producer=bash_producer()),
        )


def test_a_parse_reads_no_connection_and_stores_no_secret(make_dag: Callable[..., DbtDag], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "get", lambda *_: pytest.fail("a connection was read"))
    mapping = POSTGRES("db", {**SCHEMA, "password": "from-the-dag-file"})
    dag = make_dag(profile_config=ProfileConfig(profile_name="shop", target_name="dev", profile_mapping=mapping))
    assert "from-the-dag-file" not in json.dumps(DagSerialization.to_dict(dag))
    assert "from-the-dag-file" not in repr(dag.get_task("dbt_producer_watcher").build)
    assert pickle.loads(pickle.dumps(mapping)).conn_id == copy.deepcopy(mapping).conn_id == "db"  # noqa: S301 - our own


# What is made of a connection -----------------------------------------------------------------------------------------


def test_each_name_of_the_table_is_a_class_of_the_package() -> None:
    for name in KINDS:
        made = getattr(profiles, name)
        assert made is getattr(profiles, name)
        assert (made.__module__, made.__qualname__, issubclass(made, ConnectionProfileMapping)) == (profiles.__name__, name, True)
    with pytest.raises(AttributeError, match=r"NoSuchMapping.*PostgresUserPasswordProfileMapping"):
        _ = profiles.NoSuchMapping
    with pytest.raises(ImportError):
        exec("from ledger_watcher_airflow.profiles import NoSuchMapping", {})  # noqa: S102 - the statement under test


def test_secrets_are_variables_that_dbt_masks_and_jinja_of_a_connection_is_text(connect: Connect) -> None:
    connect(host="{{ target }}", extra={"sslmode": "require", "keepalives_idle": "30"})
    mapping = POSTGRES(
        "db", {**SCHEMA, "threads": 8, "search_path": "{{ env_var('WHERE') }}", "token": "t0ken", "deep": {"list": [{"secret": "s"}]}}
    )
    found = mapping.profile
    assert found == {
        "type": "postgres", "host": "{{ env_var('DBT_ENV_SECRET_PROFILE_HOST') }}", "port": 5432, "user": "me",
        "password": "{{ env_var('DBT_ENV_SECRET_PROFILE_PASSWORD') }}", "dbname": "shop", "keepalives_idle": 30, "sslmode": "require",
        "schema": "marts", "threads": 8, "search_path": "{{ env_var('WHERE') }}", "token": "{{ env_var('DBT_ENV_SECRET_PROFILE_TOKEN') }}",
        "deep": {"list": [{"secret": "{{ env_var('DBT_ENV_SECRET_PROFILE_DEEP_LIST_0_SECRET') }}"}]},
    }  # fmt: skip
    assert mapping.env_vars == {
        "DBT_ENV_SECRET_PROFILE_HOST": "{{ target }}",
        "DBT_ENV_SECRET_PROFILE_PASSWORD": PASSWORD,
        "DBT_ENV_SECRET_PROFILE_TOKEN": "t0ken",
        "DBT_ENV_SECRET_PROFILE_DEEP_LIST_0_SECRET": "s",
    }
    assert yaml.safe_load(mapping.get_profile_file_contents("shop", "dev")) == {"shop": {"target": "dev", "outputs": {"dev": found}}}


@pytest.mark.parametrize(
    ("given", "kept"), [("secret of the DAG file", False), (12345678, False), ("{{ env_var('PASSWORD_OF_THE_HOST') }}", True)]
)
def test_a_secret_among_the_arguments(given: object, kept: object, connect: Connect) -> None:
    mapping = POSTGRES("db", {**SCHEMA, "password": given})
    assert mapping.profile["password"] == (given if kept else "{{ env_var('DBT_ENV_SECRET_PROFILE_PASSWORD') }}")
    assert list(mapping.env_vars.values()) == ([] if kept else [str(given)])


def test_what_only_looks_like_a_secret_by_its_name_stays(connect: Connect) -> None:
    connect(port=443, extra={"certs__client_cert_path": "/c.pem", "certs__client_key_path": "/k.pem"})
    found = profiles.TrinoCertificateProfileMapping("db", {"database": "hive", **SCHEMA})
    assert (found.profile["client_private_key"], found.env_vars) == ("/k.pem", {})


def test_false_is_a_value(connect: Connect) -> None:
    connect(extra={"account": "a", "database": "d", "insecure_mode": False, "client_session_keep_alive": "false"})
    found = profiles.SnowflakeUserPasswordProfileMapping("db").profile
    assert (found["insecure_mode"], found["client_session_keep_alive"]) == (False, False)


def test_settings_of_dbt_go_into_its_environment(connect: Connect) -> None:
    settings = DbtProfileConfigVars(partial_parse=False, printer_width=120, warn_error_options={"include": ["NoNodesForSelectionCriteria"]})
    env = POSTGRES("db", SCHEMA, dbt_config_vars=settings).env_vars
    assert {name: value for name, value in env.items() if "SECRET" not in name} == {
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "False",
        "DBT_PARTIAL_PARSE": "False",
        "DBT_PRINTER_WIDTH": "120",
        "DBT_WARN_ERROR_OPTIONS": '{"include":["NoNodesForSelectionCriteria"]}',
    }
    env = POSTGRES("db", SCHEMA, disable_event_tracking=True).env_vars
    assert (env["DBT_SEND_ANONYMOUS_USAGE_STATS"], env["DO_NOT_TRACK"]) == ("False", "1")


def test_another_database_is_a_row_of_its_own(connect: Connect) -> None:
    class Exasol(ConnectionProfileMapping):
        kind = Kind(type="exasol", fields={"dsn": Field(("host",), required=True), "password": Field(("password",), secret=True)})

    found = Exasol("db")
    assert found.profile == {"type": "exasol", "dsn": "db.example", "password": "{{ env_var('DBT_ENV_SECRET_PROFILE_PASSWORD') }}"}


@pytest.mark.parametrize(
    ("kind", "columns", "word"),
    [
        ("PostgresUserPasswordProfileMapping", {"host": ""}, r"'db' lacks its 'host': a postgres profile needs 'host'.*or write Postgres\w+\(profile_args="),
        ("PostgresUserPasswordProfileMapping", {"password": None}, r"lacks its 'password'.*Add it to the connection\.$"),
        ("PostgresUserPasswordProfileMapping", {"extra": "no JSON"}, "the connection 'db' is no JSON object"),
        ("PostgresUserPasswordProfileMapping", {"extra": {"keepalives_idle": "pw-soon"}}, "'keepalives_idle' in its extra.*has to be a whole number"),
        ("DatabricksOauthProfileMapping", {"login": None, "extra": {"http_path": "/p"}}, "its 'login' or 'client_id' in its extra"),
        ("GoogleCloudServiceAccountDictProfileMapping", {"extra": {"project": "p", "dataset": "d", "keyfile_dict": "{pw"}}, "service account's key"),
        ("SnowflakeUserPasswordProfileMapping", {"extra": {"account": "a", "database": "d", "insecure_mode": "pw"}}, "true or false"),
        ("AthenaAccessKeyProfileMapping", {}, "pip install apache-airflow-providers-amazon"),
    ],
)  # fmt: skip
def test_what_a_connection_lacks_is_named_and_nothing_of_it_is_shown(
    kind: str, columns: dict[str, Any], word: str, connect: Connect
) -> None:
    connect(**columns)
    with pytest.raises(ConfigError, match=word) as caught:
        getattr(profiles, kind)("db", SCHEMA).read()
    assert "pw" not in str(caught.value)
    assert caught.value.__cause__ is None or kind.startswith("Athena"), "the cause may quote a secret"


def test_a_connection_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Airflow has no connection 'nowhere'.*AIRFLOW_CONN_NOWHERE"):
        POSTGRES("nowhere", SCHEMA).read()


# Where dbt finds it ----------------------------------------------------------------------------------------------------


def test_the_file_is_private_and_gone_afterwards(connect: Connect) -> None:
    with placed(call(POSTGRES("db", SCHEMA))) as found:
        folder = Path(found.env["DBT_PROFILES_DIR"])
        file = folder / "profiles.yml"
        assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)
        assert PASSWORD not in file.read_text()
        assert found.env["DBT_ENGINE_PROFILES_DIR"] == str(folder)
        assert (found.env["DBT_ENV_SECRET_PROFILE_PASSWORD"], found.env["A"]) == (PASSWORD, "1")
        assert found.secret_env == {"DBT_ENV_SECRET_PROFILE_PASSWORD"}
        assert found.argv("dbt")[-4:] == ("--profile", "shop", "--target", "default")
        assert PASSWORD not in repr(found)
        assert str(folder) not in " ".join(found.argv("dbt")), "the ledger compares the commands of attempts"
    assert not folder.exists()


def test_the_file_is_gone_after_an_error(connect: Connect) -> None:
    with pytest.raises(ZeroDivisionError), placed(call(POSTGRES("db", SCHEMA))) as found:
        _ = 1 / 0
    assert not Path(found.env["DBT_PROFILES_DIR"]).exists()


def test_target_of_the_flags_names_the_output(connect: Connect) -> None:
    one = call(POSTGRES("db", SCHEMA), target_name="dev")
    with placed(DbtCall(project=one.project, profile=one.profile, flags=DbtFlags(target="prod"))) as found:
        content = yaml.safe_load((Path(found.env["DBT_PROFILES_DIR"]) / "profiles.yml").read_text())
        assert list(content["shop"]["outputs"]) == ["prod"]
        assert "--target prod" in " ".join(found.argv("dbt"))


def test_a_profile_of_a_file_is_left_alone() -> None:
    one = call(None)
    with placed(one) as found:
        assert found is one


class Foreign:
    """As Cosmos has it: a variable that dbt would show, one for dbt, one that is more than a text."""

    conn_id = "db"
    env_vars = {"COSMOS_PASSWORD": PASSWORD, "DBT_PARTIAL_PARSE": "False", "PORT": "5433"}  # noqa: RUF012 - as simple as can be

    def get_profile_file_contents(self, profile_name: str, target_name: str) -> str:
        fields = {
            "type": "postgres",
            "password": "{{ env_var('COSMOS_PASSWORD') }}",
            "port": "{{ env_var('PORT') | as_number }}",
            "token": "t0ken-plain",
        }
        return yaml.safe_dump({profile_name: {"target": target_name, "outputs": {target_name: fields}}})


def test_a_foreign_mapping_gets_variables_that_dbt_masks() -> None:
    text, env = written(Foreign(), "shop", "dev")
    assert yaml.safe_load(text)["shop"]["outputs"]["dev"] == {
        "type": "postgres",
        "password": "{{ env_var('DBT_ENV_SECRET_COSMOS_PASSWORD') }}",
        "port": "{{ env_var('PORT') | as_number }}",
        "token": "{{ env_var('DBT_ENV_SECRET_PROFILE_SHOP_OUTPUTS_DEV_TOKEN') }}",
    }
    assert env == {
        "DBT_ENV_SECRET_COSMOS_PASSWORD": PASSWORD,
        "DBT_ENV_SECRET_PROFILE_SHOP_OUTPUTS_DEV_TOKEN": "t0ken-plain",
        "DBT_PARTIAL_PARSE": "False",
        "PORT": "5433",
    }
    with placed(call(Foreign(), target_name="dev")) as found:
        assert found.secret_env == set(env) - {"DBT_PARTIAL_PARSE"}


# What dbt is started with ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recovery", [False, True])
def test_the_producer_and_its_recovery_have_the_profile(
    make_dag: Callable[..., DbtDag], connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recovery: object
) -> None:
    seen: dict[str, Any] = {}

    class Capture(FakeCapture):
        def run(self) -> Any:  # noqa: ANN401
            assert self.request is not None
            seen.update(self.request.env, file=(Path(self.request.env["DBT_PROFILES_DIR"]) / "profiles.yml").read_text())
            return result()

    fake = Capture()
    monkeypatch.setattr(session, "Capture", fake)
    profile = ProfileConfig(profile_name="shop", target_name="dev", profile_mapping=POSTGRES("db", SCHEMA))
    dag = make_dag(profile_config=profile, execution_config=ExecutionConfig(ledger_uri=str(tmp_path / "ledger")))
    producer = dag.get_task("dbt_producer_watcher")
    if recovery:
        producer.recover(context(), only=frozenset({"model.shop.orders"}), after=1)
    else:
        producer.execute(context())
    assert yaml.safe_load(seen["file"])["shop"]["outputs"]["dev"]["schema"] == "marts"
    assert seen["DBT_ENV_SECRET_PROFILE_PASSWORD"] == PASSWORD
    assert fake.request is not None
    assert fake.request.redact_env == {"DBT_ENV_SECRET_PROFILE_PASSWORD"}
    assert not Path(seen["DBT_PROFILES_DIR"]).exists()


def test_a_connection_that_is_wrong_is_not_tried_again(make_dag: Callable[..., DbtDag], project: Path, tmp_path: Path) -> None:
    profile = ProfileConfig(profile_name="shop", profile_mapping=POSTGRES("nowhere", SCHEMA))
    dag = make_dag(profile_config=profile, execution_config=ExecutionConfig(ledger_uri=str(tmp_path / "ledger")))
    with pytest.raises(AirflowFailException, match="no connection 'nowhere'"):
        dag.get_task("dbt_producer_watcher").execute(context())
    with pytest.raises(AirflowFailException, match="no connection 'nowhere'"):
        DbtRunLocalOperator(task_id="run", project_dir=project, profile_config=profile).execute(context())
