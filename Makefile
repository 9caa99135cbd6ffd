# The only door: people and CI use the same commands. Everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Python compiles a module when it is first imported. pip would compile all, most of them for nothing, for minutes.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check -q install --no-compile
# torch is needed by tests and benchmarks alone, to compare with. Its CPU build is far smaller than the usual one: where
# your index has none, add one, such as TORCH="torch==2.13.0 --extra-index-url URL".
TORCH ?= torch==2.13.0
# What is compiled at an import is stored for the next process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo serve test test-fast lint bench docs format clean

demo: $(VENV)/corpus        ## fetch a model, index these docs, and find the answers to three questions in them
	$(BIN)/nearfield demo docs/guides docs/architecture README.md \
	  --question 'How do I serve several models within a memory budget?' \
	  --question 'What happens to an input that is too long?' \
	  --question 'Why is the torch backend not part of the core?'

serve: $(VENV)/core         ## serve the default model at http://127.0.0.1:8080/v1
	$(BIN)/nearfield serve

# A file's tests stay together, on one of two processes: they share models and servers.
test: $(VENV)/test          ## run the whole test suite
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=20

test-fast: $(VENV)/test     ## run the tests without a database, process or socket, and none over two seconds
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --fast

lint: $(VENV)/test          ## format, style, types, imports, sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.gauge

format: $(VENV)/test        ## put the code in shape, and the generated pages
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.formats
	$(BIN)/python -m tools.proto

docs: $(VENV)/docs          ## build the documentation site; needs no network, and neither does reading it
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html in a browser."

bench: $(VENV)/bench        ## compare with other engines; prints ratios and draws a picture
	$(BIN)/python -m benchmarks

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -U pip

$(VENV)/core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -c constraints.txt -e .
	touch $@

$(VENV)/corpus: $(VENV)/core
	$(INSTALL) -c constraints.txt -e ".[corpus]"
	touch $@

$(VENV)/docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -c constraints.txt -e ".[docs]"
	touch $@

$(VENV)/test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) $(TORCH)
	$(INSTALL) -c constraints.txt -e ".[test]"
	touch $@

$(VENV)/bench: $(VENV)/test
	$(INSTALL) -c constraints.txt -e ".[bench]"
	touch $@

clean:
	rm -rf $(VENV) docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
