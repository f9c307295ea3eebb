# Everything here works with Python 3.11+ and its venv module; nothing else is needed.
# `make PYTHON=/path/to/python demo` chooses the interpreter.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# Most tests wait for processes more than they compute: three share two cores well. A file's tests stay together.
WORKERS ?= 3
SIDE_BY_SIDE := -n $(WORKERS) --dist loadscope
# Real processes on a machine that is busy with something else can be late: a failure gets one second try, which is told.
SECOND_TRY := --reruns 1 -r aR
LOCK := requirements-dev.lock
# Two stamps: the demo and the daemon don't wait for the checkers and test tools.
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
CONFIG ?= config/examples/fleet.local.yaml
# Extra arguments for pytest: make test ARGS="-k lease -x"
ARGS ?=

.PHONY: help venv demo up test test-quick soak lint format bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(DEV_STAMP) ## make the virtual environment with all that development needs

demo: $(RUN_STAMP) ## real training on a local fleet: 0 -> limit -> 0, one machine lost on the way
	$(BIN)/python examples/demo

up: $(RUN_STAMP) ## run the daemon in the foreground (CONFIG=fleet.yaml)
	$(BIN)/hostler up --config $(CONFIG)

test: $(DEV_STAMP) ## the whole test suite
	$(PYTEST) -m "not soak" $(SIDE_BY_SIDE) $(SECOND_TRY) $(ARGS)

test-quick: $(DEV_STAMP) ## the tests that take less than two seconds each
	$(PYTEST) -m "not soak and not slow" $(SIDE_BY_SIDE) $(ARGS)

soak: $(DEV_STAMP) ## the tests that run for minutes on purpose
	$(PYTEST) -m soak --timeout 3600 $(ARGS)

lint: $(DEV_STAMP) ## ruff, mypy --strict, the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## write the source in the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_STAMP) ## measure; each program in benchmarks/ prints its own table
	for program in benchmarks/bench_*.py; do echo "== $$program"; $(BIN)/python "$$program"; done

lock: ## take the newest versions that pyproject.toml allows into the lock
	scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(PYTHON) -m venv "$$scratch"; \
	"$$scratch/bin/python" -m pip --disable-pip-version-check install --quiet -e '.[daemon,aws,gcp,azure,kubernetes,postgres,dev,demo]'; \
	{ echo "# Versions that the tests passed with; 'make lock' writes this file. pip reads it as a constraint."; \
	  "$$scratch/bin/python" -m pip --disable-pip-version-check freeze --all --exclude pip --exclude-editable; } > $(LOCK).new; \
	mv $(LOCK).new $(LOCK)

clean: ## remove the virtual environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .demo
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Scripts of an environment name the folder it was made in: one that came along with a copied checkout is made anew.
MADE_FOR := $(shell cat $(RUN_STAMP) 2>/dev/null)
ifneq ($(MADE_FOR),)
ifneq ($(MADE_FOR),$(CURDIR))
.PHONY: $(BIN)/python $(RUN_STAMP) $(DEV_STAMP)
endif
endif

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "hostler needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml $(LOCK) Makefile | $(BIN)/python
	$(PIP) install --quiet --constraint $(LOCK) -e '.[daemon,demo]'
	@echo $(CURDIR) > $@

$(DEV_STAMP): pyproject.toml $(LOCK) Makefile | $(BIN)/python
	$(PIP) install --quiet --constraint $(LOCK) -e '.[daemon,aws,gcp,azure,kubernetes,postgres,demo,dev]'
	@echo $(CURDIR) | tee $(RUN_STAMP) > $@
