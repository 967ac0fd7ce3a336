# Everything here needs Python (3.10 to 3.13, with venv) and make; the rest it installs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

# Two processes. Of the fast tests, one that runs out takes over half of the other's; a
# file of integration tests stays in one process, whose runs and models they share.
PYTEST := $(BIN)/python -m pytest --numprocesses 2

.PHONY: help demo test test-integration test-all test-slow test-kills mutations \
  serve-check benchmark clean

help:
	@echo "make demo              train, evaluate, export and query a model of real digits"
	@echo "make test              formatting, lint, types and the fast tests"
	@echo "make test-integration  tests that train, publish, compile or start processes"
	@echo "make test-all          make test, then make test-integration"
	@echo "make test-slow         tests that take minutes each, the demo among them"
	@echo "make test-kills        kill one training run twenty times and resume it"
	@echo "make mutations         check that tests notice faults put into the mathematics"
	@echo "make serve-check       test the clients against TensorFlow Serving, if present"
	@echo "make benchmark         time training steps, data and serving; compare models"
	@echo "make clean             remove $(VENV), runs/demo and serving/polydigits"

$(VENV)/ready: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	@touch $@

demo: $(VENV)/ready
	$(BIN)/python scripts/demo.py

test: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(PYTEST) --dist worksteal

test-integration: $(VENV)/ready
	$(PYTEST) --dist loadfile --no-loadscope-reorder -m "integration and not slow"

test-all: test
	$(MAKE) test-integration

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

test-kills: $(VENV)/ready
	$(BIN)/python -m pytest -m slow -s tests/trainers/test_kills.py

mutations: $(VENV)/ready
	$(BIN)/python tests/mutations.py

serve-check: $(VENV)/ready
	$(BIN)/python scripts/serve_check.py

benchmark: $(VENV)/ready
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/execution.py
	$(BIN)/python benchmarks/trainer_overhead.py
	$(BIN)/python benchmarks/data_pipeline.py
	$(BIN)/python benchmarks/log_likelihood.py --rows 50
	$(BIN)/python benchmarks/serving_latency.py --rounds 15
	$(BIN)/python benchmarks/many_modalities.py
	$(BIN)/python benchmarks/missing_data.py
	$(BIN)/python benchmarks/six_views.py

clean:
	rm -rf $(VENV) runs/demo serving/polydigits
