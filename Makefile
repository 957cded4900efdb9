# make run: the whole pipeline on the embedded shapes world.
# make test: the tests.   make test-long: those that take minutes, on the real graph and a team's servers.
# make stack: the servers and workers of a team on this machine.
# make transfer: the adapter on fine-tunes and beside styles, after `make run`.
# make check: format, lint, types.   make ui: MLflow and Prefect on what `make run` left.
# make demo: a page where one types a prompt and sees who paints what, after `make run`.
# make bench: the measurements of docs/living-data.md and docs/intervals.md, and of features.
# make study: what docs/arithmetic.md says of the adapter beside a style, after `make run`.
# make rehearse PRESET=sd15 (ssd1b, sdxl): every stage at the published size, with random weights.
PYTHON ?= python3
PRESET ?= sd15
BIN := .venv/bin
# Activating would do the same: the stages call `lcm-lora` and `dvc` by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Some machines keep no bytecode; then each of the many processes of a run compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run transfer test test-long check bench study rehearse ui demo stack lock

setup: .venv/.synced

.venv/.synced: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

run: setup
	# A new machine reads and compiles what the stages load, gigabytes, while the servers start.
	@nice $(BIN)/python -c "import lcm_lora.bases" >/dev/null 2>&1 &
	$(BIN)/python -m flows.retrain

transfer: setup
	$(BIN)/python -m flows.transfer

test: setup
	$(BIN)/python -m pytest

test-long: setup
	$(BIN)/python -m pytest -m long -n 0 tests/alive tests/stack

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m bench.disk
	$(BIN)/python -m bench.text
	$(BIN)/python -m bench.append
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.features
	$(BIN)/python -m bench.score
	$(BIN)/python -m bench.coverage

study: setup
	$(BIN)/python -m bench.arithmetic

rehearse: setup
	$(BIN)/python -m bench.rehearse $(PRESET)

ui: setup
	$(BIN)/python -m flows.ui

stack: setup
	$(BIN)/python -m infra.local up

demo: setup
	$(BIN)/lcm-lora demo --open

# The images' own locks hold the same versions; worker.lock is the project without dev and stack.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-header

lock:
	$(LOCK) --group dev --group stack pyproject.toml --output-file requirements.lock
	$(LOCK) --no-annotate --constraints requirements.lock pyproject.toml --output-file infra/docker/worker.lock
	$(LOCK) --no-annotate --constraints requirements.lock infra/docker/mlflow.in --output-file infra/docker/mlflow.lock
	$(LOCK) --no-annotate --constraints requirements.lock infra/docker/serve.in --output-file infra/docker/serve.lock
