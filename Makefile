# Two commands on a fresh machine: `make demo` runs the main job, `make test` runs the tests.
# Both create .venv first; neither touches anything outside this folder.

VENV := .venv
BIN := $(VENV)/bin
# What `stillroom bench speed` compares with lives apart from what it measures.
PEERS := .venv-peers
TORCH := 2.13.0
# The first of these that is Python 3.11 or newer; or say which: make test PYTHON=/opt/python3.12/bin/python3
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Models this small lose to thread hand-over; work is spread over processes instead.
export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint docs peers clean

demo: $(VENV)/.installed
	$(BIN)/stillroom distill

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/python tools/docs_tables.py
	$(BIN)/python -m pip install -q -e '.[docs]'
	$(BIN)/mkdocs build --strict

peers: $(PEERS)/.installed

clean:
	rm -rf $(VENV) $(PEERS) site dist

$(BIN)/python $(PEERS)/bin/python:
	@test -n "$(PYTHON)" || { echo "Stillroom needs Python 3.11 or newer; name one: make test PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv $(@:/bin/python=) || { rm -rf $(@:/bin/python=); echo "$(PYTHON) cannot create environments; install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }

# The default index serves GPU builds of torch, gigabytes that nothing here needs. A configured index or wheel folder
# may serve CPU builds; else they come from the project's own index.
%/.torch: | %/bin/python
	$*/bin/python -c 'import torch' 2>/dev/null \
		|| $*/bin/python -m pip install -q 'torch==$(TORCH)+cpu' 2>/dev/null \
		|| $*/bin/python -m pip install -q 'torch==$(TORCH)' --index-url https://download.pytorch.org/whl/cpu
	@touch $@

$(PEERS)/.installed: bench/peers/requirements.txt $(PEERS)/.torch
	$(PEERS)/bin/python -m pip install -q -r $<
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install -q -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.torch
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@ $(VENV)/.installed
