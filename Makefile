# `make help` lists the targets. Only sh, make and Python 3.11 or newer are needed; each target sets up what it uses.

VENV    := .venv
BIN     := $(VENV)/bin
LOWEST  := .venv-lowest
SLOW    := .venv-slow
BENCH   := .venv-bench
DOCS    := .venv-docs
PYTHON  ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PYTHONS ?= python3.11 python3.12 python3.13 python3.14
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# What these tests need is no dependency, or is newer than the lowest versions.
NEEDS_NEWER := $(addprefix tests/core/http/test_,interrupts.py tools.py) $(addprefix tests/langchain/test_,agents_and_chains.py \
	decisions.py images.py middleware.py options.py standard.py structured_output.py)
PYTEST  := -m pytest -n auto --dist worksteal
# Passed on as they were typed: make would expand a dollar sign in them.
override IMAGE := $(value IMAGE)
override QUESTION := $(value QUESTION)
export IMAGE QUESTION

.PHONY: help demo check lint test test-slow test-marked-slow test-lowest test-pythons test-live bench docs build clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help: ## list the targets
	@echo "Durations are for two cores and include setting up on the first run."
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /	/' | expand -t 16

demo: $(VENV)/demo.done ## 2 min    ask a vision model about a photo through both frameworks; IMAGE=my.jpg QUESTION="..."
	@"$(BIN)/python" notebooks/demo.py "$$IMAGE" "$$QUESTION"

test: lint ## 5 min    lint, types and the tests of everything, notebooks included
	"$(BIN)/python" $(PYTEST)

test-slow: test-marked-slow test-lowest ## 15 min   the rest: faults, endurance, Ray, packaging, lowest versions

check: $(VENV)/test.done ## 1 min    format, lint, types and the tests of the packages that changed
	"$(BIN)/ruff" format .
	"$(BIN)/ruff" check --fix .
	"$(BIN)/mypy"
	@tests=$$({ git status --porcelain --untracked-files=all | cut -c4-; git diff --name-only '@{upstream}...' 2>/dev/null; } | sed -nE '\
		s,^(predictionguard_core|tests)/sandbox/.*,tests/sandbox,p; t; \
		s,^(predictionguard_core|tests/core)/(images|http)/.*,tests/core/\2,p; t; \
		s,^(predictionguard_core|tests/core)/.*,tests/core/test_*.py,p; t; \
		s,^langchain_predictionguard/.*,tests/langchain,p; t; \
		s,^llama_index_predictionguard/.*,tests/llama_index,p; t; \
		s,^(tests/[a-z_]+)/.*,\1,p' | sort -u); \
	"$(BIN)/python" $(PYTEST) $$tests tests/test_architecture.py

lint: $(VENV)/test.done ## 1 min    formatter, linter, type checker
	"$(BIN)/ruff" format --check .
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"

test-marked-slow: $(SLOW)/test.done ## 10 min   only the tests that are marked slow
	"$(SLOW)/bin/python" $(PYTEST) -m slow

test-lowest: $(LOWEST)/test.done ## 2 min    core and adapters on the lowest versions that pyproject.toml allows
	@if [ -x "$(LOWEST)/bin/python" ]; then echo "On the lowest versions that pyproject.toml allows:"; \
		"$(LOWEST)/bin/python" $(PYTEST) -W ignore tests/core tests/langchain tests/llama_index $(NEEDS_NEWER:%=--ignore %); fi

