# Everything a person does here, each in one command. `make demo` and `make test` set up all they need.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help env check test demo lock clean
help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): requirements/dev.txt pyproject.toml scripts/env.sh
	@scripts/env.sh

env: $(READY) ## the locked environment in .venv

check: $(READY) ## ruff (lint and format) and mypy strict
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

test: check ## check, then unit, integration and end-to-end tests
	@exec $(BIN)/python -m pytest $(ARGS)

demo: $(READY) ## a real Airflow runs an example project and shows its nodes live
	@exec $(BIN)/python -m scripts.demo $(ARGS)

lock: $(READY) ## pin the development environment anew
	@scripts/lock.sh

clean: ## remove environments and leftovers
	rm -rf .venv .tools .work dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
