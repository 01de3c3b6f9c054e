# Two commands do all the set-up: `make demo` and `make test`. Each makes its own environment in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BARE := $(VENV)-bare/.ready
WEB := $(VENV)/ort-web/node_modules/onnxruntime-web

.PHONY: demo test fast check format clean

demo: $(READY)
	$(BIN)/maskwright demo

test: $(READY) $(BARE) $(WEB)
	MASKWRIGHT_BARE_PYTHON=$(abspath $(VENV)-bare/bin/python) MASKWRIGHT_ORT_WEB=$(abspath $(WEB)/dist) $(BIN)/python -m pytest -n auto $(APART)
	$(BIN)/python -m pytest -n 2 $(RUNTIMES)

# other runtimes in processes of their own: after OpenVINO has run beside torch, Ctrl-C ends a process with a segmentation fault
RUNTIMES := tests/exports/test_runtimes.py
APART := --ignore=$(RUNTIMES)

fast: $(READY)
	$(BIN)/python -m pytest -n auto -m "not slow" $(APART)
	$(BIN)/python -m pytest -n 2 -m "not slow" $(RUNTIMES)

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

# tests/exports/test_in_browser.py is skipped without it
$(WEB): | $(READY)
	@if ! command -v npm >/dev/null; then echo "no npm: the tests in a browser are skipped"; \
	elif ! npm install --prefix $(VENV)/ort-web --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 \
	  --fetch-timeout=60000 'onnxruntime-web@>=1.22 <2'; then echo "npm failed: the tests in a browser are skipped"; fi

clean:
	rm -rf $(VENV) $(VENV)-bare build dist demo .pytest_cache .mypy_cache .ruff_cache
