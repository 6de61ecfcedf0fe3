# What each verb does is in tools/; this file only names the verbs. Variables: PYTHON (the interpreter that .venv is
# made with), ARGS (passed on to pytest, the benchmark or the fuzzer).
PYTHON ?= python3
ARGS ?=
export PYTHON

.PHONY: help setup build run test test-matrix wheel stranger lint debug asan bench bench-micro bench-reload fuzz annotate docs clean
.DEFAULT_GOAL := help

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: ## make .venv with all that building, running and testing needs
	@tools/setup.sh test

build: ## compile the core in place and install the package into .venv as a link
	@tools/build.sh

run: build ## start the demonstration: two origins and the proxy of examples/gateway.py in front
	@exec .venv/bin/python -m pingora.cli.demo $(ARGS)

test: ## run the whole test suite (ARGS="-k head tests/unit" for a part)
	@tools/test.sh $(ARGS)

test-matrix: ## build the wheel and run the suite on every Python from 3.11 on that is found
	@tools/matrix.sh $(ARGS)

wheel: ## build the wheel, repair it, and run the suite with it in a clean environment (ARGS=none: no suite)
	@tools/wheel.sh $(ARGS)

stranger: ## follow the tutorial and the README as written, with the wheel in a clean environment (ARGS=FILE.whl)
	@tools/stranger.sh $(ARGS)

lint: ## ruff, mypy, pyright, stubtest, cython-lint and our own rules
	@tools/lint.sh

debug: ## run the suite on a build with Cython's checks on, in build/debug
	@tools/variant.sh debug $(ARGS)

asan: ## run the suite on a build with AddressSanitizer and UBSan, in build/asan
	@tools/variant.sh asan $(ARGS)

bench: ## compare the proxy with nginx, HAProxy and a relay in C (50 minutes)
	@tools/setup.sh test bench && tools/build.sh && tools/profiled.sh && PYTHONPATH=$(CURDIR)/build/profiled/src exec .venv/bin/python -m benches.side_by_side $(ARGS)

bench-micro: ## measure parts of the core with pytest-benchmark
	@tools/setup.sh test && tools/build.sh && exec .venv/bin/python -m pytest benches --benchmark-only $(ARGS)

bench-reload: ## count what clients lose in reloads, upgrades and crashes (ARGS="--scale 0.1" for a tenth)
	@tools/setup.sh test && tools/build.sh && exec .venv/bin/python benches/reload.py $(ARGS)

fuzz: ## fuzz the decoders, HTTP/2, the whole connection and TLS, 60 seconds each
	@tools/setup.sh test fuzz && exec tests/fuzz/run.sh $(ARGS)

annotate: ## write Cython's annotated sources to build/annotate
	@tools/setup.sh && exec .venv/bin/python tools/annotate.py

docs: ## check the links between the documents, then build them and the reference as a site into build/site
	@$(PYTHON) tools/docs.py && tools/setup.sh docs && tools/build.sh && NO_MKDOCS_2_WARNING=1 exec .venv/bin/python -m mkdocs build --strict

clean: ## remove everything built; .venv stays
	@tools/clean.sh
