# Everything runs in .venv, made here by the first target that needs it.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo ray test test-vllm golden lint table bench clean

VENV := .venv
RUN := $(VENV)/bin/python
VLLM := $(VENV)/vllm
READY := $(VENV)/.ready
INSTALL := $(RUN) -m pip install -qq --no-compile --disable-pip-version-check --constraint constraints.txt

# many small matrix products: spinning threads only disturb each other
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_DISABLE_TELEMETRY ?= 1

help:
	@echo "make demo    search a few real problems with the small models that ship with the project"
	@echo "make test    the test suite            (ARGS='-k beam' passes arguments to pytest)"
	@echo "make test-vllm  the tests that start engines of vLLM, in an environment of their own (3 GB)"
	@echo "make ray     installs Ray too, so that its tests are run and not skipped"
	@echo "make golden  writes the small trees of tests/golden again; look at the difference"
	@echo "make lint    ruff and mypy"
	@echo "make table   the searches on 100 hard puzzles of the game of 24, at one limit of tokens (DATA=folder)"
	@echo "make bench   the benchmarks            (NAME=tree for one of them)"
	@echo "make clean   removes .venv and caches; runs/ stays"

# made again only when the dependencies change
$(READY): pyproject.toml constraints.txt
	@python=; for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	    if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$p; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "treewise needs Python 3.11 or newer; none was found on PATH" >&2; exit 1; fi; \
	if [ ! -x $(RUN) ]; then $$python -m venv $(VENV); fi
	@echo "installing into $(VENV) (once; about a minute)"
	@$(INSTALL) --editable '.[dev]'
	@touch $@

$(READY)-ray: $(READY)
	@$(INSTALL) --editable '.[ray]'
	@touch $@

ray: $(READY)-ray

demo: $(READY)
	@$(RUN) -m experiments.solve --multirun experiment=demo task=game24,arithmetic

test: $(READY)
	@$(RUN) -m pytest $(ARGS)

# its pins are not ours, so it has its own environment; every package is listed, and nothing else is installed
$(VLLM)/.ready: constraints-vllm.txt $(READY)
	@if [ ! -x $(VLLM)/bin/python ]; then $(RUN) -m venv $(VLLM); fi
	@echo "installing vLLM into $(VLLM) (once; a few minutes)"
	@$(VLLM)/bin/python -m pip install -qq --no-compile --disable-pip-version-check --no-deps --requirement constraints-vllm.txt
	@touch $@

test-vllm: $(VLLM)/.ready
	@OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest -m vllm $(ARGS) tests/vllm

golden: $(READY)
	@GOLDEN=write $(RUN) -m pytest -q tests/golden
	@git diff --stat tests/golden

lint: $(READY)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

# the searches of the README's table, all under the same limit of generated tokens per puzzle
# the numbers of A* were chosen on the puzzles ranked 701 to 900
ASTAR := astar search.expansions=8
TABLE := "greedy" "majority search.n=256 search.parallel=16" "best_of_n search.n=256 search.parallel=16" \
    "best_of_n search.n=32" "beam search.beams=16 search.width=12" "dvts search.beams=16 search.width=12" \
    "$(ASTAR) search.width=4 search.revisit=0.4" \
    "$(ASTAR) search.width=16 search.revisit=0.2 verifier=prm_checked"

table: $(READY)
	@test -n "$(DATA)" || { echo "give DATA=the folder of game24.jsonl" >&2; exit 2; }
	@for search in $(TABLE); do \
	    name=$${search// /-}; \
	    $(RUN) -m experiments.solve experiment=game24_hard search=$$search data="$(DATA)" out="runs/table/$${name//[=.]/-}"; \
	done
	@$(RUN) -m experiments.report runs/table/*

bench: $(READY)
	@$(RUN) -m experiments.bench $(NAME)

clean:
	rm -rf $(VENV) *.egg-info build .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
