# Everything works on a fresh machine that has Python 3.11 or later and make.

PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12 python3.13 python3.14,\
	$(shell $(p) -c 'import sys; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo test check format bench soak clean

help:
	@echo 'make demo    watch a live migration between two throwaway servers'
	@echo 'make test    set up and check everything; what CI runs'
	@echo 'make check   formatting, lint, types and tests'
	@echo 'make format  put the code into form'
	@echo 'make bench   measure speed and memory'
	@echo 'make soak    random faults for as long as asked: make soak SOAK="--minutes 60"'
	@echo 'make clean   remove the virtual environment and caches'

demo: $(INSTALLED)
	$(BIN)/limosa demo

test: check

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest tests -n 3 --dist worksteal

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py

SOAK ?= --rounds 20

soak: $(INSTALLED)
	$(BIN)/python tests/soak.py $(SOAK)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# Editable, so that tests and demo run the code as it stands.
$(INSTALLED): pyproject.toml
	@test -n '$(PYTHON)' || { echo 'error: no Python 3.11 or later on PATH' >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
