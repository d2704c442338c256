# `make demo` and `make test` set themselves up; the second run is quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out

.PHONY: demo test bench soak lint clean help docs notebooks figures tables

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

# One stamp a set of dependencies: reinstalls only when pyproject.toml or constraints.txt change.
$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

demo: $(VENV)/.core  ## a film that glides from one picture into another
	@mkdir -p $(OUT)
	$(BIN)/ddim-interp morph examples/images/apple.png examples/images/pear.png -o $(OUT)/morph.mp4 \
		--frames 32 --fps 16 --overwrite
	@echo "The film is at $(OUT)/morph.mp4"

test: $(VENV)/.test  ## every test that belongs to a push
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "not slow"

notebooks: $(VENV)/.test  ## runs the notebooks again and keeps their outputs
	$(BIN)/python notebooks/execute.py
	$(BIN)/python docs/write_figures.py

figures: notebooks  ## every picture of the README and the documentation, anew
	$(BIN)/python docs/write_showcase.py

tables: $(VENV)/.test  ## what is measured of round trips, anew, in the README and docs/fidelity.md
	$(BIN)/python docs/write_fidelity.py

$(VENV)/.docs: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

docs: $(VENV)/.docs  ## the documentation, in site/
	$(BIN)/python docs/write_cli.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

soak: $(VENV)/.test  ## breaks runs by the thousand, for an hour or so; SOAK="--only R6 --minutes 5"
	$(BIN)/python tests/soak.py $(SOAK)

$(VENV)/.bench: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	touch $@

bench: $(VENV)/.bench  ## measures speed beside diffusers and writes docs/speed.md; half an hour
	$(BIN)/python docs/write_speed.py

lint: $(VENV)/.test  ## ruff and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## removes the environment and everything made
	rm -rf $(VENV) $(OUT) site .pytest_cache .mypy_cache .ruff_cache
