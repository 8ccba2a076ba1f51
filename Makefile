# Capstan. Two commands do everything on a fresh machine: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
BIN := .venv/bin
RIG := PYTHONPATH=e2e $(BIN)/python -m rig
STAMP := .venv/.installed
GENERATED := crds charts docs/reference
TEST_ARGS ?=
CORES ?= auto
export CAPSTAN DEMO_ARGS TRACE OUT CHAOS FULL

.PHONY: help setup fmt lint types test gen verify bench demo rig rig-down rig-binaries e2e all lock

help:  ## Say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Install everything into .venv (hash-pinned)

$(STAMP): requirements.lock pyproject.toml
	@echo "setup: installing $$(grep -cE '^[a-z].*==' requirements.lock) pinned packages into .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: needs Python 3.11 or newer; set PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "setup: this Python has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

fmt: setup  ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: setup  ## Format check, lint rules, and the walls between the rooms
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/lint-imports

types: setup  ## mypy, strict
	@$(BIN)/mypy

gen: setup  ## Write crds/, the chart's copies, the dashboard and docs/reference
	@$(BIN)/capstan gen --root .
	@$(BIN)/python charts/dashboard.py

verify: gen  ## Generated files are current
	@git diff --exit-code -- $(GENERATED)
	@test -z "$$(git ls-files --others --exclude-standard -- $(GENERATED))" || { echo "verify: untracked generated files:"; git ls-files --others --exclude-standard -- $(GENERATED); exit 1; }

rig-binaries: setup
	-@$(RIG) build

test: setup rig-binaries  ## Every test, on every core (integration tests on a real API server); CORES=0: on one
	@mkdir -p out/test
	@$(BIN)/pytest --numprocesses=$(CORES) --dist=loadgroup --junitxml=out/test/junit.xml $(TEST_ARGS)

demo: setup  ## The main job: a real control plane, a simulated GPU fleet, a trace, a verdict (about 6 minutes)
	@$(RIG) demo $(DEMO_ARGS)

rig: setup  ## Start a control plane to play with; prints the export KUBECONFIG line
	@$(RIG) up --detach

rig-down: setup  ## Stop what `make rig` started
	@$(RIG) down

bench: setup rig-binaries  ## Figures of the last demo and of this machine (FULL=1: the long ones)
	@$(RIG) bench

e2e: setup rig-binaries  ## The long runs (not part of `make test`)
	@$(BIN)/pytest e2e --override-ini=testpaths=e2e $(TEST_ARGS)

lock: setup  ## Refresh requirements.lock and requirements-image.lock from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-header --quiet -o requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --extra agent --universal --python-version 3.11 --generate-hashes --no-header --quiet --constraint requirements.lock -o requirements-image.lock

all: setup lint types verify demo bench test  ## What CI runs
