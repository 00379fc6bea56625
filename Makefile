PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: install test test-all lint demo demo-fashion clean

install: $(VENV)/installed
$(VENV)/installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@
$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/installed-dev
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .

demo: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash demo/faces.sh

demo-fashion: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash demo/fashion.sh

clean:
	rm -rf demo/data demo/output .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
