# Two commands on a fresh machine: `make demo` and `make test`. Both need Python 3.11+, pip and make.
# Where pip would fetch a CUDA build of torch and a CPU build will do, set PIP_EXTRA_INDEX_URL to
# PyTorch's index of CPU wheels.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test check

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("retain needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=/path/to/python3.11")'
	@echo "setup: installing into $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/retain demo --out out/demo

check: setup
	@echo "check: ruff, mypy"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary -p retain
	@$(BIN)/mypy --no-error-summary --explicit-package-bases tests

test: check
	@echo "test: pytest"
	@$(BIN)/python -m pytest -n auto --dist worksteal
