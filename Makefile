# make train | test | test-all | lint | lock | clean. The first call sets up .venv; BUILD.md says more.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.set-up

.PHONY: help setup train test test-all lint lock clean

help:
	@echo "make setup     install everything into .venv (once)"
	@echo "make train     train the default model: python -m trainer.main --epochs=13; more flags with ARGS='--model=compact'"
	@echo "make test      run the fast tests"
	@echo "make test-all  run all tests"
	@echo "make lint      check style and the direction of imports"
	@echo "make lock      pin the newest versions of everything in requirements.lock"
	@echo "make clean     remove .venv and caches; runs/ stays"

setup: $(STAMP)

# The stamp comes last, so an interrupted set-up is done again. Bytecode is compiled by hand: pip would use one core, and
# without it each start of TensorFlow takes 20 seconds.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: Python 3.11 or newer is needed; install it, or name one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "error: Python's venv module is missing; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@rm -rf .venv
	@echo "setting up .venv, once; about 3 minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile --no-deps -e .
	@echo "compiling bytecode"
	@$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
	@touch $@

train: $(STAMP)
	$(BIN)/python -m trainer.main --epochs=13 $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not browser" $(ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/lint-imports

lock:
	$(PYTHON) -m pip install --quiet uv
	$(PYTHON) -m uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	    --no-header --no-annotate --no-emit-index-url -o requirements.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
