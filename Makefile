# One way in for people and for CI. `make help` lists the targets.

.DEFAULT_GOAL := help
.PHONY: help run test check certify bench

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PORT ?= 8501
HEADLESS ?=
TEST_PROCESSES ?= 2
JSON ?= bench.jsonl
ARGS ?=

help:  ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

run: $(VENV)/.app  ## Open the app (PORT=8501; HEADLESS=1 opens no browser; ARGS= goes to streamlit)
	@exec $(BIN)/python -m streamlit run streamlit_app.py --server.address 127.0.0.1 \
		--server.port $(PORT) $(if $(filter 1 true yes,$(HEADLESS)),--server.headless true) $(ARGS)

test: $(VENV)/.dev  ## All tests, those in a browser included (ARGS= goes to pytest)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

check: $(VENV)/.dev  ## Lint, format, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

certify: $(VENV)/.dev  ## Train each family of networks, export it in every format, prove each file
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --maxschedchunk 1 tests/certify \
		--certificates certify.jsonl $(ARGS)

bench: $(VENV)/.dev  ## Measure this machine: hours (ARGS="pipeline" is minutes; JSON=bench.jsonl keeps all)
	$(BIN)/python -m benchmarks $(if $(JSON),--json $(JSON)) $(ARGS)

# The two stamps: installing again happens only where a requirements file is newer.
$(VENV)/.app: requirements.txt | $(BIN)/pip
	$(BIN)/python -m pip install -q -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.app
	$(BIN)/python -m pip install -q -r requirements-dev.txt
	@touch $@

# A complete environment has pip; one whose making broke off is completed.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "imgcls needs Python 3.11 or newer: make run PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
