# `make demo` and `make test` work on a bare Debian machine with Python 3.11; both set up what they need (scripts/setup.sh).

VENV := .venv
DEMO_OUT := demo_out
BIN := $(VENV)/bin
SETUP_DEPENDS := pyproject.toml constraints.txt scripts/setup.sh

# Nothing here asks a model hub for anything.
export HF_HUB_OFFLINE := 1
export VENV

.DEFAULT_GOAL := help
.PHONY: help demo test lint types format setup clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.installed  ## draw the demonstration sheet with the shipped model
	$(BIN)/instruct-imagen demo --out $(DEMO_OUT)
	@echo "The contact sheet is $(abspath $(DEMO_OUT))/contact_sheet.png"

test: $(VENV)/.installed-dev  ## the fast tests
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev  ## ruff and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell $(wildcard src tests benchmarks runs scripts docs comfyui examples *.md Makefile)

types: $(VENV)/.installed-dev  ## mypy
	$(BIN)/mypy

format: $(VENV)/.installed-dev  ## sort imports and format
	$(BIN)/ruff check --fix --select I,W .
	$(BIN)/ruff format .

setup: $(VENV)/.installed-dev  ## the environment with everything for development

clean:  ## remove the environment, caches and the demonstration's pictures
	rm -rf $(VENV) $(DEMO_OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: $(SETUP_DEPENDS)
	scripts/setup.sh run
	@touch $@

$(VENV)/.installed-dev: $(SETUP_DEPENDS)
	scripts/setup.sh dev
	@touch $@ $(VENV)/.installed
