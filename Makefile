# Everything starts from here; each target sets up what it needs (tests/setup).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-fast test-vm test-fleet bench soak runtimes lint proto deb wheel clean

# Debian's own interpreter, whatever else is in PATH.
PYTHON := $(shell command -v /usr/bin/python3 || echo python3)
PACKAGES := tests/setup/host-packages
# Made by the first target that needs them.
TOOLS = tools=$$(tests/setup/host-tools)
ROOT = [ "$$(id -u)" = 0 ] || { echo "make $@: needs root, to boot machines" >&2; exit 1; }
CODE := joblet_agent rnx tests proto docs

help: ## show this
	@sed -nE 's/^([a-z-]+):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## start an agent under a real systemd, run a job, show its output
	@$(ROOT)
	@$(PACKAGES) machines deb
	@$(PYTHON) -m tests.runs.demo

test: ## everything CI runs: checks, tests, machines of each release, virtual machine
	@$(ROOT)
	@$(PACKAGES) tools deb machines vm fleet images
	@$(PYTHON) -m tests.runs.suite

test-all: ## the same, with every test on both releases: twice the time
	@$(ROOT)
	@$(PACKAGES) tools deb machines vm fleet images
	@$(PYTHON) -m tests.runs.suite --all

test-fast: proto ## tests that need no systemd and no root
	@$(TOOLS); "$$tools/python" -m pytest -m "not systemd and not testbed and not vm and not compat" tests/unit tests/contract tests/testbed

test-vm: deb ## tests in a virtual machine: limits, reboots, upgrades
	@$(ROOT)
	@$(PACKAGES) machines vm
	@$(TOOLS); "$$tools/python" -m pytest -m vm tests/vm

test-fleet: deb ## ten machines that Ansible manages: install, upgrade, configure
	@$(ROOT)
	@$(PACKAGES) machines fleet
	@$(TOOLS); "$$tools/python" -m pytest -m fleet tests/fleet

bench: ## measure in a native container; results in dist/bench
	@$(ROOT)
	@$(PACKAGES) machines deb
	@$(PYTHON) -m tests.runs.bench

soak: ## attacks at their full size: hours, and 40 GB of disk; SOAK='-k r11' for some
	@$(ROOT)
	@$(PACKAGES) machines deb
	@$(PYTHON) -m tests.runs.soak $(SOAK)

runtimes: ## build every runtime that ships, on both releases, and use it; RUNTIMES='go-1.24' for some. An hour
	@$(ROOT)
	@$(PACKAGES) machines deb
	@$(PYTHON) -m tests.runs.runtimes $(RUNTIMES)

MINUTES := 10
fuzz: ## nonsense to the network listener, in a container; MINUTES=10
	@$(ROOT)
	@$(PACKAGES) machines deb
	@$(PYTHON) -m tests.runs.fuzz --minutes $(MINUTES)

lint: proto ## format, lint, types, import rules
	@$(TOOLS); \
	"$$tools/ruff" format --check $(CODE); \
	"$$tools/ruff" check $(CODE); \
	"$$tools/mypy" $(CODE); \
	for system in win32 darwin; do "$$tools/mypy" --platform $$system --cache-dir .mypy_cache/$$system rnx; done; \
	"$$tools/lint-imports"; \
	cd docs/examples/ansible && ANSIBLE_HOME="$$tools/../ansible" PATH="$$tools:$$PATH" ansible-lint -q --offline --profile=production

proto: ## generate joblet_agent/pb from proto/joblet.proto
	@$(PACKAGES) tools
	@$(PYTHON) proto/generate.py >/dev/null

deb: ## build the packages into dist/, in a clean Debian 12
	@$(ROOT)
	@$(PACKAGES) deb
	@debian/build-packages

wheel: deb ## build wheel and sdist into dist/, for pip
	@$(PYTHON) -m tests.testbed.building --pip dist

clean: ## remove what was built in the checkout, and what dead machines left
	rm -rf build dist joblet_agent/pb .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	@[ "$$(id -u)" != 0 ] || $(PYTHON) -m tests.testbed reap
