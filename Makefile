# Everything here needs Python (3.10 to 3.13, with venv) and make; the rest it installs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help demo test test-slow test-kills serve-check benchmark clean

help:
	@echo "make demo       train, evaluate, export and query a model of real digits"
	@echo "make test       lint, type checks and tests"
	@echo "make test-slow  the tests that take minutes, the demo among them"
	@echo "make test-kills twenty kills of one training, of those tests alone"
	@echo "make serve-check the clients against TensorFlow Serving, where that is"
	@echo "make benchmark  times of training steps and data, and tests on data with holes"
	@echo "make clean      remove $(VENV), runs/demo and serving/polydigits"

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
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/ready
	$(BIN)/python -m pytest -m slow

test-kills: $(VENV)/ready
	$(BIN)/python -m pytest -m slow -s tests/trainers/test_kills.py

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
