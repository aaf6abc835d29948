# `make` alone lists the targets. Each does its own set-up: see tests/bootstrap.sh.

PYTHON ?= python3
RUN := .venv/bin/python
SETUP := PYTHON=$(PYTHON) sh tests/bootstrap.sh
MODULES := masakari hostmonitor instancemonitor processmonitor

.DEFAULT_GOAL := help
.PHONY: help demo test check sim bench test-cloud mariadb libvirt ipmi cluster clients proxies deb system packaging containers clean

help:
	@echo "make TARGET, where TARGET is"
	@sed -n 's/^\([a-z-]*\):.*## /  \1  /p' Makefile | awk '{ printf "  %-11s", $$1; $$1 = ""; print }'

demo: .venv/ready-run ## watch a host die and its instances recover, on a simulated cloud
	@$(RUN) -m tests.demo

# Tests with a cluster wait for its time-outs most of the time; so the others run meanwhile, in two halves of the same length.
PYTEST := $(RUN) -m pytest -q -rfEs --durations=10
test: .venv/ready-test mariadb libvirt ipmi cluster packaging proxies clients ## all tests but the long ones
	@mkdir -p build; \
	( $(PYTEST) -m needs_cluster; cluster=$$?; $(PYTEST) tests/sim && exit $$cluster ) >build/beside.log 2>&1 & beside=$$!; \
	trap "pkill -P $$beside; kill $$beside" INT TERM; \
	$(PYTEST) -m "not needs_cluster" tests/unit tests/contracts tests/integration; status=$$?; \
	echo "-- tests with a cluster, and the simulation"; wait $$beside || status=1; cat build/beside.log; exit $$status

check: .venv/ready-test ## style, types, and the rules who may import what
	@echo "-- ruff"; $(RUN) -m ruff check --output-format concise .
	@echo "-- mypy"; $(RUN) -m mypy $(MODULES) $(wildcard utils/*.py)
	@echo "-- import rules"; $(RUN) -m pytest -q tests/unit/test_imports.py

sim: .venv/ready-test mariadb ## 500 seeds of the simulation, 50 rounds of SIGKILL (SIM_SEEDS, SIM_KILLS)
	@SIM_SEEDS=$${SIM_SEEDS:-500} SIM_KILLS=$${SIM_KILLS:-50} $(RUN) -m pytest -q -rfEs --durations=10 tests/sim

bench: .venv/ready-test mariadb libvirt ipmi cluster ## how fast it recovers, each number against its limit
	@$(RUN) -m tests.bench

test-cloud: .venv/ready-test ## the cloud's contract on a real cloud: OS_* and CLOUD_CTL say which
	@[ -n "$$CLOUD_CTL" ] || { echo "-- CLOUD_CTL must name the command that controls the cloud" \
		"(verbs up, env, boot, kill, start, purge)" >&2; exit 2; }
	@$(RUN) -m pytest -v -rs tests/contracts/test_cloud.py

deb: packaging ## the Debian packages, into build/deb, looked at by lintian
	@rm -rf build/deb
	@./debian/rules binary
	@./debian/rules clean
	@lintian --allow-root --fail-on error,warning build/deb/*.deb
	@ls build/deb/*.deb

system: .venv/ready-test packaging containers ## the packages on a fresh Debian, with systemd and without, in containers; as root
	@$(RUN) -m pytest -q -rfEs --durations=10 tests/system

clean: ## remove the virtual environment and everything made from the sources
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

mariadb:
	@$(SETUP) mariadb

libvirt: .venv/ready-test
	@$(SETUP) libvirt

ipmi:
	@$(SETUP) ipmi

cluster:
	@$(SETUP) cluster

clients:
	@$(SETUP) clients

proxies:
	@$(SETUP) proxies

packaging:
	@$(SETUP) packaging

containers:
	@$(SETUP) containers

.venv/ready-run: setup.py tests/bootstrap.sh
	@$(SETUP) venv run
	@touch $@

# What the tests need includes what the programs need.
.venv/ready-test: setup.py tests/bootstrap.sh
	@$(SETUP) venv test
	@touch .venv/ready-run $@
