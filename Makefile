# Everything here works in a virtual environment of its own (.venv) and needs only Python 3.11+ and a shell.
#
#   make quickstart          the whole loop on the embedded world; FAST=1 for the short one
#   make test                the quick tests, and those on real data where it is found
#   make test-postgres       the store's tests on the server that HEEDFUL_TEST_DATABASE names (.ci/with-postgres)
#   make test-postgres-all   those too that are slow: several processes, a server that is cut off, a full disk
#   make test-all            every test, within 90 minutes
#   make oracle             the losses against TRL 1.12, in an environment of its own (.oracle)
#   make llama               AI judges against llama.cpp's server, compiled in an environment of its own (.llama)
#   make test-ray            the tests on a Ray cluster of several processes, in an environment of its own (.ray)
#   make soak                the studio under kills, under load and with a million rows
#   make study               the figures of docs/results.md: five seeds, about 40 minutes
#   make methods             nine methods side by side on the embedded world: three seeds, about an hour
#   make labels              what labels are worth on the embedded world, and active selection: three seeds
#   make overoptimisation    proxy and gold against KL, and where the watch stops; PREVENTION=1 also what helps
#   make constitution        Constitutional AI on the embedded world, models' errors set: three seeds
#   make rounds              three rounds on the embedded world against one of equal cost: three seeds
#   make docs                the docs site, into build/docs; a broken link, an orphan page or a missing image fails it
#   make reference           write the pages of docs/reference that are made from the code
#   make pictures            draw the figures of docs/explain from runs/quickstart and runs/quickstart-fast
#   make screenshots         take the screenshots of docs/images again, from the real thing, in Chromium
#   make lint                ruff and mypy
#   make messages            refresh and compile the studio's translations
#   make format              let ruff tidy the code
#   make clean               remove .venv and the caches

PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= 2
FAST ?=
PREVENTION ?=

VENV := .venv
BIN := $(VENV)/bin
KEY := $(shell (cat pyproject.toml; echo '$(TORCH)') | cksum | cut -d ' ' -f 1)
INSTALLED := $(VENV)/.installed-$(KEY)
READY := $(VENV)/.ready-$(KEY)
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One thread per test process; more would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help install dev quickstart test test-postgres test-postgres-all test-all test-ray oracle llama soak study methods labels overoptimisation messages lint format clean constitution rounds docs reference pictures screenshots

help:
	@sed -n 's/^#   //p' Makefile

# --- installing: once, and again when pyproject.toml changes ---

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "heedful needs Python 3.11 to 3.13; name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): | $(BIN)/python
	@echo "Installing heedful into $(VENV); a few minutes, once."
	$(PIP) install --quiet '$(TORCH)'
	$(PIP) install --quiet --editable '.[train]'
	@rm -f $(VENV)/.installed-* && touch $@

# Dependency groups need pip 25.1.
$(READY): $(INSTALLED)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	$(PIP) install --quiet --editable '.[train,postgres,serve]' --group dev --group docs
	@rm -f $(VENV)/.ready-* && touch $@

install: $(INSTALLED)

dev: $(READY)

# --- doing ---

quickstart: $(INSTALLED)
	@$(BIN)/heedful quickstart $(if $(FAST),--fast)

test: $(READY)
	$(PYTEST) -m 'not slow and not oracle and not soak'

test-postgres: $(READY)
	$(PYTEST) -m 'not slow and not soak and (not browser or smoke)' tests/feedback tests/studio

test-postgres-all: $(READY)
	$(PYTEST) -m 'not soak and (not browser or smoke)' tests/feedback tests/studio

test-all: $(READY)
	$(PYTEST) -m 'not oracle and not soak'

# TRL and what it needs stay out of heedful's own environment.
.oracle/.ready:
	$(PYTHON) -m venv .oracle
	.oracle/bin/python -m pip install --quiet '$(TORCH)'
	.oracle/bin/python -m pip install --quiet trl==1.12.0 requests
	@touch $@

oracle: $(READY) .oracle/.ready
	HEEDFUL_ORACLE_PYTHON=.oracle/bin/python $(PYTEST) -n 0 -m oracle tests/core

# llama.cpp is compiled: ten minutes and more of a processor core, once.
.llama/.ready:
	$(PYTHON) -m venv .llama
	.llama/bin/python -m pip install --quiet 'llama-cpp-python[server]==0.3.36' gguf
	@touch $@

llama: $(READY) .llama/.ready
	HEEDFUL_LLAMA_PYTHON=.llama/bin/python $(PYTEST) -n 0 tests/feedback/ai/test_ai_llama_cpp.py

# Ray, and what it brings, stay out of heedful's own environment.
.ray/.ready-$(KEY): $(READY)
	$(PYTHON) -m venv .ray
	.ray/bin/python -m pip install --quiet '$(TORCH)'
	.ray/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	.ray/bin/python -m pip install --quiet --editable '.[ray,postgres]' --group dev
	@rm -f .ray/.ready-* && touch $@

test-ray: .ray/.ready-$(KEY)
	OMP_NUM_THREADS=1 .ray/bin/python -m pytest -n 0 -m ray tests

soak: $(READY)
	$(PYTEST) -n 0 -m soak tests/studio tests/feedback

study: $(INSTALLED)
	$(BIN)/python benchmarks/world_study.py

methods: $(INSTALLED)
	$(BIN)/python benchmarks/methods_study.py

labels: $(INSTALLED)
	$(BIN)/python benchmarks/labels_study.py

overoptimisation: $(INSTALLED)
	$(BIN)/python benchmarks/overoptimisation.py $(if $(PREVENTION),--prevention)

constitution: $(INSTALLED)
	$(BIN)/python benchmarks/constitution_study.py

rounds: $(INSTALLED)
	$(BIN)/python benchmarks/rounds_study.py

docs: $(READY) reference
	$(BIN)/python -m sphinx -b html -W --keep-going -q -E -a -c docs/site -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

reference: $(READY)
	@$(BIN)/python docs/site/reference.py

pictures: $(READY)
	$(BIN)/python docs/site/pictures.py runs/quickstart runs/quickstart-fast

screenshots: $(READY)
	$(BIN)/python docs/site/screenshots.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

messages: $(READY)
	.ci/messages

clean:
	rm -rf $(VENV) .oracle .llama .ray .pytest_cache .ruff_cache .mypy_cache .hypothesis