test-pythons: ## 4 min    core, adapters and sandbox on every supported Python found; PYTHONS="python3.12 /path/to/python3.13"
	@own=$$("$(BIN)/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); \
	for python in $(PYTHONS); do \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
		[ "$$version" != "$$own" ] || continue; \
		echo "On Python $$version:"; home=".venv-$$version"; \
		{ [ -x "$$home/bin/python" ] || "$$python" -m venv "$$home"; } && \
		"$$home/bin/python" -m pip install --quiet --upgrade "pip>=25.1" && \
		"$$home/bin/python" -m pip install --quiet --editable ".[all]" --group test && \
		"$$home/bin/python" $(PYTEST) tests/core tests/langchain tests/llama_index tests/sandbox || exit 1; \
	done

test-live: $(VENV)/test.done ## asks the real service about every feature; needs PREDICTIONGUARD_API_KEY
	"$(BIN)/python" -m pytest tests/live -rs

bench: $(BENCH)/bench.done ## 20 min   measure this project beside its rivals; QUICK=1 takes a minute
	"$(BENCH)/bin/python" -m tests.benchmarks $(if $(QUICK),--quick) $(ARGS)

docs: $(DOCS)/docs.done ## 3 min    build the documentation into site/, with every link checked
	@NO_MKDOCS_2_WARNING=1 "$(DOCS)/bin/mkdocs" build --strict --quiet

build: $(SLOW)/test.done ## build the wheel and the source distribution into dist/, and check them
	rm -rf dist
	"$(SLOW)/bin/python" -m build --outdir dist .
	"$(SLOW)/bin/python" -m twine check --strict dist/*

$(VENV)/demo.done: $(BIN)/python pyproject.toml
	"$(BIN)/pip" install --quiet --editable ".[all]"
	@touch $@

$(VENV)/test.done: $(BIN)/python pyproject.toml
	"$(BIN)/pip" install --quiet --editable ".[all]" --group test --group lint
	@touch $@ $(VENV)/demo.done

$(SLOW)/test.done: $(BIN)/python pyproject.toml
	"$(BIN)/python" -m venv --clear "$(SLOW)"
	"$(SLOW)/bin/pip" install --quiet --upgrade "pip>=25.1"
	"$(SLOW)/bin/pip" install --quiet --editable ".[all]" --group slow
	@touch $@

# The rivals stay out of the environment that the tests run in.
$(BENCH)/bench.done: $(BIN)/python pyproject.toml
	"$(BIN)/python" -m venv --clear "$(BENCH)"
	"$(BENCH)/bin/pip" install --quiet --upgrade "pip>=25.1"
	"$(BENCH)/bin/pip" install --quiet --editable ".[all]" --group bench
	@touch $@

$(DOCS)/docs.done: $(BIN)/python pyproject.toml
	"$(BIN)/python" -m venv --clear "$(DOCS)"
	"$(DOCS)/bin/pip" install --quiet --upgrade "pip>=25.1"
	"$(DOCS)/bin/pip" install --quiet --editable ".[all]" --group docs
	@touch $@

# Without LangChain's agents and test suites, which need newer versions. Python 3.14 has no wheels of the lowest versions.
$(LOWEST)/test.done: $(BIN)/python pyproject.toml tests/lowest_versions.py
	@rm -rf "$(LOWEST)" && mkdir "$(LOWEST)"
	@if "$(BIN)/python" -c 'import sys; sys.exit(sys.version_info >= (3, 14))'; then \
		"$(BIN)/python" -m venv "$(LOWEST)" && "$(LOWEST)/bin/pip" install --quiet --upgrade "pip>=25.1" && \
		versions=$$("$(BIN)/python" -m tests.lowest_versions) && \
		"$(LOWEST)/bin/pip" install --quiet --editable . $$versions --group lowest; \
	else echo "test-lowest is skipped: Python 3.14 has no wheels of the lowest versions"; fi
	@touch $@

# Debian ships Python without venv; its package python3-venv adds it.
$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; on Debian: apt-get install python3 python3-venv"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's venv module is missing: installing Debian's python3-venv"; \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -q -y python3-venv; }
	"$(PYTHON)" -m venv --clear "$(VENV)"
	"$(BIN)/pip" install --quiet --upgrade "pip>=25.1" # the first with --group

clean: ## remove everything that the other targets made
	rm -rf "$(VENV)" "$(LOWEST)" "$(SLOW)" "$(BENCH)" "$(DOCS)" .venv-3.* site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
