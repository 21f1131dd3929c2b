# Everything is set up in .venv, for the interpreter that PYTHON names (3.11 or later).
#   make test PYTHON=python3.14t PYTEST_ARGS="-k select"
PYTHON ?= python3
VENV ?= .venv
DIR ?= .
PYTEST_ARGS ?=
INTERPRETED_ARGS ?= $(PYTEST_ARGS)
BENCH_ARGS ?=

# The installed package is what runs: neither the source tree nor a kernel chosen outside.
unexport PYTHONPATH PENSTOCK_INTERPRETED

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check

INTERPRETER := $(shell $(PYTHON) scripts/interpreter.py)
SOURCES := $(shell find src \( -name __pycache__ -o -name '*.egg-info' \) -prune -o \
    \( -name '*.py' -o -name '*.pxd' -o -name '*.h' -o -type d ! -name src \) -print)

.PHONY: help digest test test-installed test-interpreted test-all bench overload lint typecheck docs package tsan tsan-with clean

help:
	@echo 'make digest DIR=.   digest every file under DIR'
	@echo 'make test           run the tests, against the compiled kernel and the interpreted one'
	@echo 'make test-all       the same with every Python found'
	@echo 'make bench          measure against the peers'
	@echo 'make overload       measure a server under overload, behind each kind of limit'
	@echo 'make lint           Ruff'
	@echo 'make typecheck      mypy and pyright'
	@echo 'make docs           build the documentation into docs/_build'
	@echo 'make package        build the source distribution and the wheels, and check them'
	@echo 'make tsan           stress the compiled kernel under ThreadSanitizer'
	@echo 'make clean          remove what was built'

digest: $(VENV)/penstock.stamp
	@$(BIN)/penstock digest "$(DIR)"

test: test-installed test-interpreted

test-installed: $(VENV)/penstock.stamp $(VENV)/test.stamp
	$(BIN)/pytest $(PYTEST_ARGS)

test-interpreted: $(VENV)/penstock.stamp $(VENV)/test.stamp
	@if $(BIN)/python -c 'import sys, penstock; sys.exit(not penstock.COMPILED)'; then \
	    echo 'PENSTOCK_INTERPRETED=1 $(BIN)/pytest $(INTERPRETED_ARGS)'; \
	    PENSTOCK_INTERPRETED=1 $(BIN)/pytest $(INTERPRETED_ARGS); \
	fi

test-all:
	@scripts/pythons | while read -r tag python; do \
	    echo "== $$tag: $$python"; \
	    $(MAKE) test PYTHON="$$python" VENV="$(VENV)-$$tag" </dev/null || exit 1; \
	done

bench: $(VENV)/penstock.stamp $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

overload: $(VENV)/penstock.stamp $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks.overload $(BENCH_ARGS)

lint: $(VENV)/lint.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check

docs: $(VENV)/penstock.stamp $(VENV)/docs.stamp
	$(BIN)/sphinx-build --fail-on-warning --quiet -b html docs docs/_build

typecheck: $(VENV)/penstock.stamp $(VENV)/typecheck.stamp
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

# Free-threaded: with the GIL the kernel has no locks that could be forgotten.
tsan:
	$(MAKE) tsan-with PYTHON=$(if $(filter file,$(origin PYTHON)),python3.14t,$(PYTHON)) VENV=$(VENV)-tsan

tsan-with: $(VENV)/$(INTERPRETER).stamp
	scripts/tsan/run $(BIN)/python

package: $(VENV)/package.stamp
	$(BIN)/python scripts/check_package.py

clean:
	rm -rf .venv .venv-* build dist wheelhouse src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks scripts examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	find src -name '*.so' -delete

$(VENV)/$(INTERPRETER).stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one with PYTHON=")'
	@echo 'setting up $(VENV)' >&2
	@$(PYTHON) -m venv --clear $(VENV) >&2
	@$(PIP) install 'pip>=25.1' >&2
	@touch $@

$(VENV)/penstock.stamp: $(VENV)/$(INTERPRETER).stamp pyproject.toml setup.py $(SOURCES)
	@echo 'installing penstock into $(VENV)' >&2
	@$(PIP) install '.[cli]' >&2
	@touch $@

# One dependency group of pyproject.toml each.
$(VENV)/%.stamp: $(VENV)/$(INTERPRETER).stamp pyproject.toml
	$(PIP) install --group $* >&2
	@touch $@
