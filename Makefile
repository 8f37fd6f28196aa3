# The developer's menu. `make test` is all that CI runs.

PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
ARGS ?=

.PHONY: help setup test lint format demo bench images clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  ARGS="..." is passed on to pytest or the demo.'
	@echo '  COMFYUI_PATH and COMFYUI_PYTHON name an installed ComfyUI to use instead of a downloaded one.'

setup: ## make .venv and .host/ComfyUI (2 minutes, 6 GB; nothing to do the second time)
	@$(PYTHON) tools/host.py setup

test: lint ## all checks: ruff, pyright, pytest
	$(BIN)/pytest $(ARGS)

lint: setup ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: setup ## ComfyUI without and with the plugin, side by side
	$(BIN)/python -m bench.demo $(ARGS)

bench: setup ## cold starts six ways: the figures of docs/performance.md (half an hour; keep the machine idle)
	$(BIN)/python -m bench.coldstart --size small --size sd15 $(ARGS)

images: setup ## build and run the container images (root, buildah and debootstrap; 6 to 12 minutes, 40 GB)
	PRELOAD_TEST_IMAGES=1 $(BIN)/pytest tests/deploy/test_images.py -o log_cli=true -o log_cli_level=INFO $(ARGS)

clean: ## remove what tests and tools made; .venv and .host stay
	find . -path ./.venv -prune -o -path ./.host -prune -o -type d -name __pycache__ -exec rm -rf {} +
	rm -rf .pytest_cache .ruff_cache .hypothesis .coverage bench/out dist
