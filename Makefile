# Everything from a fresh clone: `make demo`, `make test`. Each builds the environment it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VERSIONS := 3.11 3.12 3.13

.PHONY: help demo test slow lint types picture matrix $(VERSIONS:%=matrix-%) clean

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 12

demo: $(VENV)/.ready ## the main job on the embedded images, and a report of it
	$(BIN)/hmgan demo --outdir demo

# Two workers, each with the tests of whole files: those share what is slow to build.
test: $(VENV)/.ready lint types ## lint, types and the fast tests: what every change must pass
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

slow: $(VENV)/.ready ## the tests of minutes
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.ready ## ruff, and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.ready ## mypy
	$(BIN)/mypy

picture: $(VENV)/.ready ## draws docs/architecture.svg anew
	$(BIN)/python scripts/draw_architecture.py

matrix: $(VERSIONS:%=matrix-%) ## the fast tests under each of these Pythons that is installed: 3.11, 3.12, 3.13

# The constraints name builds of this machine's Python; where they have none for another, it is left out with a line.
$(VERSIONS:%=matrix-%): matrix-%:
	@if ! python$* --version > /dev/null 2>&1; then echo "python$*: left out, not installed"; \
	elif ! (python$* -m venv .venv-$* && .venv-$*/bin/pip install -c constraints.txt -e ".[dev]") > .venv-$*.log 2>&1; \
	then echo "python$*: left out, its environment cannot be built: .venv-$*.log says why"; \
	else echo "python$*:" && .venv-$*/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder; fi

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean: ## the environments away
	rm -rf $(VENV) $(VERSIONS:%=.venv-%) $(VERSIONS:%=.venv-%.log)
