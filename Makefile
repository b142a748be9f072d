PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
FAST := not slow and not model and not data and not dcmtk and not orthanc and not browser and not fault and not gpu
# File by file side by side: most wait more than they compute. Ray takes all processors for itself, and runs alone
SPREAD := -n auto --maxprocesses 4 --dist loadfile
# The queue, leases, crashes, outbox and invariants, a second time on PostgreSQL
ON_BOTH := tests/storage $(addprefix tests/faults/test_,kills.py locked.py rebuilt.py supervisor.py suspended.py)

.DEFAULT_GOAL := help
.PHONY: help demo test check lint bench soak wheel sbom image clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/.demo: .venv/bin/python pyproject.toml
	@echo "Installing (a few minutes the first time; TensorFlow is large) ..."
	$(BIN)/python -m pip install --quiet --editable '.[cpu,demo]'
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml
	@echo "Installing with the tools for development ..."
	$(BIN)/python -m pip install --quiet --editable '.[cpu,dev]'
	@touch $@ .venv/.demo

demo: .venv/.demo ## Install, then send a real chest film through a throwaway node and show what comes back
	$(BIN)/overread demo

test: .venv/.dev ## Install, then run every test whose parts are here; the others are skipped with a word
	$(BIN)/python -m pytest $(SPREAD) -m '$(FAST)'
	OVERREAD_TEST_DATABASE=postgresql $(BIN)/python -m pytest $(SPREAD) $(ON_BOTH)
	$(BIN)/python -m pytest $(SPREAD) -m 'not ($(FAST))' --ignore tests/engines
	$(BIN)/python -m pytest tests/engines

check: lint ## The quick round: format, lint, types, layers, fast tests
	$(BIN)/python -m pytest -q $(SPREAD) -m '$(FAST)'

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev ## Measure everything, side by side with others where there are any (an hour; 15 GB of disk)
	$(BIN)/python -m pip install --quiet --editable '.[cpu,dev,bench]'
	$(BIN)/python -m tests.bench

MINUTES ?= 30
soak: .venv/.dev ## Run a node under load and kills for MINUTES=30, and count what comes back
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

wheel: .venv/.dev ## Build the wheel
	$(BIN)/python -m build --wheel

sbom: .venv/.dev ## List every component of the locked installations, in dist/ (CycloneDX)
	mkdir -p dist
	for variant in cpu gpu; do $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--output-file dist/overread-$$variant.cdx.json config/deploy/$$variant.lock; done

image: ## Build the GPU image
	docker build --file Dockerfile.gpu --tag overread:gpu .

clean: ## Remove what was built, and the virtual environment
	rm -rf .venv dist build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
