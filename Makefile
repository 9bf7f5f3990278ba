# `make help` lists the targets. Everything is installed into .venv from constraints.txt; nothing else is touched.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
# One worker more than two cores: a test often waits for what it started.
PYTEST := $(BIN)/pytest -n 3 --dist worksteal
.PHONY: help setup demo test test-all check coverage audit lab dashboard docs bench rates clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## ?/  make \1	/' | expand -t 18

setup: .venv/installed ## make .venv and install the pinned dependencies

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.11 setup"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the pinned dependencies into .venv (a few minutes the first time) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,lab,docs]"
	@touch .venv/installed

demo: setup ## from bundled market data to a verdict and a report, in under two minutes
	$(BIN)/algo run research

test: setup notebooks ## every check: drift, style, secrets, notebooks executed and compared, all tests but the longest
	$(PYTEST) -m "not long"

test-all: setup notebooks ## the same, and what is too costly for every day: storms, whole matrices
	$(PYTEST)

check: setup style ## the fast lane, under two minutes: drift, style, secrets, quick tests
	$(PYTEST) -m "not slow and not long"

coverage: setup ## how much of the package the tests run, in processes they start, too: the total, and where it is least
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist worksteal -m "not long"; failed=$$?; \
	  $(BIN)/coverage combine --quiet && $(BIN)/coverage report --sort=cover | sed -n '1,22p;/^TOTAL/p'; exit $$failed

.PHONY: notebooks
notebooks: setup style
	$(BIN)/python tools/notebooks.py

.PHONY: style
style: setup
	$(BIN)/python tools/drift.py
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy
	$(BIN)/python tools/secret_scan.py

audit: setup ## security: bandit, the scan for secrets, and everything an adversary tried (half an hour on two cores)
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive algo_research tools
	$(BIN)/python tools/secret_scan.py
	$(PYTEST) tests/hostile

lab: setup ## JupyterLab at its start notebook, on this machine only
	$(BIN)/jupyter lab --ip=127.0.0.1 --notebook-dir=. nbs/tutorials/start.ipynb

dashboard: setup ## the performance dashboard over the runs, in a browser
	$(BIN)/algo dashboard

docs: setup ## the documentation site, into _docs/
	$(BIN)/python tools/docs.py

bench: setup ## measured beside a peer: the accounting kernel and vectorbt, help and a bare interpreter
	$(BIN)/python benchmarks/help.py
	$(BIN)/python benchmarks/accounting.py

rates: setup ## how often the verdict is wrong: the whole road, rules by markets, 200 names (over an hour on two cores)
	$(BIN)/python benchmarks/verdict_rates.py
	$(BIN)/python benchmarks/rule_rates.py
	$(BIN)/python benchmarks/many_names.py

clean: ## remove .venv and caches; data, reports and the trial ledger stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
