from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_watcher.capture.argv import CAPTURE_FLAGS, SUBCOMMANDS, DbtCommand, Output, without_output_variables
from ledger_watcher.errors import ConfigError


@pytest.mark.parametrize(
    ("command", "subcommand", "expected"),
    [
        ("dbt build", "build", "dbt {} build"),
        ("dbt build --select a b+ tag:x", "build", "dbt {} build --select a b+ tag:x"),
        ("dbt --target test build", "build", "dbt --target test {} build"),
        ("dbt --target=test build", "build", "dbt --target=test {} build"),
        ("dbt --no-partial-parse run -s run", "run", "dbt --no-partial-parse {} run -s run"),
        ("dbt --profiles-dir build source freshness", "source", "dbt --profiles-dir build {} source freshness"),
        ("/venv/bin/dbt -x test", "test", "/venv/bin/dbt -x {} test"),
        ("my-dbt-wrapper.sh build", "build", "my-dbt-wrapper.sh {} build"),
        ("uv run --project test --with dbt-duckdb dbt build", "build", "uv run --project test --with dbt-duckdb dbt {} build"),
        ("python3.11 -m dbt.cli.main seed", "seed", "python3.11 -m dbt.cli.main {} seed"),
        ("env A=1 dbt snapshot", "snapshot", "env A=1 dbt {} snapshot"),
        ("dbtf build --log-format text -q", "build", "dbtf {} build"),
        ("dbt --log-level=warn --debug build --use-colors -d --no-quiet", "build", "dbt {} build"),
        ("dbt --log-level debug --no-use-colors build --log-format json", "build", "dbt {} build"),
        ("dbt --log-format-file json --log-level-file info build", "build", "dbt --log-format-file json --log-level-file info {} build"),
        ("dbt -dx -qf build -dq", "build", "dbt -x -f {} build"),
        ("dbt run-operation stage --args --quiet --no-print", "run-operation", "dbt {} run-operation stage --args --quiet --no-print"),
    ],
)
def test_where_the_flags_go(command: str, subcommand: str, expected: str) -> None:
    parsed = DbtCommand.parse(tuple(command.split()))
    assert parsed.subcommand == subcommand
    assert " ".join(parsed.capturing()) == expected.format(" ".join(CAPTURE_FLAGS))


OTHER = st.sampled_from(
    [["--full-refresh"], ["--threads", "4"], ["--select", "a", "build"], ["--vars", "{quiet: 1}"], ["-x"], ["--state=-d"]]
)
OUTPUT = st.sampled_from([["--log-format", "text"], ["--log-level=none"], ["-d"], ["-q"], ["--no-use-colors"], ["--debug"], ["--quiet"]])
GLOBAL = st.sampled_from([["--target", "test"], ["--no-partial-parse"], ["--profile=run"], ["-x"], ["--warn-error-options", "build"]])


@given(
    before=st.lists(GLOBAL | OUTPUT, max_size=4),
    subcommand=st.sampled_from(sorted(SUBCOMMANDS)),
    after=st.lists(OTHER | OUTPUT, max_size=5),
)
def test_only_output_flags_are_taken_out_and_ours_stand_before_the_subcommand(
    before: list[list[str]], subcommand: str, after: list[list[str]]
) -> None:
    output = [["--log-format", "text"], ["--log-level=none"], ["-d"], ["-q"], ["--no-use-colors"], ["--debug"], ["--quiet"]]
    argv = ("dbt", *(token for part in before for token in part), subcommand, *(token for part in after for token in part))
    kept_before = [token for part in before if part not in output for token in part]
    kept_after = [token for part in after if part not in output for token in part]
    assert DbtCommand.parse(argv).capturing() == ("dbt", *kept_before, *CAPTURE_FLAGS, subcommand, *kept_after)


