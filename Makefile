# Two commands on a fresh machine: `make demo` and `make test`. Both need Python 3.11+, pip and make.
# Where pip would fetch a CUDA build of torch and a CPU build will do, set PIP_EXTRA_INDEX_URL to
# PyTorch's index of CPU wheels.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .bench-peers

.PHONY: setup demo test check docs check-docs bench bench-peers

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit("retain needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=/path/to/python3.11")'
	@echo "setup: installing into $(VENV) (once; some minutes)"
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

# The documentation as a site, offline; a broken link or any other warning is an error.
docs: setup
	@$(BIN)/python -m sphinx -q -E -W --keep-going -j auto -c docs -d out/doctrees . out/site
	@echo "docs: open out/site/index.html"

# Every block of the documentation as it is printed; `make test` runs the long ones with few samples.
check-docs: setup
	@RETAIN_DOCS=full $(BIN)/python -m pytest tests/docs --timeout 0

# Timed, on one core; give them a machine that does nothing else. Figures go to out/bench and docs/speed.md.
# BENCH=--quick with DOCS= tries them.
DOCS ?= --docs

bench: setup
	@for name in limit plain growth store ewc gem; do $(BIN)/python benchmarks/$$name.py $(DOCS) $(BENCH) || exit 1; done

bench-peers: setup $(PEERS)/.done
	@$(BIN)/python benchmarks/peers.py --python $(PEERS)/bin/python $(DOCS) $(BENCH)

$(PEERS)/.done: benchmarks/peers.txt
	@echo "bench-peers: installing avalanche-lib into $(PEERS) (once; some minutes)"
	@$(PYTHON) -m venv $(PEERS)
	@echo '*' > $(PEERS)/.gitignore
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check -r benchmarks/peers.txt
	@touch $@
