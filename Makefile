# make demo    simulate a field, segment it, draw it (into demo/)
# make test    the tests, without those marked slow or gpu
# make help    the rest
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint docs bench clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Not -q alone: that still prints a warning for every package location that pip skips.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PYTEST := OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -n 2

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

# torch goes first and exactly pinned: pip then looks at one release instead of weighing all of them.
.venv/.installed: pyproject.toml constraints.txt
	@[ -n "$(PYTHON)" ] || { echo "appulse needs Python 3.11 or later and found none. On Debian: apt-get install python3.11 python3.11-venv"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "appulse needs Python 3.11 or later, $(PYTHON) is older or does not run. Choose another: make PYTHON=/path/to/python3.11"; exit 1; }
	@[ -x $(BIN)/python ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	    "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	        echo "$(PYTHON) cannot create virtual environments. On Debian: apt-get install $$(basename "$$("$(PYTHON)" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')")-venv"; exit 1; }; \
	    "$(PYTHON)" -m venv --clear .venv; }
	@echo "installing appulse and its pinned dependencies into .venv (a few minutes the first time)"
	$(PIP) install -c constraints.txt "torch==2.13.0"
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@

.venv/.installed-docs: .venv/.installed
	$(PIP) install -c constraints.txt -e ".[docs]"
	@touch $@

demo: .venv/.installed  ## simulate a field, segment it and a real image, draw both (into demo/)
	MPLBACKEND=Agg $(BIN)/appulse demo -o demo

test: .venv/.installed  ## run the tests, without those marked slow or gpu
	$(PYTEST)

test-all: .venv/.installed  ## run every test (gpu tests skip themselves where there is no GPU)
	$(PYTEST) -m ""

lint: .venv/.installed  ## ruff (style, docstrings, format), numpydoc and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/numpydoc lint $$(find src -name '*.py')
	$(BIN)/mypy

docs: .venv/.installed-docs  ## run the examples in docs/ and build docs/_build/html; warnings are errors
	MPLBACKEND=Agg OMP_NUM_THREADS=1 $(BIN)/sphinx-build -q -E -W --keep-going -b html docs docs/_build/html
	@! grep -rlF --include='*.html' -e "$(CURDIR)" -e "$${TMPDIR:-/tmp}/" docs/_build/html || { echo "these pages hold paths of this machine"; exit 1; }
	@echo "open docs/_build/html/index.html"

bench:  ## what each script in benchmarks/ measures, and how to run it
	@sed -sn -e '1s/^"""//p' -e 's/^usage: /    /p' benchmarks/*.py
	@sed -sn -e '2s/^# //p' -e 's/^# usage: /    /p' benchmarks/*.sh

clean:  ## remove the virtual environment, caches and everything built
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist docs/_build docs/generated demo
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
