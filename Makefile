# Every target sets up what it needs: a virtual environment in $(VENV), installed with the tested versions.
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
ARGS ?=
EXTRAS := mujoco,cantera,boston,dask,cma,web,yaml,postgres,zarr

BIN := $(abspath $(VENV))/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DELETE_ON_ERROR:
.PHONY: demo test lint docs bench clean help

demo: $(VENV)/.installed  ## run the main job: choose experiments, learn the dynamics, print the table and the pictures' paths
	OMP_NUM_THREADS=1 $(BIN)/studies run studies/examples/choose_experiments.py $(ARGS)

test: $(VENV)/.installed-dev  ## run the tests; ARGS="-m slow" runs the long ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: $(VENV)/.installed-dev  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.installed-docs  ## build the documentation into docs/_build/html
	rm -rf docs/api
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(VENV)/.installed-bench  ## run the benchmarks (long); the tables go to benchmarks/results
	set -e; for name in active_learning active_learning_bound hnn surrogate_gradients black_box real_simulators optimisers gradients storage speed hnn_speed adjoints; do echo "== $$name"; OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.$$name $(ARGS); done

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist docs/_build docs/api *.egg-info .pytest_cache .ruff_cache .hypothesis

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "No '$(PYTHON)' here. Name a Python >= 3.11: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)' || { echo "Python >= 3.11 is needed, '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[dev,$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[dev,bench,$(EXTRAS)]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[docs]'
	@touch $@
