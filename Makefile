# make train | demo | test | test-all | lint | lock | clean. The first call sets up .venv; see BUILD.md.
#
# make train ARGS='--model=compact'     more flags for the command
# make setup PYTHON=python3.12          another Python

# The first supported Python. TensorFlow's dependencies have no wheels for Python 3.14 yet.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
    $$name -c '$(FITS)' >/dev/null 2>&1 && echo $$name && exit; done; echo python3)
BIN := .venv/bin
STAMP := .venv/.set-up
OURS := .venv/.made-by-make
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-compile

.PHONY: help setup train demo test test-all lint lock clean

help:
	@echo "make setup     install everything into .venv (once)"
	@echo "make train     train the default model: python -m trainer.main --epochs=13; more flags with ARGS='--model=compact'"
	@echo "make demo      serve the newest finished run as a page; more flags with ARGS='--share'"
	@echo "make test      run the fast tests"
	@echo "make test-all  run all tests"
	@echo "make lint      check format, style, imports and types"
	@echo "make lock      pin the newest versions of everything in requirements.lock"
	@echo "make clean     remove .venv and caches; runs/ stays"

setup: $(STAMP)

# The stamp is written last, so an interrupted set-up is repeated. Bytecode is compiled here on all
# cores: pip would use one, and without bytecode each start of TensorFlow takes 20 seconds. Packages
# hold sources for other Pythons that do not compile, hence `|| true`.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c '$(FITS)' 2>/dev/null || \
	    { echo "error: Python 3.11, 3.12 or 3.13 is needed; install one, and name it: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "error: Python's venv module is missing; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@test ! -e .venv || test -e $(OURS) || \
	    { echo "error: .venv was not made by make; move it away, or remove it with: make clean" >&2; exit 1; }
	@rm -rf .venv && mkdir .venv && touch $(OURS)
	@echo "setting up .venv, once; this takes about two minutes"
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	@echo "compiling bytecode"
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests/' .venv/lib || true
	@touch $@

train: $(STAMP)
	$(BIN)/python -m trainer.main --epochs=13 $(ARGS)

demo: $(STAMP)
	$(BIN)/python -m demo.app $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not browser" $(ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

lock: $(STAMP)
	$(PIP) --quiet uv
	$(BIN)/python -m uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links -o requirements.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache build *.egg-info
