# `make up` needs Python 3.11 or newer, make and package registries. `make` lists the targets.
# In a shell of `make env`, that shell's environment.
STACK ?= $(or $(notdir $(PULUMI_STACK)),dev)
VENV := .venv
PY := $(VENV)/bin/python
ENGINE := $(wildcard tools/engine/*.py tools/shared/* tools/engine/*/go.mod tools/engine/*/go.sum)
TOOLS := tools/stack.py tools/checkout.py tools/kept.py tools/recovery.py tools/summary.py $(wildcard tools/shared/*.py tools/engine/*.py tools/cluster/*.py tools/images/*.py tools/generate/*.py) tools/bench/run.py
# Tests and benchmarks bring their own state: they get the engine, and nothing of `make env`.
TEST_ENV := PATH="$(CURDIR)/$(VENV)/bin:$(CURDIR)/$(VENV)/engine:$$PATH"
WORKERS ?= 2
PYTEST = $(TEST_ENV) $(VENV)/bin/pytest -n $(WORKERS)
# Images and CI often set it. Without compiled modules every command here takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
# Tools and programs use the modules of .venv only.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP
stack = $(PY) tools/stack.py --stack '$(STACK)'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help up down preview status env doctor cluster cluster-down check test test-kubernetes test-mlflow compare-mlflow lint generate bench clean engine-missing

help: ## list the targets
	@echo "STACK=<environment> picks stacks/Pulumi.<environment>.yaml (default: $(STACK)); ARGS='...' goes to the command"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { gsub(/\$$\$$/, "$$", $$2); printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

up: $(VENV)/.engine ## provision the environment and show where everything is
	@$(stack) up $(if $(ARGS),-- $(ARGS))

preview: $(VENV)/.engine ## show what `make up` would change
	@$(stack) preview $(if $(ARGS),-- $(ARGS))

status: $(VENV)/.engine ## show where everything is
	@$(stack) status

down: $(VENV)/.engine ## delete what the environment provisioned, and say what is kept
	@$(stack) down $(if $(ARGS),-- $(ARGS))

env: $(VENV)/.engine ## settings for a shell: eval "$$(make -s env)"
	@$(stack) env

doctor: $(VENV)/.engine ## check this machine and the environment
	@$(stack) run -- $(VENV)/bin/mlops doctor $(ARGS)

cluster: $(VENV)/.synced ## start a real Kubernetes of one node on this machine (Debian, root)
	@$(PY) tools/cluster/cluster.py up

cluster-down: $(VENV)/.synced ## end that cluster and remove everything of it
	@$(PY) tools/cluster/cluster.py down

check: lint ## lint, types, layers, and the tests that need neither the engine nor a cluster
	$(PYTEST) $(or $(ARGS),-m 'not engine' tests/unit tests/graph tests/contract tests/docs pipelines)

test: lint ## the checks and all tests but those on a cluster
	@tools/chromium.sh
	$(PYTEST) $(ARGS)

test-kubernetes: $(VENV)/.engine ## the tests on a real cluster: that of KUBECONFIG, or one that is started
	@exports=; [ -n "$$KUBECONFIG" ] || exports=$$($(PY) tools/cluster/cluster.py up) || exit 1; eval "$$exports"; \
	PATH="$(CURDIR)/$(VENV)/bin:$(CURDIR)/$(VENV)/engine:$$PATH:$(CURDIR)/.cluster/bin" \
		$(VENV)/bin/pytest -m kubernetes $(or $(ARGS),tests/kubernetes)

test-mlflow: $(VENV)/.engine ## models of MLflow 2.9 to the newest, each served with its stored requirements
	$(TEST_ENV) $(VENV)/bin/pytest -s -m 'engine or mlflow_versions' $(or $(ARGS),tests/mlflow_versions)

# PyTorch alone takes 5 GB, which is why it is not in requirements.lock.
compare-mlflow: COMPARISON := build/mlflow-comparison
compare-mlflow: $(VENV)/.synced ## compare all answers of /invocations with those of MLflow's own server
	$(VENV)/bin/uv venv --quiet --clear --python $(PY) $(COMPARISON)
	$(VENV)/bin/uv pip sync --quiet --require-hashes --python $(COMPARISON)/bin/python requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(COMPARISON)/bin/python torch --editable .
	MLFLOW_COMPARISON_TABLE=$(COMPARISON).md $(COMPARISON)/bin/pytest -q $(or $(ARGS),tests/mlflow_comparison)
	@echo "the table: $(COMPARISON).md"

lint: $(VENV)/.engine ## the checks alone: style, types, layers
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --python-version 3.10 --package pulumi_mlops.runtime.model_server
	$(VENV)/bin/mypy --strict $(TOOLS)
	$(VENV)/bin/mypy --strict tests/kubernetes/provider/standin
	$(VENV)/bin/lint-imports

generate: $(VENV)/.synced ## write what is generated from the declarations of inputs
	@$(PY) tools/generate/generate.py $(ARGS)

bench: $(VENV)/.engine ## measure; ARGS='--list' shows the parts, ARGS=--smoke only runs them
	$(TEST_ENV) $(PY) tools/bench/run.py $(ARGS)

clean: ## remove what can be made again; state and passphrase in .mlops are kept
	@[ ! -x $(PY) ] || $(stack) clean
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.synced: requirements.lock pyproject.toml tools/venv.sh
	@echo "$(VENV): installing what requirements.lock lists" >&2
	@tools/venv.sh >&2
	@touch $@

# A link to the engine's folder, found anew when the folder is gone.
$(VENV)/.engine: $(ENGINE) $(if $(wildcard $(VENV)/engine/pulumi),,engine-missing) | $(VENV)/.synced
	@$(PY) tools/engine/engine.py --link $(VENV)/engine >&2
	@touch $@

engine-missing:
