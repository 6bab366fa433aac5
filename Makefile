# A handful of words; a bare `make` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help setup demo test test-team test-team-life check lock clean image image-context sbom provenance audit \
	ci-model bench-serving bench-rollout bench-hostile bench-monitors bench-engines

help: ## list the words
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## .venv with the locked packages (the other words do it, too)

demo: $(READY) ## stack up, and one whole life of a model, to a chart
	@$(BIN)/evergreen demo

PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

test: $(READY) ## everything that must hold on one machine
	@$(PYTEST) -n 3 -m "not team"

test-team: $(READY) ## what hosts share, with PostgreSQL and S3
	@$(PYTEST) -n 2 -m team

test-team-life: $(READY) ## a model's whole life, and every way of a release, in team mode
	@EVERGREEN_TEST_TEAM=on $(PYTEST) -n 2 tests/e2e/test_e2e_cycle.py tests/e2e/test_e2e_release.py

check: $(READY) ## format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench-serving: $(READY) ## the endpoint beside mlflow, FastAPI and BentoML; writes docs/serving.md (wrk is needed)
	@$(BIN)/python -m tests.bench.serving.bench_serving --write docs/serving.md

bench-rollout: $(READY) ## releases, rollbacks and kills under load; counts lost requests
	@$(BIN)/python -m tests.bench.serving.bench_rollout

bench-hostile: $(READY) ## 20,000 hostile requests through the gateway: no 5xx, every body JSON
	@$(BIN)/python -m tests.bench.serving.bench_hostile

bench-monitors: $(READY) ## faults put into resampled weeks: found, by what, and false alarms
	@$(BIN)/python -m tests.bench.bench_monitors

bench-engines: $(READY) ## training on 1 to 100 years in memory, from files and by Dask, beside pandas
	@$(BIN)/python -m tests.bench.bench_engines

lock: $(READY) ## requirements.lock from pyproject.toml
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements.lock
	@$(BIN)/python -c "from bento.package import REQUIREMENTS as r; print(*r, 'uvloop; sys_platform != \"win32\"', sep='\n')" \
		| $(BIN)/uv pip compile - -c requirements.lock --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet -o deploy/image/serving.lock
	@printf '%s\n' prefect-kubernetes kubernetes-asyncio kopf iso8601 tenacity \
		| $(BIN)/uv pip compile - -c requirements.lock --no-deps --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet -o deploy/image/cluster.lock

BASE ?= main

ci-model: $(READY) ## what a change does to the model, against BASE=main: var/ci/report.md; 3 if gates refuse
	@$(BIN)/python -m flows.proposal --base "$(BASE)" --out var/ci

CONTEXT ?= var/image
IMAGE ?= evergreen-service

image: image-context ## one packed version as an image: BENTO=var/bentos/packages/NAME.bento (docker is needed)
	@docker build --file deploy/image/service.Dockerfile --tag $(IMAGE) $(CONTEXT)

image-context:
	@if [ ! -f "$(BENTO)" ]; then \
		echo "error: name what is packed: make image BENTO=var/bentos/packages/NAME.bento" >&2; exit 1; fi
	@rm -rf "$(CONTEXT)/bento" && mkdir -p "$(CONTEXT)/bento"
	@tar -xf "$(BENTO)" -C "$(CONTEXT)/bento" && cp deploy/image/serving.lock "$(CONTEXT)/"

sbom: $(READY) ## CycloneDX lists of all packages and of the image's, in var/supply
	@$(BIN)/python deploy/image/supply.py sbom requirements.lock var/supply/evergreen.cdx.json
	@$(BIN)/python deploy/image/supply.py sbom deploy/image/serving.lock var/supply/service.cdx.json

provenance: $(READY) ## which bytes of var/supply come from which commit, as an in-toto statement
	@$(BIN)/python deploy/image/supply.py provenance var/supply/provenance.json \
		$$(find var/supply -type f ! -name provenance.json | sort)

audit: $(READY) ## known flaws of every locked package; fails, too, if one could not be asked for
	@$(BIN)/python deploy/image/supply.py audit requirements.lock

clean: $(READY) ## stop the stack, delete all state and data; .venv stays
	@$(BIN)/evergreen clean

# What was whole is brought up to date in place: whatever runs from it keeps the packages that stay.
# uv comes first, with its hash from the same lock.
$(READY): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "error: Python 3.11, 3.12 or 3.13 is needed; install one, or: make PYTHON=/path/to/python" >&2; exit 1; fi
	@echo "setting up .venv with $$($(PYTHON) --version) and the locked packages"
	@[ -e $@ ] && [ "$$($(BIN)/python --version 2>/dev/null)" = "$$($(PYTHON) --version)" ] \
		|| $(PYTHON) -m venv --clear .venv
	@awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock
	@$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
