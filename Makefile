# The commands of the house; `make` alone lists them.
PYTHON ?= python3
VENV := .venv/bin
export PYTHONPATH := $(CURDIR)/deploy/supervisor$(if $(PYTHONPATH),:$(PYTHONPATH))
UV := $(VENV)/uv pip compile --universal --generate-hashes --python-version 3.10 --quiet --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help run test lint format system-deps lock bench profile clean docker base-image images integration-test cluster cluster-down

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## the chat example in the foreground; REDIS_URL, TRUNKLINE_PORT, TRUNKLINE_BIND are respected
	@$(PYTHON) .ci/prepare.py run
	@$(VENV)/python -m trunkline_supervisor.local

test: ## unit, conformance, integration, example and browser tests; ARGS="-k name" chooses
	@$(PYTHON) .ci/prepare.py test
	@echo "The chat example's own tests"
	@cd examples/chat && CHANNEL_LAYERS_BACKEND=channels.layers.InMemoryChannelLayer ../../$(VENV)/python manage.py test tests
ifeq ($(strip $(ARGS)),)
	@$(VENV)/python -m pytest -m "not matrix"
	@echo "The contract on every server, side by side"
	@$(VENV)/python -m pytest -m matrix -n 4 --dist loadscope tests/conformance
else
	@$(VENV)/python -m pytest $(ARGS)
endif

lint: ## ruff and mypy
	@$(PYTHON) .ci/prepare.py test
	$(VENV)/ruff check
	$(VENV)/ruff format --check
	$(VENV)/mypy

format: ## let ruff rewrite what it can
	@$(PYTHON) .ci/prepare.py test
	$(VENV)/ruff check --fix
	$(VENV)/ruff format

system-deps: ## Debian's packages that tests need: Chromium, Redis, venv (asks for root)
	@$(PYTHON) .ci/prepare.py system

lock: ## resolve the packages anew and write the lock files
	@$(PYTHON) .ci/prepare.py test
	@test -x $(VENV)/uv || $(VENV)/python -m pip install --quiet uv
	$(UV) layer/pyproject.toml --extra server deploy/supervisor/requirements.in -o deploy/supervisor/requirements.txt
	$(UV) layer/pyproject.toml --all-extras tests/requirements.in -c deploy/supervisor/requirements.txt -o tests/requirements.txt
	$(UV) layer/pyproject.toml --extra server deploy/image/requirements.in -c deploy/supervisor/requirements.txt -o deploy/image/requirements.txt
	$(UV) deploy/image/build-requirements.in -c deploy/supervisor/requirements.txt -o deploy/image/build-requirements.txt
	$(UV) examples/chat/requirements.in -c deploy/supervisor/requirements.txt -o examples/chat/requirements.txt
	$(UV) tests/benchmarks/requirements.in -c tests/requirements.txt -o tests/benchmarks/requirements.txt

bench: ## compare with channels_redis, in about six minutes; ARGS="--help" lists the choices
	@$(PYTHON) .ci/prepare.py bench
	@cd tests && ../$(VENV)/python -m benchmarks $(ARGS)

profile: ## where the time of a row goes, as flame graphs; ROW=queue (as root where the kernel asks for it)
	@$(PYTHON) .ci/prepare.py bench
	@cd tests && ../$(VENV)/python -m benchmarks.profile $(ROW) $(ARGS)

docker: ## Docker Engine, Compose and buildx where they are missing, and an engine that answers (as root)
	@$(PYTHON) .ci/docker.py up

base-image: ## the images' base by debootstrap, for where no image registry is reached (as root)
	@$(PYTHON) deploy/image/build.py base

images: ## trunkline, trunkline-example, Redis and nginx for Compose and the chart
	@$(PYTHON) deploy/image/build.py images

integration-test: ## the bundle in real containers; SCENARIO=compose picks one (as root where Docker is missing)
	@$(PYTHON) .ci/prepare.py test
	@$(PYTHON) .ci/docker.py up
	@cd tests && ../$(VENV)/python -m deploy $(SCENARIO)

cluster: ## a real Kubernetes of one node on this machine (as root); the first time it is built, for minutes
	@$(PYTHON) .ci/prepare.py test
	@cd tests && ../$(VENV)/python -m cluster up

cluster-down: ## end that Kubernetes and remove everything that it left
	@$(PYTHON) .ci/prepare.py test
	@cd tests && ../$(VENV)/python -m cluster down

clean: ## remove everything that the commands made, the example's messages too
	@$(PYTHON) .ci/docker.py down
	rm -rf .venv .run .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/chat/data examples/chat/static-root
