# A Python of 3.11 to 3.14 is all that has to be there: every target installs what it needs.
SHELL := bash
.SHELLFLAGS := -o pipefail -c

PYTHON ?= python3
OUT ?= runs/demo
PYTEST_ARGS ?= --quiet --numprocesses=logical --maxprocesses=4 --dist=worksteal

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_PROGRESS_BAR := off

# Of pip's lines, the large downloads and the last phase: enough to see that it goes on.
PIP_INSTALL = $(BIN)/python -m pip install --constraint constraints.txt --editable
PIP_LINES := sed -nE 's,^ *Downloading (.*/)?([^ /-]+-[^ /-]+)-[^ ]* (\(.* [MG]B\)).*,  downloading \2 \3,p; s,^Installing collected.*,  installing packages,p'

.PHONY: install install-dev demo test test-fast check docs clean

install: $(STAMP)
install-dev: $(DEV_STAMP)

# A Python without ensurepip (Debian without python3-venv) borrows its own pip.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
		{ echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected Python 3.11 to 3.14; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@echo "installing mgen, torch and what they need into $(VENV) (minutes, once)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@$(PIP_INSTALL) '.[listen,tabs]' | $(PIP_LINES)
	@touch $@

$(DEV_STAMP): $(STAMP)
	@echo "installing what tests and checks need into $(VENV)"
	@$(PIP_INSTALL) '.[dev]' | $(PIP_LINES)
	@touch $@

demo: install
	@$(BIN)/mgen demo --out $(OUT)

test: install-dev
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# About a minute on 2 cores: everything but the tests marked slow.
test-fast: install-dev
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m 'not slow'

check: install-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: install-dev
	@$(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mgen rewards critics scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
