PYTHON ?= python3
BIN := .venv/bin
# Newer than pyproject.toml and constraints.txt only when the last installation ended well.
STAMP := .venv/.installed

# TensorFlow's start-up notes would bury what a command has to say.
export TF_CPP_MIN_LOG_LEVEL ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench soak lint ui up-native clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything the project needs (about two minutes)

demo: $(STAMP) ## run the whole graph on drawn faces; needs no data
	$(BIN)/fer-pipeline demo

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n 2

soak: $(STAMP) ## kill, stop and fill up what runs need, see that nothing is lost (more than an hour; ROUNDS=5)
	$(BIN)/python -m fer_pipeline_tests.soak --rounds $(or $(ROUNDS),5)
	$(BIN)/python -m fer_pipeline_tests.soak_services --rounds $(or $(ROUNDS),5)
	$(BIN)/python -m fer_pipeline_tests.soak_queue

lint: $(STAMP) ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=deploy $(BIN)/mypy deploy/up_native.py

bench: $(STAMP) ## measure speed and memory, write docs/performance.md (an hour or so; PEERS=PYTHON)
	$(BIN)/python -m benchmarks $(if $(PEERS),--peers $(PEERS))

ui: $(STAMP) ## open Dagster and MLflow on what was run before
	$(BIN)/fer-pipeline ui

up-native: $(STAMP) ## run the services of docker-compose.yml without Docker (docs/operations.md)
	$(BIN)/python deploy/up_native.py

clean: ## remove .venv and caches; what was run (fer-home) stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	@echo "fer-home, if there is one, was kept: delete the folder by hand to undo the runs."

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c '' 2>/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one with make PYTHON=python3.12 $(MAKECMDGOALS)." >&2; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "$(PYTHON) is `$(PYTHON) -V 2>&1`, and the project needs 3.11 or newer: name one with make PYTHON=python3.12 $(MAKECMDGOALS)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install them with apt-get install python3-venv (Debian, Ubuntu)." >&2; exit 1; }
	@rm -f $@
	@echo "Installing into .venv (about two minutes, 3.4 GB) ..." >&2
	@# An environment whose Python was removed, or is too old, cannot be brought up to date.
	@$(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	@touch $@
