# The commands of a newcomer (demo, test) and of a developer (quick, check, bench, lock).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
ARGS ?=
# The line is many processes that import the same libraries: without the files of compiled Python
# that some images turn off, each compiles them again (2 s of CPU for features, 7 s for Feast).
unexport PYTHONDONTWRITEBYTECODE
# Everything that holds Python of ours; generated code is excluded by each tool's own settings.
SOURCES := $(wildcard fraudstream services training harness demo loadtest tests)
# The parts with the longest files first, so that no worker is left alone with one at the end.
TESTS := $(wildcard $(addprefix tests/,e2e contract integration attacks outside faults browser property unit))
# Side by side, a file on one worker: it makes its fixtures once. Two of three tests of the line wait
# for a broker most of the time, so there is room for more workers than cores.
WORKERS ?= 3
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock"

.PHONY: help
help: ## list these commands
	@sed -n 's/^\([a-z.-]*\):.*## /  make \1\t/p' Makefile | expand -t 16

# --- environment ---------------------------------------------------------------------------

.PHONY: .venv
.venv: .venv/.run ## the virtual environment with what running needs

.venv/.run: requirements/run.lock requirements/uv.lock .ci/make-venv
	@.ci/make-venv run

.venv/.dev: .venv/.run requirements/dev.lock
	@.ci/make-venv dev

# Numba compiles once and keeps the result beside the code; four services at once would do it four times.
.venv/.kernel: .venv/.run $(wildcard fraudstream/features/*.py)
	@echo "Compiling the feature kernel (after each change of it, about 15 s)" >&2
	@rm -f fraudstream/features/__pycache__/*.nb[ic]
	@$(BIN)/python -m fraudstream.features.warm_up
	@touch $@

.PHONY: lock
lock: .venv/.run ## resolve requirements/*.in again, for Python 3.11 and 3.12, with hashes
	cd requirements && for set in uv run train dev; do \
		../$(LOCK) $(ARGS) $$set.in -o $$set.lock; done

# --- running -------------------------------------------------------------------------------

.PHONY: demo
demo: .venv/.kernel ## the whole line on this machine, with simulated traffic (ARGS="--for 60")
	@$(BIN)/python -m demo $(ARGS)

.PHONY: bench
bench: .venv/.dev .venv/.kernel ## measure, side by side (ARGS="--only NAME --json FILE")
	@$(BIN)/python -m loadtest.bench $(ARGS)

.PHONY: load
load: .venv/.dev ## Locust against a running service, HTML and JSON in build/ (ARGS="KafkaUser -t 60s")
	@mkdir -p build
	$(BIN)/python -m locust -f loadtest/locustfile.py --host 127.0.0.1:50051 --headless -u 8 -r 8 -t 30s \
		--html build/load.html --json-file build/load $(or $(ARGS),ScoreUser)

.PHONY: picture
picture: .venv/.dev ## the README's picture of the console again, of a demo that runs
	$(BIN)/python -m tests.browser.picture $(ARGS)

.PHONY: client
client: .venv/.run ## the Python client alone, as a wheel in dist/
	$(BIN)/uv build --quiet --wheel --out-dir dist clients/python

# --- checks --------------------------------------------------------------------------------

.PHONY: format
format: .venv/.dev ## lay out the code
	$(BIN)/ruff format $(SOURCES)

.PHONY: lint
lint: .venv/.dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

.PHONY: types
types: .venv/.dev
	$(BIN)/mypy $(SOURCES)
	@# mypy's typeshed: pyright's own has stubs of a much older kafka-python.
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python --typeshedpath \
		"$$($(BIN)/python -c 'import mypy; print(mypy.__path__[0])')/typeshed"

.PHONY: imports
imports: .venv/.dev
	PYTHONPATH=. $(BIN)/lint-imports --no-logo

.PHONY: protos
protos: .venv/.dev
	$(BIN)/buf lint proto
	PATH="$(CURDIR)/$(BIN):$$PATH" proto/generate.sh --check

.PHONY: static
static: lint types imports protos

.PHONY: quick
quick: .venv/.dev .venv/.kernel ## the developer's loop, under a minute: format, lint, unit tests
	@$(MAKE) lint
	$(BIN)/pytest -x fraudstream --doctest-modules
	$(BIN)/pytest -x tests/unit $(ARGS)

.PHONY: unit
unit: .venv/.dev .venv/.kernel
	$(BIN)/pytest fraudstream --doctest-modules
	$(BIN)/pytest tests/unit tests/property $(ARGS)

.PHONY: check
check: static unit ## what must pass before every push: static checks, unit and property tests

.PHONY: test
test: static .venv/.kernel ## everything; what this machine lacks is skipped and listed at the end
	$(BIN)/pytest fraudstream --doctest-modules
	$(BIN)/pytest $(SIDE_BY_SIDE) $(TESTS) $(ARGS)

# Only what can be made again: never a ledger, an archive, a database or a trained model.
DEMO_RUNS := $(addprefix var/demo/,[0-9]*-[0-9]* replay-[0-9]*-[0-9]* running.json line.env \
	metrics.json past.parquet)

.PHONY: clean
clean: ## remove caches, builds and the demo's runs; keeps .venv, out and the rest of var
	rm -rf .venv/.kernel build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info $(DEMO_RUNS)
	find . -name __pycache__ -not -path './.venv/*' -not -path './var/*' -not -path './out/*' \
		-prune -exec rm -rf {} +
