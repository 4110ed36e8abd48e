# `make demo` and `make test` set up their own environment and do everything else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready
EXTRAS ?= test,cv,nlp
export TF_CPP_MIN_LOG_LEVEL ?= 3
# TensorFlow keeps its memory on a processor: a third to a half less time (kerastl_cli/start.py).
export TF_CPU_ALLOCATOR_USE_BFC ?= true
# Processes of `make test`; each needs about 4 GB.
WORKERS ?= 2
# From the page and the house to a tuned device file, by the verbs and by the command line.
QUICK := tests/test_house.py tests/schedules tests/plans tests/tasks tests/data/test_data_table.py \
	tests/recipes/test_tables.py tests/training/test_overridden_steps.py tests/cli/test_cli_lr_find.py

.PHONY: setup demo demo-texts test quick test-slow lint format examples bench constraints clean

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $(READY)

demo: $(READY) demo-texts
	$(VENV)/bin/kerastl demo

demo-texts: $(READY)
	$(VENV)/bin/kerastl demo --texts

test: $(READY) lint
	$(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile

# A tier of a minute or two, for other versions of Python: `make quick PYTHON=python3.13 VENV=.venv-3.13`.
quick: $(READY)
	$(VENV)/bin/python -m pytest $(QUICK)

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -m slow

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/basedpyright

format: $(READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

examples: $(READY)
	$(VENV)/bin/python examples/published_recipe.py
	$(VENV)/bin/python examples/lora_side_by_side.py
	$(VENV)/bin/python examples/distill_glyphs.py

bench: $(READY)
	$(VENV)/bin/python benchmarks/step_overhead.py
	$(VENV)/bin/python benchmarks/frozen_features.py
	$(VENV)/bin/python benchmarks/peak_memory.py

# Writes the versions that are installed now; do so only after the whole suite has passed with them.
constraints: $(READY)
	$(VENV)/bin/python -m pip list --format=freeze --exclude-editable \
		| grep -v -E '^(pip|setuptools|wheel|kerastl)==' > constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache kerastl.egg-info
