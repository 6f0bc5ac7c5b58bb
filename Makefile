# Everything a person does here, each in one command. `make demo` and `make test` set up all they need.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .tools/npm/.ready

.PHONY: help env tools check test test-ceph test-cosmos test-dbt test-postgres test-distributed test-deploy test-packaging test-airflow31 test-airflow32 docs bench bench-scale bench-capture bench-ledger soak demo lock clean
help: ## what can be made
	@grep -E '^[a-z0-9 -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/; s/ test-[a-z0-9]+//' | expand -t 20

$(READY): requirements/dev.txt pyproject.toml scripts/env.sh
	@scripts/env.sh

env: $(READY) ## the locked environment in .venv

$(TOOLS): requirements/npm/package-lock.json scripts/tools.sh
	@scripts/tools.sh

tools: $(TOOLS) ## the storage servers that tests start, in .tools/npm

check: $(READY) ## ruff (lint and format) and mypy strict
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

test: check $(TOOLS) ## check, then unit, integration, browser and end-to-end tests
	@scripts/system.sh chromium chromium-driver
	@exec $(BIN)/python -m pytest -n 2 $(ARGS)

test-ceph: $(READY) ## the storage contract on a real Ceph too (installs Debian's packages as root)
	@scripts/tools.sh ceph
	@LEDGER_WATCHER_CEPH=1 $(BIN)/python -m pytest tests/core/test_storage_contract.py tests/core/test_storage_faults.py -k ceph $(ARGS)

test-cosmos: $(READY) ## profiles of Airflow connections, field by field beside those of astronomer-cosmos
	@scripts/venv.sh cosmos
	@.venv-cosmos/bin/python -m pytest tests/cosmos $(ARGS)

DBT_VERSIONS ?= 1.8 1.9 1.10 1.11 fusion
test-dbt: $(READY) ## real dbt, every version, on DuckDB and PostgreSQL; all selections (DBT_VERSIONS="1.8 1.11" for some)
	@scripts/system.sh postgresql
	@scripts/dbt_venvs.sh $(DBT_VERSIONS)
	@DBT_VERSIONS="$(DBT_VERSIONS)" $(BIN)/python -m pytest tests/dbt tests/operators/test_selection_dbt.py --timeout=900 $(ARGS)

test-postgres: $(READY) ## the end-to-end tests with Airflow's metadata in PostgreSQL
	@scripts/system.sh postgresql
	@LEDGER_WATCHER_E2E_DATABASE=postgresql $(BIN)/python -m pytest tests/e2e $(ARGS)

test-distributed: $(READY) ## Airflow on Celery, Redis and PostgreSQL: two workers, dbt on one of them, the ledger on S3
	@scripts/system.sh redis-server postgresql
	@scripts/dbt_venvs.sh 1.11
	@scripts/venv.sh distributed
	@LEDGER_WATCHER_DISTRIBUTED=1 exec .venv-distributed/bin/python -m pytest tests/distributed $(ARGS)

test-deploy: $(READY) ## the terraform modules: their policies on a real IAM (moto), checkov, and terraform itself where it is installed
	@scripts/venv.sh checkov
	@LEDGER_WATCHER_DEPLOY=1 $(BIN)/python -m pytest tests/deploy -rs $(ARGS)

test-packaging: $(READY) ## wheel and sdist, installed with dbt, with Airflow, with both, on each Python from 3.10 to 3.13 that is here
	@scripts/venv.sh packaging
	@LEDGER_WATCHER_PACKAGING=1 $(BIN)/python -m pytest tests/packaging --timeout=900 -rs $(ARGS)

test-airflow31 test-airflow32: test-airflow%: $(READY) ## Airflow 3.1 (or test-airflow32: 3.2), where each node costs one start of a worker
	@scripts/venv.sh airflow$*
	@LEDGER_WATCHER_OLDER=$* exec .venv-airflow$*/bin/python -m pytest tests/older --timeout=900 $(ARGS)

docs: $(READY) ## the documentation as HTML in .work/docs/html; every warning is an error
	@scripts/venv.sh docs
	@LEDGER_WATCHER_DOCS=1 $(BIN)/python -m pytest tests/docs
	@exec $(BIN)/python -m scripts.docs $(ARGS)

bench: $(READY) ## one DAG run beside `dbt build`, astronomer-cosmos and LOCAL, in a real Airflow on PostgreSQL (ARGS="--help")
	@scripts/system.sh postgresql
	@scripts/bench_venvs.sh
	@exec .work/bench/own/bin/python -m benchmarks.airflow $(ARGS)

bench-scale: $(READY) ## what nodes cost the triggerers, and how late their tasks are, as projects grow (ARGS="--sizes 250 --triggerers 1")
	@scripts/system.sh postgresql
	@exec $(BIN)/python -m benchmarks.scale $(ARGS)

bench-capture: $(READY) ## what a ledger costs a dbt run, in time and CPU
	@scripts/dbt_venvs.sh 1.11
	@$(BIN)/python -m benchmarks.interrupt
	@exec $(BIN)/python -m benchmarks.capture_overhead $(ARGS)

bench-ledger: $(READY) $(TOOLS) ## what the ledger costs: requests, time, memory, bytes
	@exec $(BIN)/python -m benchmarks.ledger $(ARGS)

SEEDS ?= 5000
FUZZ_SECONDS ?= 60
soak: $(READY) ## long: the simulator (SEEDS=5000, and as many examples), the fuzzers (FUZZ_SECONDS=60 each), dbt killed at random, the storage away
	@$(BIN)/python -m tests.soak.simulator $(SEEDS)
	@LEDGER_WATCHER_EXAMPLES=$(SEEDS) $(BIN)/python -m pytest tests/core/test_simulator.py -k Machine --timeout=7200
	@$(BIN)/python -m tests.soak.fuzz --seconds $(FUZZ_SECONDS)
	@test ! -e tests/soak/kill_campaign.py || $(BIN)/python -m tests.soak.kill_campaign
	@$(BIN)/python -m tests.soak.outage

demo: $(READY) ## a real Airflow runs an example project and shows its nodes live (ARGS=--keep leaves it open)
	@exec $(BIN)/python -m scripts.demo $(ARGS)

lock: $(READY) ## pin the development environment anew
	@scripts/lock.sh

clean: ## remove environments and leftovers
	rm -rf .venv .venv-* .tools .work dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
