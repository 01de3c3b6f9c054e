# Two commands do all the set-up: `make demo` and `make test`. Each makes its own environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BARE := $(VENV)-bare/.ready

.PHONY: demo test fast check format clean

demo: $(READY)
	$(BIN)/maskwright demo

test: $(READY) $(BARE)
	MASKWRIGHT_BARE_PYTHON=$(abspath $(VENV)-bare/bin/python) $(BIN)/python -m pytest -n auto

fast: $(READY)
	$(BIN)/python -m pytest -n auto -m "not slow"

check: $(READY)
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(READY)
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

# constraints.txt pins the versions that were tested together; leave it out with `make test CONSTRAINTS=`
CONSTRAINTS ?= -c constraints.txt

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(CONSTRAINTS) -e '.[train,onnx,video,transformers,dev]'
	touch $(READY)

# an environment without torch: a bundle's model.onnx must predict and score there, see tests/test_spine.py
$(BARE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-bare
	$(VENV)-bare/bin/python -m pip install -q --disable-pip-version-check $(CONSTRAINTS) -e '.[onnx]'
	touch $(BARE)

clean:
	rm -rf $(VENV) $(VENV)-bare build dist demo .pytest_cache .mypy_cache .ruff_cache
