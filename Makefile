# Two commands for everybody: `make demo` and `make test`. Each installs what it needs into .venv, once.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))) python3.11)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

PROJECTS := $(sort $(wildcard plugins/*/pyproject.toml plugins/ops/*/pyproject.toml))
FOLDERS := $(patsubst %/pyproject.toml,%,$(PROJECTS))
PACKAGES := $(sort $(notdir $(patsubst %/__init__.py,%,$(wildcard plugins/*/src/*/__init__.py plugins/ops/*/src/*/__init__.py))))
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs format long fuzz matrix zoo constraints clean

help:
	@echo "make install      the core and every plugin, editable, in $(VENV)"
	@echo "make demo         the main job on the digits of scikit-learn; the report is in runs/demo"
	@echo "make test         lint, then the tests"
	@echo "make lint         ruff, import contracts, mypy"
	@echo "make docs         the documentation, in runs/site; warnings are errors"
	@echo "make format       sort the imports, mend what ruff can, lay the code out"
	@echo "make long         hours: the slow tests, fuzz, the matrix, the benchmarks of accuracy and search, the zoo; resumable"
	@echo "make fuzz         600 random networks through capture and removal of channels; a million damaged .vnmodel files for each reader"
	@echo "make matrix       the tests with each plugin alone, and without each; resumable; the table is tests/matrix/results.md"
	@echo "make zoo          models of torchvision and timm, in an environment of their own (6 GB); resumable"
	@echo "make constraints  write the versions in $(VENV) to constraints.txt"
	@echo "make clean        remove $(VENV), caches and runs"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt $(PROJECTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Python 3.11 or newer is needed, and \`$(PYTHON)\` is `$(PYTHON) -V 2>&1 || true`" >&2; \
	  echo "hint: make install PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "install: the core and $(words $(FOLDERS)) plugins into $(VENV)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt hatchling editables
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-build-isolation -c constraints.txt \
	  -e '.[dev,docs]' $(addprefix -e ./,$(FOLDERS))
	@touch $@

demo: install
	@$(BIN)/amc demo --folder runs/demo

test: lint
	@echo "pytest"
	@$(PYTEST) -n auto --maxprocesses 4 --dist loadfile

lint: install
	@echo "ruff"
	@$(BIN)/ruff check --quiet .
	@echo "import contracts"
	@$(BIN)/python scripts/check_imports.py
	@echo "mypy --strict"
	@$(BIN)/mypy --strict $(addprefix -p ,amc_plugins $(PACKAGES))

docs: install
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "runs/site/index.html"

format: install
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

long: install
	@$(PYTEST) -m slow
	@$(MAKE) fuzz
	@$(MAKE) matrix
	@$(BIN)/python -m benchmarks.compression
	@$(BIN)/python -m benchmarks.search
	@$(BIN)/python -m benchmarks.scale
	@$(MAKE) zoo

fuzz: install
	@$(PYTEST) tests/test_fuzz_graphs.py --hypothesis-profile=long
	@OMP_NUM_THREADS=1 $(BIN)/python -m amc_venus_export.fuzz --mutants 1000000
	@$(PYTEST) runtime/tests/test_runtime_fuzz.py -m slow

matrix: install
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.matrix

ZOO := .venv-zoo

$(ZOO)/.installed: $(PROJECTS)
	@test -x $(ZOO)/bin/pip || $(PYTHON) -m venv $(ZOO)
	@$(ZOO)/bin/python -m pip install -qq --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm torch-pruning \
	  hatchling editables accelerate cloudpickle deap igraph jinja2 joblib kornia pluggy pydantic scikit-learn scipy tensorboardX typer
	@$(ZOO)/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps \
	  -e . $(addprefix -e ./,$(FOLDERS))
	@touch $@

zoo: $(ZOO)/.installed
	@$(ZOO)/bin/python -m benchmarks.zoo
	@$(ZOO)/bin/python -m benchmarks.zoo.table

constraints: install
	@$(BIN)/python scripts/write_constraints.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis runs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
