# A Python of 3.11 to 3.13 is all that has to be there: every target installs by itself.
PYTHON ?= python3
OUT ?= runs/demo
PYTEST_ARGS ?= --quiet --numprocesses=logical --maxprocesses=4 --dist=worksteal

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_PROGRESS_BAR := off

.PHONY: install demo test test-fast check docs clean

install: $(STAMP)

# A Python without ensurepip (Debian without python3-venv) borrows its own pip.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected Python 3.11 to 3.13; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@echo "installing into $(VENV) (minutes, once)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
		{ $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	@$(BIN)/mgen demo --out $(OUT)

test: install
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# About a minute on 2 cores: everything but the tests marked slow.
test-fast: install
	@$(BIN)/python -m pytest $(PYTEST_ARGS) -m 'not slow'

check: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: install
	@$(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mgen rewards critics scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
