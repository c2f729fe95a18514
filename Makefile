# `make` shows what there is. `make demo` and `make test` are all a fresh machine needs.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PRESET ?=
DATA ?=
ARGS ?=
OVERRIDE := $(if $(DATA),--config 'corpus={path: "$(DATA)"}',)
UV := 0.13.8

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast test-slurm check format plan run nano audit clean lock

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo "  variables: PRESET=$$(ls workflow/presets | sed 's/.yaml//' | tr '\n' '|' | sed 's/|$$//')  DATA=/path/to/corpus  ARGS='snakemake options'"

setup: $(VENV)/.ready ## the environment in .venv, from the hashed lock file

$(VENV)/.ready: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not here; set PYTHON=/path/to/python (3.11 or newer)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check "uv==$(UV)" \
	  && VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install -q --compile-bytecode --no-deps --require-hashes -r requirements.lock \
	  || $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q src/bowerbird
	@touch $@

demo: setup ## the whole chain on the shipped corpus, offline, then where to look
	@workflow/run "" $(ARGS)
	@echo; echo "The report, with voices to listen to:  $(CURDIR)/results/demo/report/index.html"

run: setup ## a study: make run PRESET=librispeech DATA=/path/to/LibriSpeech
	@workflow/run "$(PRESET)" $(OVERRIDE) $(ARGS)

plan: setup ## what `make run` would make, and why
	@workflow/run "$(PRESET)" $(OVERRIDE) --dry-run --quiet=progress $(ARGS)

nano: setup ## the bundled models again, from scratch, in hours: make nano DATA=/path/to/librispeech-mini (QUICK=1: a trial, minutes)
	@$(BIN)/snakemake --snakefile workflow/nano/Snakefile --profile workflow/profiles/laptop --config data="$(DATA)" \
	  quick=$(if $(QUICK),true,false) $(if $(WORK),work="$(WORK)") $(if $(MINUTES),minutes=$(MINUTES)) $(ARGS)

audit: setup ## check every artifact of a run against what it says it is: make audit RUN=results/demo
	@$(BIN)/bowerbird audit --root $(or $(RUN),results/demo)

test: setup ## everything CI runs: style, types, and all tests
	@$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest -n 2 --ignore tests/slurm

test-fast: setup ## the inner loop: contracts, units and known issues, under a minute
	$(BIN)/python -m pytest -n 2 -m "not slow" tests/contract tests/unit tests/known_issues

test-slurm: setup ## a study on a real Slurm on this machine, with faults (installs it where that is possible)
	@tests/slurm/cluster install
	$(BIN)/python -m pytest tests/slurm

check: setup ## style and types, seconds
	$(BIN)/ruff format --check --quiet src tests benchmarks workflow examples || { echo "not formatted: make format"; exit 1; }
	$(BIN)/ruff check src tests benchmarks workflow examples
	$(BIN)/snakefmt --check --compact-diff Snakefile rules workflow/nano/Snakefile
	$(BIN)/mypy

format: setup ## format everything
	$(BIN)/ruff format src tests benchmarks workflow examples
	$(BIN)/snakefmt Snakefile rules workflow/nano/Snakefile

lock: setup ## make requirements.lock again from pyproject.toml
	workflow/lock

clean: ## remove the demo's results and caches (models you trained elsewhere stay)
	rm -rf results/demo results/tiny .pytest_cache .ruff_cache .mypy_cache
