# Everything by one name each. `make help` lists them; `make demo` shows the thing at work on a fresh machine.

PYTHON ?= python3
JOBS ?= 2
DEBIAN_PACKAGES ?= bash bc busybox-static bzip2 coreutils dash diffutils file findutils gawk gcc git grep gzip jq \
	libc6-dev lua5.4 make mawk netcat-openbsd openssl perl python3 sed sqlite3 tar tcl vim-tiny xz-utils zstd
BENCH ?= @all
STAGES ?=

VENV := .venv
RUN := $(VENV)/bin/python
DEBIAN := .cache/debian-riscv64
# What tests compare with, or run us under: other translators, tools that build for riscv64, builders that take a runner.
PEERS := qemu-user qemu-system-misc strace gcc g++ libc6-dev device-tree-compiler gcc-riscv64-linux-gnu \
	g++-riscv64-linux-gnu libc6-dev-riscv64-cross cmake meson ninja-build lz4 lzop zstd node-jsdom

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help demo test test-long test-outside lint bench bench-stages lab-book docs peers debian-guests clean

help: ## this list
	@echo "make TARGET [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):[^#]*## */\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf '  %-14s %s\n' "$$name" "$$text"; done

# --- set-up: a virtual environment, never the system's own packages ---------------------------------------------------

INSTALL = $(RUN) -m pip install --disable-pip-version-check --progress-bar off
# Modules are compiled now: where PYTHONDONTWRITEBYTECODE is set, every start would compile them anew, in 70 ms.
COMPILE = $(RUN) -m compileall -q dragoman.py ir guests dbt
PROGRESS = sed -un -e 's/^Collecting \([^ ]*\).*/  getting \1/p' -e 's/^\(Installing collected packages\).*/  installing/p'

ENOUGH = -c 'import sys; sys.exit(sys.version_info < (3, 11))'
CHOOSE = say which one to use, as in: make demo PYTHON=python3.12

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "dragoman needs Python 3.11 or later, and there is no $(PYTHON) here: $(CHOOSE)" >&2; exit 1; }
	@$(PYTHON) $(ENOUGH) || { \
		echo "dragoman needs Python 3.11 or later, and $(PYTHON) is $$($(PYTHON) -V 2>&1 | sed -n 1p): $(CHOOSE)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments:" \
		"install its venv module (on Debian and Ubuntu the package python3-venv)" >&2; exit 1; }
	@if ! $(RUN) $(ENOUGH) 2>/dev/null || ! $(RUN) -m pip --version >/dev/null 2>&1; then \
		echo "== Making the virtual environment $(VENV) with $$($(PYTHON) -V)"; \
		$(PYTHON) -m venv --clear $(VENV); fi
	@touch $@

$(VENV)/.base: pyproject.toml $(VENV)/.python
	@echo "== Installing Dragoman into $(VENV)"
	@$(INSTALL) -e . | $(PROGRESS)
	@$(COMPILE)
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.python
	@echo "== Installing Dragoman and what its tests need into $(VENV): about a minute"
	@$(INSTALL) -e '.[test]' | $(PROGRESS)
	@$(COMPILE)
	@touch $(VENV)/.base $@

# --- what it is for ---------------------------------------------------------------------------------------------------

SHOW = show() { printf '\n$$ dragoman %s\n' "$$*"; $(VENV)/bin/dragoman "$$@"; }; show

demo: $(VENV)/.base ## set up, then run RISC-V programs and check the translator against the interpreter
	@echo
	@echo "== A RISC-V Linux program, translated to x86-64 code while it runs."
	@$(SHOW) run @hello from RISC-V
	@echo
	@echo "== Each program twice, in the reference interpreter and in the translator: output, status, instructions,"
	@echo "== blocks and registers must be equal, bit for bit. Integers, then floating point, then recursive parsing."
	@$(SHOW) compare @sieve small
	@$(SHOW) compare @nbody small
	@$(SHOW) compare @json small
	@echo
	@echo "== Billions of instructions, at full speed. The statistics tell what was translated and what it cost."
	@$(SHOW) run --stats @queens large 2>&1
	@echo
	@echo "== A machine: a small kernel of our own, from reset to its shell and off again, in the reference interpreter."
	@printf '%s\n' 'echo hello from a process' 'primes 1000' 'fault load' shutdown | \
		{ $(SHOW) boot --deterministic -m 32 -kernel @kernel; }
	@echo
	@echo "All equal. More programs: $(VENV)/bin/dragoman info --programs    All commands: $(VENV)/bin/dragoman --help"

test: $(VENV)/.test lint ## lint and all tests but the long ones (half an hour on 2 cores)
	$(RUN) -m pytest -m "not long" -n $(JOBS) --dist worksteal

test-long: $(VENV)/.test lint ## all tests, and ten times as many random cases (hours)
	DRAGOMAN_TEST_SCALE=10 $(RUN) -m pytest -n $(JOBS) --dist worksteal --timeout 10800

test-outside: $(VENV)/.test ## from outside the tree: RISCV_TESTS=DIR, RISCV_ARCH_TEST=DIR, XV6=DIR (made), LINUX=FILE
	RISCV_TESTS=$(RISCV_TESTS) RISCV_ARCH_TEST=$(RISCV_ARCH_TEST) XV6=$(XV6) LINUX=$(LINUX) \
		$(RUN) -m pytest tests/dbt/test_outside*.py -rs -s

lint: $(VENV)/.test ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m mypy

bench: $(VENV)/.test ## speed against qemu-riscv64, native code and the interpreter; BENCH="--runs=3 @sieve" narrows it
	$(RUN) -m dragoman bench $(BENCH)

bench-stages: $(VENV)/.test ## speed of the translator's parts; STAGES="-k sensitive --benchmark-json=FILE" is for pytest
	$(RUN) -m pytest bench --benchmark-only --benchmark-columns=median,iqr,rounds --benchmark-sort=name \
		--benchmark-group-by=group $(STAGES)

# --- documents --------------------------------------------------------------------------------------------------------

lab-book: $(VENV)/.test ## run the commands of the lab book, and write what they print now into its pages
	$(RUN) tests/support/book.py

docs: $(VENV)/.test ## build the documents as a site, build/site/index.html; fails on a link that leads nowhere
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# --- what tests compare with ------------------------------------------------------------------------------------------

peers: ## install the Debian packages that tests and benchmarks compare with (needs root or sudo)
	@command -v apt-get >/dev/null || { echo "make peers needs apt-get: with another package manager, install by hand" \
		"what provides $(PEERS)" >&2; exit 1; }
	@missing=; for package in $(PEERS); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || missing+=" $$package"; done; \
	[ -n "$$missing" ] || { echo "installed already: $(PEERS)"; exit 0; }; \
	as_root=(env DEBIAN_FRONTEND=noninteractive); \
	if [ "$$(id -u)" != 0 ]; then \
		command -v sudo >/dev/null || { echo "run this as root: apt-get install$$missing" >&2; exit 1; }; \
		as_root=(sudo "$${as_root[@]}"); fi; \
	"$${as_root[@]}" apt-get install --yes --no-install-recommends $$missing </dev/null || { \
		echo "make peers: apt-get could not install$$missing; if its lists are old, apt-get update helps" >&2; exit 1; }

debian-guests: ## fetch Debian programs for riscv64, which tests run (DEBIAN_PACKAGES="busybox-static ...")
	@tests/fetch_debian.sh $(DEBIAN) $(DEBIAN_PACKAGES)

clean: ## remove what the other targets made, the virtual environment and the fetched programs too
	rm -rf $(VENV) .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
