# make demo   simulate a cohort, shard it, pretrain on it, print the table          (about 5 minutes on two cores)
# make lint   style, types, and which part may import which
# make test   lint and test                                                         (under 15 minutes on two cores)
# All set up .venv first, from requirements.lock; nothing else has to be installed by hand.

PYTHON ?= python3
VENV   ?= .venv
# Test files at a time.
JOBS   ?= 2
BIN    := $(VENV)/bin
SETUP  := $(VENV)/.installed
# Decoding threads and OpenMP threads share the cores: a thread that waits should sleep, not spin.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-long lint format lock clean

$(SETUP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else \
	  "Python 3.11 or 3.12 is needed, $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet -r requirements.lock
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --no-deps -e .
	touch $@

demo: $(SETUP)
	$(BIN)/python -m data_prep simulate --seed 0 --out cohorts/demo-0
	$(BIN)/python -m data_prep build --source space_ranger --input cohorts/demo-0 --out shards/demo-0
	$(BIN)/python -m stalign_pl fit --config configs/demo.yaml
	$(BIN)/python -m stalign_pl test --config configs/demo.yaml

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=. $(BIN)/lint-imports
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: $(SETUP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not long" -n $(JOBS) --dist loadfile

test-long: $(SETUP)
	$(BIN)/python -m pytest -m long

lock:
	$(PYTHON) -m venv --clear .venv-lock && .venv-lock/bin/python -m pip install --quiet uv
	.venv-lock/bin/uv pip compile --universal --python-version 3.11 --extra dev --no-emit-index-url --no-annotate \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) runs cohorts shards
