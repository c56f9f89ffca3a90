# Every task of the project. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EMULATOR := .venv-bigquery
EMULATOR_LOCK := mdp_tests/support/bigquery/requirements.lock
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider

# Compiled modules are kept whatever the shell says: the tests' assertions are then rewritten once, and not in each
# process of each run, which takes a fifth of the fast suite.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

.DEFAULT_GOAL := help
.PHONY: help install up test test-slow test-all emulator check fmt bench golden lock clean

help:  ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Everything below depends on this stamp: a changed lock or pyproject installs again, otherwise it costs nothing.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, found " + sys.version)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; one to three minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(INSTALLED)

install: $(INSTALLED)  ## Create .venv and install the locked versions

up: $(INSTALLED)  ## Start simulator and Dagster, collect two recorded weeks; Ctrl-C stops it all
	@exec $(BIN)/mdp up

test: $(INSTALLED)  ## Run the fast tests (about a minute)
	$(PYTEST) -n 2 --dist worksteal -m "not slow" mdp_tests

test-all: test check test-slow  ## Everything: fast tests, checks, slow tests

# The BigQuery emulator lives apart: its pins are not ours. The stamp holds a newer lock against an older environment.
$(EMULATOR)/.installed: $(EMULATOR_LOCK)
	@rm -rf $(EMULATOR) && $(PYTHON) -m venv $(EMULATOR)
	@echo "Installing the BigQuery emulator into $(EMULATOR) (once; about half a minute)"
	@$(EMULATOR)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(EMULATOR_LOCK)
	@touch $@

emulator: $(EMULATOR)/.installed  ## Create .venv-bigquery, in which the tests run a BigQuery emulator

test-slow: $(INSTALLED) $(EMULATOR)/.installed  ## Run the tests with real processes and a browser (minutes)
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }
	$(PYTEST) -n 2 --dist loadfile -m slow mdp_tests

check: $(INSTALLED)  ## Format, lint, types, Dagster's own checks of the definitions
	$(BIN)/ruff format --check mdp mdp_tests
	$(BIN)/ruff check mdp mdp_tests
	$(BIN)/mypy
	. $(BIN)/activate && eval "$$(mdp env)" && dg check defs && dagster definitions validate -w workspace.yaml

fmt: $(INSTALLED)  ## Format the code, mend what ruff can mend
	$(BIN)/ruff format mdp mdp_tests
	$(BIN)/ruff check --fix mdp mdp_tests

bench: $(INSTALLED)  ## Measure the hot paths against their floors: make bench, or make bench ONLY=rest
	$(BIN)/python -m mdp_tests.benchmarks $(ONLY)

golden: $(INSTALLED)  ## Write the asset-graph snapshot anew; then read the diff
	WRITE_SNAPSHOT=1 $(PYTEST) mdp_tests/defs/test_graph_snapshot.py

lock: $(INSTALLED)  ## Resolve the dependencies anew into requirements.lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra dev pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header $(EMULATOR_LOCK:.lock=.in) --output-file $(EMULATOR_LOCK)

clean:  ## Delete the environments and caches; the data stays
	rm -rf $(VENV) $(EMULATOR) .mypy_cache .ruff_cache .pytest_cache mdp.egg-info
