# Needs git, make and Python >= 3.11 with venv. Everything else is fetched into .venv, checked against the hashes of the lock.
#   make run      the service where BOT_TOKEN is set (environment or .env), else the sandbox in the browser
#   make test     lint, types, import rules and the tests
# PYTHON=/path/to/python3.12 chooses the interpreter that .venv is made from.

PYTHON ?=
FAULTS ?= 10000
CASES ?= 1000000
SEED ?=
PY := .venv/bin/python
COMPILE := $(PY) -m piptools compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: help install run test lint texts bench chaos fuzz lock
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#   //p' Makefile
	@echo "Also: make install | lint | texts | bench | chaos FAULTS=10000 SEED=1 | fuzz CASES=1000000 SEED=1 | lock"

install: .venv/.installed

# The stamp is written last: an interrupted installation is taken up again by the next call.
.venv/.installed: requirements-dev.lock pyproject.toml
	@set -eu; \
	fits='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(PY) -c "$$fits" 2>/dev/null; then \
		found=; \
		for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
			if "$$candidate" -c "$$fits" 2>/dev/null; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "No Python 3.11 or later was found$(if $(PYTHON), at $(PYTHON)): install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; \
		fi; \
		if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "$$found comes without venv: install it (on Debian and Ubuntu: apt install python3-venv) and try again." >&2; exit 1; \
		fi; \
		"$$found" -m venv --clear .venv; \
	fi; \
	echo "Installing into .venv (once; some minutes on a slow line) ..."; \
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock; \
	touch $@

run: install
	@exec $(PY) -m bot start

test: lint
	FAULTS=$${FAULTS:-30} $(PY) -m pytest -m "not browser and not slow"

lint: install
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

# The catalogues get the sentences marked in the code; says which are still to be translated.
texts: install
	$(PY) -m tests.house.catalogues

bench: install
	$(PY) -m tests.bench

# Six faults a second on two cores: half an hour at the default number. The seed in use is printed.
chaos: install
	FAULTS=$(FAULTS) SEED=$(SEED) $(PY) -m tests.crash.campaign

# The readers of the chat API's streams: some 800 cases a second and core. The seed is printed, a wrong case with its own.
fuzz: install
	CASES=$(CASES) SEED=$(SEED) $(PY) -m tests.fuzz

# With the index alone and no local wheels: the lock must hold the hashes of every platform's wheels.
lock: install
	PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= $(COMPILE) --output-file requirements.lock pyproject.toml
	PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= $(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml
