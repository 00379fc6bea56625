PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# A process of one thread for each core; a file stays in one, so that its tests share what they start. The files go
# by name: by default those of the most tests go first, and long ones of few tests come last and alone.
# PATH: mpiexec stands beside python.
PYTEST := PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: install test test-slow test-all lint docs demo demo-fashion demo-digits clean

install: $(VENV)/installed
$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@
$(VENV)/installed-hub: requirements-hub.txt $(VENV)/installed
	$(BIN)/pip install --quiet -r requirements-hub.txt
	touch $@
$(VENV)/installed-dev: requirements-dev.txt requirements-hub.txt $(VENV)/installed
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

test: $(VENV)/installed-dev
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/installed-dev
	$(PYTEST) -m slow

test-all: test test-slow

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .

docs: $(VENV)/installed
	$(BIN)/python docs/make.py

demo: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash demo/faces.sh

demo-fashion: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash demo/fashion.sh

demo-digits: $(VENV)/installed-hub
	PATH="$(abspath $(BIN)):$$PATH" bash demo/digits.sh

clean:
	rm -rf demo/data demo/output .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
