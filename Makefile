# Every target works on a fresh checkout: the environment is made first where it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help train test test-extras device-check soak verify same-bits check fix docs dist reproduce clean
help:
	@echo "make train     install into $(VENV) and run bare mamlcli train"
	@echo "make test      install into $(VENV) and run the test suite"
	@echo "make test-extras  install MLflow, JAX and Dask beside it; run the tests that need them, and studies on a true"
	@echo "               Slurm, which is unpacked and started here (Debian, as root)"
	@echo "make device-check OUT=FOLDER  check the GPU against the CPU, and time it there: 4 minutes, results in FOLDER"
	@echo "make soak      kill, signal, fill and fuzz for an hour (2 free cores); less by ARGS: make soak ARGS='--only walk signals'"
	@echo "make verify    run the recipes that take under a minute, and compare them with their references"
	@echo "make same-bits OLD=COMMIT  compare the bits of an older commit with those of the working tree (3 minutes)"
	@echo "make reproduce decide every claim of the paper and write a report (2 free cores, about 20 minutes, no download);"
	@echo "               more by ARGS: make reproduce ARGS='--until-decided --hours 2 --dir runs/decided'"
	@echo "make check     lint, types and format; changes nothing"
	@echo "make fix       mend what lint and format can mend"
	@echo "make docs      write docs/recipes.md and recipes/recipe.schema.json from the schema, and the map in CONTRIBUTING"
	@echo "make dist      build wheel and sdist into dist/, check them, say how to publish them"
	@echo "make clean     remove $(VENV) and caches (runs stay)"

# One stamp for each set of dependencies; setup.cfg is what they depend on.
$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "expected Python 3.10 or newer, got $$($(PYTHON) --version 2>&1). Run: make PYTHON=/path/to/python3.12 train"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/installed: $(VENV)/python setup.cfg pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

train: $(VENV)/installed
	$(BIN)/mamlcli train

reproduce: $(VENV)/installed
	$(BIN)/mamlcli reproduce $(ARGS)

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/extras

# What cannot be installed here is left out, by name; the tests that are skipped say why.
test-extras: $(VENV)/installed-test
	@for extra in mlflow bench-jax cluster; do \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$$extra]" || \
	    echo "left out: $$extra, which could not be installed"; \
	done
	$(BIN)/python -m pytest -rs tests/extras

# Every part is bounded in time; without a GPU it takes a small form, and says what it could not see.
device-check: $(VENV)/installed-test
	@test -n "$(OUT)" || { echo "expected a folder for the results. Run: make device-check OUT=FOLDER"; exit 1; }
	$(BIN)/python -m tests.device_check "$(OUT)" $(ARGS)

# Nothing new is begun after 60 minutes; the seed is printed. docs/RELIABILITY.md says what each part promises.
soak: $(VENV)/installed-test
	$(BIN)/python -m tests.soak $(ARGS)

# One seed and one thread each: about 70 seconds of one core.
verify: $(VENV)/installed
	@set -e; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	for recipe in linear-regression logistic glyphs-5way-1shot; do \
	  $(BIN)/mamlcli recipes verify $$recipe --seeds 1 --dir "$$folder/$$recipe" execution.threads=1; \
	done

same-bits: $(VENV)/installed-test
	$(BIN)/python tests/helpers/same_bits.py "$(OLD)"

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/installed
	$(BIN)/python -m mamlcli.recipe.reference docs/recipes.md
	$(BIN)/python -m mamlcli.recipe.json_schema recipes/recipe.schema.json
	$(BIN)/python -m tests.helpers.layouts docs/data.md
	$(BIN)/python -m tests.helpers.house_map CONTRIBUTING.md

dist: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build twine
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m tests.helpers.distribution dist
	@echo "To publish: $(BIN)/python -m twine upload dist/*"

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
