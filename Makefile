# Every command a person needs; `make help` lists them. Nothing is needed beforehand but make and Python 3.11 or newer.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# One virtual environment: first what running needs, then, for checks and tests, the rest.
RUNNABLE := .venv/.runnable
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

# Folders that hold Python now; the linters are pointed at no other.
SOURCES := $(foreach folder,gateway consent_web sandbox simulator devstore demo scripts sdk/python tests benchmarks,$(if $(wildcard $(folder)/*.py $(folder)/*/*.py),$(folder)))
SCRIPTS_JS := $(wildcard sdk/js/*.js sdk/js/*/*.js consent_web/static/*.js)

.PHONY: help install run sandbox test soak chromium screenshots bench bench-peers bench-tools check lock relock minify accept-store rotate-master-key create-app update-app list-apps show-app report rotate-secret webhooks connect-user revoke doctor verify

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' Makefile

install: $(INSTALLED) ## a virtual environment .venv/ and node_modules/ with everything the other commands need

$(RUNNABLE): requirements-run.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Wattfare needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Install a newer one, or name it: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -y -q python3-venv; \
	  else echo "Python's venv module is missing. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; fi; }
	@echo "Installing what running needs into .venv/ (some 100 MB; half a minute)."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) -r requirements-run.txt
	@# The project is used where it stands, with no build step: one line in site-packages names its folders.
	@printf '%s\n' "$(CURDIR)" "$(CURDIR)/sdk/python" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/wattfare.pth"
	@touch $@

$(INSTALLED): $(RUNNABLE) requirements-dev.txt tools/package.json tools/package-lock.json tools/.npmrc
	@echo "Installing what checks and tests need into .venv/ and tools/node_modules/ (some 700 MB; two minutes)."
	@$(PIP) -r requirements-dev.txt
	@$(BIN)/npm ci --prefix tools --loglevel=error
	@# Node looks for packages in the folders above a script, so the root has a link to them.
	@test -L node_modules || rm -rf node_modules
	@ln -sfn tools/node_modules node_modules
	@touch $@

run: $(RUNNABLE) ## gateway, consent site, sandbox OpenRouter, demo app and embedded store; GATEWAY_PORT= CONSENT_PORT= SANDBOX_PORT= DEMO_PORT=
	@$(BIN)/python -m scripts.run_locally

sandbox: $(RUNNABLE) ## the stand-in OpenRouter alone
	$(BIN)/python -m sandbox

# Twice as many workers as cores: about half of a worker's time is spent waiting for timeouts and other processes. Whoever
# is done takes tests from the others: else one worker is left with the browser's. The workers and the processes that
# they start use each other's bytecode, even where the environment turns it off.
test: install chromium ## every test, in about six minutes on two cores; pass options with ARGS="-k name"
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

screenshots: install chromium ## photograph every state of the consent site into screenshots/
	$(BIN)/python -m tests.screens.screenshots

soak: install ## ten minutes of every fault at once, then the ledger must be the bill; SECONDS=600 STORE=valkey|cluster SEED=…
	$(BIN)/python -m benchmarks.soak

chromium:
	@.ci/chromium

bench: install bench-tools ## a request's CPU beside nginx's; QUICK=1 ROWS=plain,tls SECONDS=3 ROUNDS=3 OUT=FILE WRITE=1 GATEWAY_DIR=CHECKOUT
	$(BIN)/python -m benchmarks.proxy

bench-peers: install bench-tools ## the same, with LiteLLM in a virtual environment of its own
	PEERS=1 $(BIN)/python -m benchmarks.proxy

bench-tools:
	@.ci/bench-tools

check: install ## format, lint, types, import contracts, JavaScript types
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
ifneq ($(SCRIPTS_JS),)
	$(BIN)/node node_modules/typescript/bin/tsc --project tsconfig.json
endif

# Each lock keeps to the versions of the one before it.
COMPILE := $(BIN)/uv pip compile --quiet --no-config --no-header --universal --python-version 3.11 $(UPGRADE) --generate-hashes
LOCKS := requirements.txt requirements-otel.txt requirements-run.txt requirements-dev.txt

lock: UPGRADE := --upgrade
lock: relock ## resolve requirements*.in and tools/package.json anew into the lock files
	cd tools && ../$(BIN)/npm update --package-lock-only --loglevel=error
	@! grep -nE 'https?://|index-url|find-links|"resolved"' $(LOCKS) tools/package-lock.json || { echo "A lock names a place to download from." >&2; exit 1; }

relock: ## the same for Python, moving no version that need not move
	@test -x $(BIN)/uv || $(MAKE) install
	$(COMPILE) --output-file requirements.txt requirements.in
	$(COMPILE) --constraints requirements.txt --output-file requirements-otel.txt requirements-otel.in
	$(COMPILE) --constraints requirements.txt --output-file requirements-run.txt requirements-run.in
	$(COMPILE) --constraints requirements-otel.txt --constraints requirements-run.txt --output-file requirements-dev.txt requirements-dev.in

# esbuild's installer puts the program itself in the place of its script; then Node cannot start it.
minify: install ## sdk/js/client.min.js, what browsers download, from sdk/js/client.js
	@esbuild=node_modules/esbuild/bin/esbuild; ! grep -q '^#!' $$esbuild || esbuild="$(BIN)/node $$esbuild"; \
	$$esbuild sdk/js/client.js --bundle --minify --format=esm --log-level=error --outfile=sdk/js/client.min.js

create-app: $(RUNNABLE) ## register an app: ARGS="--name N --origin URL [--return-url URL] [--webhook-url URL]"
	@$(BIN)/python -m scripts.create_app $(ARGS)

update-app: $(RUNNABLE) ## change an app: ARGS="--app ID [--name N] [--add-origin URL] [--remove-origin URL] [--add-return-url URL] [--remove-return-url URL] [--webhook-url URL | --remove-webhook]"
	@$(BIN)/python -m scripts.update_app $(ARGS)

rotate-secret: $(RUNNABLE) ## a new secret key for an app: ARGS="--app ID [--mode live|test] [--grace SECONDS]"
	@$(BIN)/python -m scripts.rotate_secret $(ARGS)

list-apps: $(RUNNABLE) ## every app with its users and spend: ARGS=--json
	@$(BIN)/python -m scripts.list_apps $(ARGS)

show-app: $(RUNNABLE) ## one app, its origins, keys and users: ARGS="--app ID"
	@$(BIN)/python -m scripts.show_app $(ARGS)

webhooks: $(RUNNABLE) ## an app's webhooks: ARGS="--app ID [--test | --replay TIME|ID [--user U] | --rotate-secret [--grace S]]"
	@$(BIN)/python -m scripts.webhooks $(ARGS)

report: $(RUNNABLE) ## what was spent: ARGS="[--by app,user,model,day] [--days 30] [--app ID] [--csv|--json]"
	@$(BIN)/python -m scripts.report $(ARGS)

connect-user: $(RUNNABLE) ## import a connection: ARGS="--app ID --user U --monthly-usd X --openrouter-key K"
	@$(BIN)/python -m scripts.connect_user $(ARGS)

accept-store: $(RUNNABLE) ## accept a Redis that lost data, once that is known and meant: ARGS=--yes
	@$(BIN)/python -m scripts.accept_store $(ARGS)

rotate-master-key: $(RUNNABLE) ## seal every funding key anew under the newest master key
	@$(BIN)/python -m scripts.rotate_master_key $(ARGS)

revoke: $(RUNNABLE) ## cut one user or a whole app: ARGS="--app ID [--user U]"
	@$(BIN)/python -m scripts.revoke $(ARGS)

doctor: $(RUNNABLE) ## check a deployment and say what to mend: ARGS="[--before-start] [--json]"
	@$(BIN)/python -m scripts.doctor $(ARGS)

verify: $(RUNNABLE) ## recompute every balance from the ledger: ARGS="[--against-upstream]"
	@$(BIN)/python -m scripts.verify $(ARGS)
