# make demo    sets up and asks a vision model about a photograph, through both frameworks
# make test    sets up and runs all tests, notebooks included, on the newest versions and on the lowest
# make bench   sets up the rivals beside this, and measures all; make bench QUICK=1 takes less than a minute
# make lint    the formatter, the linter and the type checker
# make clean   removes what the others made
#
# make test-live      asks the real service about every feature, where PREDICTIONGUARD_API_KEY is set
# make test-pythons   the tests of the core and of both wings on each Python that is found here
# make test-pythons PYTHONS="python3.12 /path/to/python3.13"   or on these
#
# make demo IMAGE=my-photo.jpg QUESTION="What is this?"   your own (or an address); with a key, at the real service

VENV   := .venv
BIN    := $(VENV)/bin
LOWEST := .venv-lowest
BENCH  := .venv-bench
PYTHONS ?= python3.11 python3.12 python3.13
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# As they were given: make would take a dollar in them for its own.
override IMAGE := $(value IMAGE)
override QUESTION := $(value QUESTION)
export IMAGE QUESTION

.PHONY: demo test test-lowest test-pythons test-live bench lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/demo.done
	@"$(BIN)/python" notebooks/demo.py "$$IMAGE" "$$QUESTION"

test: lint
	"$(BIN)/python" -m pytest
	@# The lowest versions have no wheels for Pythons that are younger than they are.
	@if "$(BIN)/python" -c 'import sys; sys.exit(sys.version_info >= (3, 14))'; then $(MAKE) test-lowest; fi

test-lowest: $(LOWEST)/test.done
	@echo "Once more, on the lowest versions that pyproject.toml allows:"
	"$(LOWEST)/bin/python" -m pytest -W ignore tests/core tests/langchain tests/llama_index \
		--ignore tests/langchain/test_standard.py --ignore tests/langchain/test_chains.py

bench: $(BENCH)/bench.done
	"$(BENCH)/bin/python" -m tests.benchmarks $(if $(QUICK),--quick) $(ARGS)

# Those of PYTHONS that are here; a name may stand on PATH and lead nowhere. Each gets an environment of its own.
test-pythons:
	@ran=; for python in $(PYTHONS); do \
		version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
		echo "On Python $$version:"; ran="$$ran $$version"; home=".venv-$$version"; \
		{ [ -x "$$home/bin/python" ] || "$$python" -m venv "$$home"; } && \
		"$$home/bin/python" -m pip install --quiet --upgrade "pip>=25.1" && \
		"$$home/bin/python" -m pip install --quiet --editable ".[all]" --group test && \
		"$$home/bin/python" -m pytest tests/core tests/langchain tests/llama_index tests/sandbox || exit 1; \
	done; [ -n "$$ran" ] || { echo "None of these Pythons is here: $(PYTHONS)"; exit 1; }; echo "All passed on$$ran"

test-live: $(VENV)/test.done
	"$(BIN)/python" -m pytest tests/live -rs

lint: $(VENV)/test.done
	"$(BIN)/ruff" format --check .
	"$(BIN)/ruff" check .
	"$(BIN)/mypy"

$(VENV)/demo.done: $(BIN)/python pyproject.toml
	"$(BIN)/pip" install --quiet --editable ".[all]"
	@touch $@

$(VENV)/test.done: $(BIN)/python pyproject.toml
	"$(BIN)/pip" install --quiet --editable ".[all]" --group test --group lint
	@touch $@

# The rivals stay out of the environment that the tests run in.
$(BENCH)/bench.done: $(BIN)/python pyproject.toml
	"$(BIN)/python" -m venv --clear "$(BENCH)"
	"$(BENCH)/bin/pip" install --quiet --upgrade "pip>=25.1"
	"$(BENCH)/bin/pip" install --quiet --editable ".[all]" --group bench
	@touch $@

# Without LangChain's agents and its suites of tests, which run on newer versions only.
$(LOWEST)/test.done: $(BIN)/python pyproject.toml tests/lowest.py
	"$(BIN)/python" -m venv --clear "$(LOWEST)"
	"$(LOWEST)/bin/pip" install --quiet --upgrade "pip>=25.1"
	lowest=$$("$(BIN)/python" -m tests.lowest) && "$(LOWEST)/bin/pip" install --quiet --editable . $$lowest pytest pytest-asyncio hypothesis
	@touch $@

# Debian ships Python without what makes virtual environments; its own package python3-venv brings it.
$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or newer is needed; on Debian: apt-get install python3 python3-venv"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's venv is missing: installing Debian's python3-venv"; \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -q -y python3-venv; }
	"$(PYTHON)" -m venv --clear "$(VENV)"
	"$(BIN)/pip" install --quiet --upgrade "pip>=25.1" # the first that knows --group

clean:
	rm -rf "$(VENV)" "$(LOWEST)" "$(BENCH)" .venv-3.* .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