@pytest.mark.parametrize(
    ("command", "env", "output"),
    [
        ("dbt build", {}, Output()),
        ("dbt build", {"DBT_QUIET": "1"}, Output(level="error")),
        ("dbt build --no-quiet", {"DBT_QUIET": "1"}, Output()),
        ("dbt -q build", {"DBT_DEBUG": "true"}, Output(level="error")),
        ("dbt --debug build", {}, Output(level="debug")),
        ("dbt build --log-level warn --log-format json", {}, Output(level="warn", json=True)),
        ("dbt build --log-level=none -q", {}, Output(level="none")),
        ("dbt build --use-colors", {}, Output(colors=True)),
        ("dbt build", {"DBT_LOG_LEVEL": "warn", "DBT_ENGINE_LOG_LEVEL": "error"}, Output(level="error")),
        ("dbt build -qx", {}, Output(level="error")),
    ],
)
def test_what_the_user_wants_to_see(command: str, env: dict[str, str], output: Output) -> None:
    assert DbtCommand.parse(tuple(command.split())).output(env) == output


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("", "no command"),
        ("dbt", "has no dbt command"),
        ("dbt --version", "has no dbt command"),
        ("dbt biuld", "'biuld' is not a dbt command"),
        ("dbt --target build", "has no dbt command"),
        ("dbt init", "'init' is not a dbt command"),
    ],
)
def test_what_is_not_a_dbt_command(command: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        DbtCommand.parse(tuple(command.split()))


def test_options_are_found_anywhere() -> None:
    command = DbtCommand.parse(
        ("dbt", "--profile", "--target-path", "build", "--target-path", "a", "--project-dir=p", "--target-path", "b")
    )
    assert command.option("--target-path") == "b"
    assert command.option("--project-dir") == "p"
    assert command.option("--profile") == "--target-path"
    assert command.option("--state") is None
    assert command.dbt_args[0] == "--profile"


def test_values_that_may_be_secret_are_not_recorded() -> None:
    command = DbtCommand.parse(("dbt", "build", "--vars", "{token: x}", "--vars={token: x}", "--select", "--vars"))
    assert command.redacted() == ("dbt", "build", "--vars", "***", "--vars=***", "--select", "--vars")


def test_secrets_in_front_of_dbt_are_not_recorded() -> None:
    command = DbtCommand.parse(
        ("env", "DBT_ENV_SECRET_T=hunter2", "uv", "run", "--index", "https://me:tok@host/simple", "dbt", "build", "--state", "s3://a:b@c/d")
    )
    shown = command.redacted()
    assert shown[:2] == ("env", "DBT_ENV_SECRET_T=***")
    assert "https://***@host/simple" in shown
    assert shown[-1] == "s3://***@c/d"


def test_no_variable_hides_events() -> None:
    env = {"DBT_QUIET": "1", "DBT_ENGINE_LOG_LEVEL": "none", "DBT_LOG_FORMAT": "text", "DBT_DEBUG": "0", "DBT_PROFILE": "p"}
    assert without_output_variables(env) == {
        "DBT_PROFILE": "p",
        "DBT_QUIET": "false",
        "DBT_USE_COLORS": "false",
        "DBT_LOG_FORMAT_FILE": "text",
    }
    assert without_output_variables({"DBT_LOG_FORMAT_FILE": "json"})["DBT_LOG_FORMAT_FILE"] == "json"


STATE = ("--select", "result:error", "--indirect-selection", "empty", "--state", "S")


@pytest.mark.parametrize(
    ("command", "before", "after"),
    [
        ("dbt build", "dbt build", ""),
        ("dbt build --select a b+ --threads 4", "dbt build", "--threads 4"),
        ("dbt build -s a b -f", "dbt build", "-f"),
        ("dbt build -sa --select=a b --exclude c d", "dbt build", ""),
        ("dbt build -m a --models b --model c --threads 4", "dbt build", "--threads 4"),
        ("dbt build --selector nightly --indirect-selection=cautious", "dbt build", ""),
        ("dbt --no-partial-parse build --fail-fast --exclude a", "dbt --no-partial-parse build", "--fail-fast"),
        (
            "dbt build --resource-type model test --exclude-resource-type seed",
            "dbt build",
            "--resource-type model test --exclude-resource-type seed",
        ),
        ("dbt build --state prod", "dbt build", "--defer-state prod"),
        ("dbt --state=prod build --defer --favor-state", "dbt build", "--defer-state prod --defer --favor-state"),
        ("dbt build --state prod --defer-state other", "dbt build", "--defer-state other"),
        ("uv run -s dbt run -s a", "uv run -s dbt run", ""),
        ("dbt build --vars --select --target -s", "dbt build", "--vars --select --target -s"),
        ("dbt build -x -- --select a", "dbt build", "-x -- --select a"),
    ],
)
def test_a_narrowed_command(command: str, before: str, after: str) -> None:
    """All flags stay; the user's selection goes, and their state is deferred to."""
    parsed = DbtCommand.parse(tuple(command.split()))
    narrowed = parsed.narrowed("S", {})
    assert narrowed.argv == (*before.split(), *STATE, *after.split())
    assert (narrowed.program, narrowed.subcommand) == (parsed.program, parsed.subcommand)
    assert DbtCommand.parse(narrowed.argv) == narrowed


@pytest.mark.parametrize(
    ("env", "after"),
    [
        ({"DBT_STATE": "prod"}, ("--defer-state", "prod")),
        ({"DBT_ENGINE_STATE": "prod", "DBT_STATE": "x"}, ("--defer-state", "prod")),
        ({"DBT_STATE": "prod", "DBT_DEFER_STATE": "other"}, ()),
    ],
)
def test_the_state_of_a_variable_is_deferred_to(env: dict[str, str], after: tuple[str, ...]) -> None:
    assert DbtCommand.parse(("dbt", "build")).narrowed("S", env).argv == ("dbt", "build", *STATE, *after)


def test_a_selection_that_cannot_be_taken_out_is_refused() -> None:
    with pytest.raises(ConfigError, match="write '-xs' as separate options"):
        DbtCommand.parse(("dbt", "build", "-xs", "a")).narrowed("S", {})


@pytest.mark.parametrize(
    ("command", "front", "options"),
    [
        ("dbt build", "dbt", ""),
        ("dbt -d --log-format json build --select a b --full-refresh --threads 4 -t prod", "dbt", "--select a b -t prod"),
        ("uv run dbt test --selector s --vars {} --state=p --defer", "uv run dbt", "--selector s --vars {} --state=p --defer"),
        (
            "dbt --profiles-dir p build --fail-fast --indirect-selection buildable -sa",
            "dbt",
            "--profiles-dir p --indirect-selection buildable -sa",
        ),
    ],
)
def test_the_command_that_lists_what_another_selects(command: str, front: str, options: str) -> None:
    listing = "--quiet --log-format text ls --output json --output-keys unique_id"
    assert DbtCommand.parse(tuple(command.split())).listing() == (*front.split(), *listing.split(), *options.split())


@pytest.mark.parametrize(
    ("command", "parse", "freshness", "test"),
    [
        ("dbt build", "dbt parse", "dbt source freshness", "dbt test"),
        (
            "uv run dbt --warn-error -q build --profiles-dir p -t prod --vars {} --select a b --exclude c --state s --full-refresh --threads=4",
            "uv run dbt --warn-error -q parse --profiles-dir p -t prod --vars {} --threads=4",
            "uv run dbt --warn-error -q source freshness --profiles-dir p -t prod --vars {} --threads=4",
            "uv run dbt --warn-error -q test --profiles-dir p -t prod --vars {} --select a b --exclude c --state s --threads=4",
        ),
        (
            "dbt build --selector x --resource-type model --empty -x --store-failures",
            "dbt parse",
            "dbt source freshness",
            "dbt test --selector x -x --store-failures",
        ),
    ],
)
def test_the_other_commands_of_the_same_attempt(command: str, parse: str, freshness: str, test: str) -> None:
    """The same project, profile and variables; a selection only where the tests of the build are meant."""
    build = DbtCommand.parse(tuple(command.split()))
    made = [build.parsing(), build.freshness(), build.testing()]
    assert [" ".join(one.argv) for one in made] == [parse, freshness, test]
    assert all(DbtCommand.parse(one.argv) == one for one in made)


def test_a_narrowed_check_of_sources_is_still_one() -> None:
    narrowed = DbtCommand.parse(("dbt", "build", "--threads", "2")).freshness().narrowed("S", {})
    assert narrowed.argv == ("dbt", "source", "freshness", *STATE, "--threads", "2")
    assert DbtCommand.parse(narrowed.argv) == narrowed


def test_a_build_without_tests() -> None:
    build = DbtCommand.parse(("dbt", "build", "--select", "a")).without_tests()
    assert build.argv == ("dbt", "build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test", "--select", "a")


@pytest.mark.parametrize(
    ("command", "selects", "chooses_types"),
    [("dbt build -x", False, False), ("dbt build -s a", True, False), ("dbt build --resource-types model", True, True)],
)
def test_whether_a_command_selects(command: str, selects: bool, chooses_types: bool) -> None:
    parsed = DbtCommand.parse(tuple(command.split()))
    assert (parsed.selects, parsed.chooses_types) == (selects, chooses_types)
