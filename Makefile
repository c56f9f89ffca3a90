# Every task of the project. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EMULATOR := .venv-bigquery
EMULATOR_LOCK := mdp_tests/support/bigquery/requirements.lock
CLIENTS := .venv-clients
CLIENTS_LOCK := mdp_tests/support/clients/requirements.lock
LINTERS := .venv-linters
LINTERS_LOCK := mdp_tests/support/linters/requirements.lock
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider

# Compiled modules are kept whatever the shell says: the tests' assertions are then rewritten once, and not in each
# process of each run, which takes a fifth of the fast suite.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

.DEFAULT_GOAL := help
.PHONY: help install up test test-slow test-all emulator clients linters services check fmt bench soak golden lock clean

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

test: $(INSTALLED)  ## Run the fast tests (one to two minutes)
	$(PYTEST) -n 2 --dist worksteal -m "not slow" mdp_tests

test-all: test check test-slow  ## Everything: fast tests, checks, slow tests

# The BigQuery emulator lives apart: its pins are not ours. The stamp holds a newer lock against an older environment.
$(EMULATOR)/.installed: $(EMULATOR_LOCK)
	@rm -rf $(EMULATOR) && $(PYTHON) -m venv $(EMULATOR)
	@echo "Installing the BigQuery emulator into $(EMULATOR) (once; about half a minute)"
	@$(EMULATOR)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(EMULATOR_LOCK)
	@touch $@

emulator: $(EMULATOR)/.installed  ## Create .venv-bigquery, in which the tests run a BigQuery emulator

# Other people's clients, pointed at the drop-in klines: their pins are not ours either.
$(CLIENTS)/.installed: $(CLIENTS_LOCK)
	@rm -rf $(CLIENTS) && $(PYTHON) -m venv $(CLIENTS)
	@echo "Installing CCXT, freqtrade and python-binance into $(CLIENTS) (once; about a minute)"
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(CLIENTS_LOCK)
	@touch $@

clients: $(CLIENTS)/.installed  ## Create .venv-clients, in which the tests run CCXT, freqtrade and python-binance

# What looks at deploy/: no part of the product, under licences of its own.
$(LINTERS)/.installed: $(LINTERS_LOCK)
	@rm -rf $(LINTERS) && $(PYTHON) -m venv $(LINTERS)
	@echo "Installing the linters of deploy/ into $(LINTERS) (once; half a minute)"
	@$(LINTERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LINTERS_LOCK)
	@touch $@

linters: $(LINTERS)/.installed  ## Create .venv-linters, which looks at Dockerfile, compose, manifests and Terraform

# Debian's packages that tests use: a browser, Postgres, promtool, network namespaces.
services:  ## Install Debian's Chromium, Postgres, promtool and iproute2 where they are missing
	@missing=; for wanted in chromium:chromium promtool:prometheus ip:iproute2 setpriv:util-linux; do \
	  command -v $${wanted%%:*} >/dev/null || missing="$$missing $${wanted##*:}"; done; \
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$$missing postgresql"; \
	test -z "$$missing" || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends $$missing; }

test-slow: $(INSTALLED) $(EMULATOR)/.installed $(CLIENTS)/.installed $(LINTERS)/.installed services  ## Run the tests with real processes and a browser (minutes)
	$(PYTEST) -n 2 --dist loadfile --durations 25 -m "slow and not alone" mdp_tests
	$(PYTEST) -m alone mdp_tests/deploy

check: $(INSTALLED)  ## Format, lint, types, audit of the packages, Dagster's own checks of the definitions
	$(BIN)/ruff format --check mdp mdp_tests
	$(BIN)/ruff check mdp mdp_tests
	$(BIN)/mypy
	$(BIN)/python -m mdp_tests.support.audit
	. $(BIN)/activate && eval "$$(mdp env)" && dg check defs && dagster definitions validate -w workspace.yaml

fmt: $(INSTALLED)  ## Format the code, mend what ruff can mend
	$(BIN)/ruff format mdp mdp_tests
	$(BIN)/ruff check --fix mdp mdp_tests

bench: $(INSTALLED)  ## Measure the hot paths against their floors: make bench, or make bench ONLY=rest
	$(BIN)/python -m mdp_tests.benchmarks $(ONLY)

soak: $(INSTALLED)  ## Simulated live days with every fault and kill -9: make soak HOURS=24 SPEED=60
	$(BIN)/python -m mdp_tests.soak --hours $(or $(HOURS),24) --speed $(or $(SPEED),60)

golden: $(INSTALLED)  ## Write what describes the code anew (asset graph, APIs, docs/reference); then read the diff
	WRITE_SNAPSHOT=1 $(PYTEST) mdp_tests/defs/test_graph_snapshot.py mdp_tests/bus/test_live_asyncapi.py \
	  mdp_tests/api/test_app.py mdp_tests/api/streams/test_streams_asyncapi.py mdp_tests/docs/test_reference.py mdp_tests/config \
	  mdp_tests/reading/test_metrics.py

lock: $(INSTALLED)  ## Resolve the dependencies anew into requirements.lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra dev --extra deploy pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --extra deploy --constraint requirements.lock pyproject.toml --output-file deploy/requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header $(EMULATOR_LOCK:.lock=.in) --output-file $(EMULATOR_LOCK)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header $(CLIENTS_LOCK:.lock=.in) --output-file $(CLIENTS_LOCK)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header $(LINTERS_LOCK:.lock=.in) --output-file $(LINTERS_LOCK)

clean:  ## Delete the environments and caches; the data stays
	rm -rf $(VENV) $(EMULATOR) $(CLIENTS) $(LINTERS) .mypy_cache .ruff_cache .pytest_cache mdp.egg-info
