"""What a node costs Airflow's database, in statements: a benchmark that fails on structure, not on time.

Airflow's loops ask the same again and again for as long as a run takes. So of two runs of one project, one with a task for each model and one with a
task for all of them, only such statements are compared as a loop with nothing to do does not execute. Seen to fail with a trigger that sets a Variable,
and with one that asks for the producer's state itself, once per poll.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from scripts.airflow_client import until
from scripts.airflow_stack import AirflowStack
from tests.e2e.statements import Statement, counts

LOOPS = frozenset(
    {"job", "dag_run", "dag", "dag_bundle", "dag_warning", "import_error", "asset", "serialized_dag", "dag_version", "dag_code", "log"}
)
"""Tables that Airflow writes for its heartbeats, for each run as a whole, and when it parses a DAG file."""
SEVERAL_AT_ONCE = frozenset({("UPDATE", "trigger"), ("DELETE", "trigger"), ("DELETE", "callback")})
"""That Airflow does for as many nodes as there are at that moment."""
WRITES = 4.5
"""Four of Airflow's own: the scheduler defers the task and writes its trigger, the triggerer ends the task and writes the callback of its end."""
STATES = 5.0
"""Two to three of Airflow's own for each trigger. A trigger that asks for itself adds one with each poll."""


def cost(airflow: AirflowStack, folder: Path, dag_id: str) -> tuple[int, Counter[Statement]]:
    """Tasks of a run of this DAG, and the statements of all services meanwhile; this process asks the database, not the api-server."""
    airflow.wait_for_dag(dag_id, 60)
    before = counts(folder)
    run = {"d": dag_id, "r": airflow.trigger(dag_id)}
    query = "select state from dag_run where dag_id = :d and run_id = :r"
    ended = until(lambda: airflow.sql(query, run) not in ([("queued",)], [("running",)]), 180)
    assert (ended, airflow.sql(query, run)) == (True, [("success",)])
    tasks = airflow.sql("select count(*) from task_instance where dag_id = :d and run_id = :r", run)[0][0]
    return tasks, counts(folder) - before


def kept_for_a_node(one: Statement) -> bool:
    """A write for one node. Those of the api-server to task instances are heartbeats of a worker; that a node has none is tested in test_runs.py."""
    heartbeat = one.service == "api-server" and one.table == "task_instance"
    return not (one.verb == "SELECT" or one.idle or one.table in LOOPS or (one.verb, one.table) in SEVERAL_AT_ONCE or heartbeat)


def asked_by_a_trigger(one: Statement) -> bool:
    """A question for the state of tasks."""
    return one.service == "triggerer" and one.verb == "SELECT" and one.table == "task_instance"


def test_a_node_costs_few_statements(airflow: AirflowStack, home: Path) -> None:
    few, together = cost(airflow, home / "statements", "counted_at_once")
    many, each = cost(airflow, home / "statements", "counted")
    assert many - few == 29

    def per_node(of_interest: Callable[[Statement], bool]) -> dict[Statement, float]:
        return {one: (times - together[one]) / (many - few) for one, times in each.items() if of_interest(one)}

    writes, states = per_node(kept_for_a_node), per_node(asked_by_a_trigger)
    assert not [one for one in (*together, *each) if one.verb != "SELECT" and one.table in ("xcom", "variable")]
    assert sum(writes.values()) <= WRITES, writes
    assert sum(states.values()) <= STATES, states
    check_one_version(airflow, "counted")


def check_one_version(airflow: AirflowStack, dag_id: str) -> None:
    """Once a DAG has runs, Airflow writes a new version of it whenever a parse makes another DAG; one more parse makes none."""
    parsed = "select last_parsed_time from dag where dag_id = :d"
    before = airflow.sql(parsed, {"d": dag_id})
    airflow.call("PUT", f"parseDagFile/{airflow.call('GET', f'dags/{dag_id}/details')['file_token']}")
    assert until(lambda: airflow.sql(parsed, {"d": dag_id}) != before, 60)
    assert airflow.sql("select count(*) from dag_version where dag_id = :d", {"d": dag_id}) == [(1,)]
