PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: search test test-all install lint docs clean

search: install
	$(BIN)/nas search --budget-latency 5ms

install: $(VENV)/.installed

test: $(VENV)/.installed-test
	$(BIN)/pytest -n 2 --dist worksteal -m "not thorough" $(PYTEST_OPTIONS)

test-all: $(VENV)/.installed-test
	$(BIN)/pytest -n 2 --dist worksteal $(PYTEST_OPTIONS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python tools/link_types.py
	$(BIN)/mypy
	$(BIN)/python tools/write_docs.py --check

docs: $(VENV)/.installed-test
	$(BIN)/python tools/write_docs.py

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@

clean:
	rm -rf $(VENV) build
