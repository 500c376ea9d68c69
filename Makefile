# Headstart: every target sets up what it needs in .venv. PYTHON=python3.12 make demo chooses an interpreter.

PYTHON ?= python3
PRESET ?= quick
VENV := .venv
BIN := $(VENV)/bin
RUN_OPTIONS := $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(if $(DATASET),--dataset '$(DATASET)') \
	$(if $(SUBSET),--subset '$(SUBSET)') $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(WORKERS),--workers '$(WORKERS)')

# Two processes, the tests of a file in one: they share what is dear to make.
IN_PARALLEL := -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo run test test-all lint audit format bench-extract bench-heads bench-train bench-finetune clean-data clean-venv

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  make run takes PRESET=quick|full WEIGHTS=imagenet|hed|random SUBSET=N SEEDS=0,1,2 WORKERS=N"

demo: $(VENV)/offline.installed ## all schemes on scanned digits, nothing to download: under five minutes
	$(BIN)/headstart run --preset demo $(RUN_OPTIONS)

run: $(VENV)/offline.installed ## all schemes on CIFAR-10 (PRESET=quick or full), with ImageNet's weights
	$(BIN)/headstart run --preset $(PRESET) $(RUN_OPTIONS)

test: $(VENV)/test.installed ## the tests: offline, small, fast; COVERAGE=1 measures what they reach, in children as well
	$(if $(COVERAGE),$(BIN)/coverage erase && $(BIN)/coverage run -m pytest,$(BIN)/python -m pytest) $(IN_PARALLEL)
	$(if $(COVERAGE),$(BIN)/coverage combine --quiet && $(BIN)/coverage report)

test-all: $(VENV)/test.installed ## the slow tests as well
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "slow or not slow"

lint: $(VENV)/lint.installed ## style, format, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports setup.cfg

audit: $(VENV)/audit.installed ## known vulnerabilities of what is installed; needs a network
	$(BIN)/python -m pip_audit --skip-editable

format: $(VENV)/lint.installed ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-extract: $(VENV)/bench.installed ## extraction against model.predict, PyTorch and OpenVINO, in one run
	$(BIN)/python benchmarks/extraction.py $(BENCH)

bench-heads: $(VENV)/offline.installed ## sweeps of heads against Keras and scikit-learn, in one run
	$(BIN)/python benchmarks/heads.py $(BENCH)

bench-train: $(VENV)/offline.installed ## training steps from scratch against Keras fit, in one run
	$(BIN)/python benchmarks/training.py $(BENCH)

bench-finetune: $(VENV)/offline.installed ## fine-tuning from cached maps against images and Keras fit, in one run
	$(BIN)/python benchmarks/finetune.py $(BENCH)

clean-data: ## remove what the graph made, downloads excepted
	@$(PYTHON) -c 'import os, pathlib, subprocess; from pipeline.storage import layout; \
		data = pathlib.Path(os.environ.get("HEADSTART_DATA_DIR") or "data").expanduser(); \
		subprocess.run(["rm", "-rf", "--", *layout.made(data)], check=True)'

clean-venv: ## remove the virtual environment
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "headstart needs Python 3.10 or newer; choose one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each extra of setup.cfg; made again when the dependencies change.
$(VENV)/offline.installed: EXTRAS := offline
$(VENV)/test.installed: EXTRAS := offline,test
$(VENV)/lint.installed: EXTRAS := lint
$(VENV)/audit.installed: EXTRAS := audit
$(VENV)/bench.installed: EXTRAS := offline,bench
$(VENV)/%.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@
