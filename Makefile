# Every target has a help line. `make` alone prints them.
SHELL := /bin/sh
PYTHON ?= python3
ROUNDS ?= 7
BIN := .venv/bin
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -type f -not -path 'src/mock/*')
MOCK := python/aigw/_mock.abi3.so
TOOLCHAIN := command -v cargo >/dev/null || { echo "make: no Rust toolchain: install one (https://rustup.rs), 1.95 or later" >&2; exit 2; }
COMPILE := .cache/lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
  --no-emit-trusted-host --no-emit-find-links --no-header
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes
# Tests that kill, pause or flood whole gateways have the machine to themselves; the others run two files at a time.
ALONE := tests/durability tests/integration/bounds
CARGO_TEST := cargo test --locked --workspace --exclude aigw-ext

.DEFAULT_GOAL := help
.PHONY: help build run wheel test schedules simulate mutants compat llama bench soak fuzz lint fmt reference lock clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: .venv/.tools .venv/.built ## .venv with the release extension and all tools

# Of running alone: the gateway's own packages, and maturin. `.venv/.tools` adds the others to the same environment.
.venv/.run: requirements/run.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "aigw needs Python 3.11 or later")'
	@echo "make: installing the $$(grep -c '==' $<) packages that running needs into .venv"
	@$(PYTHON) -m venv .venv
	@$(INSTALL) -r $<
	@touch $@

.venv/.tools: requirements/dev.lock | .venv/.run
	@echo "make: installing the $$(grep -c '==' $<) packages of development into .venv"
	@$(INSTALL) -r $<
	@touch $@

# The upstreams to try the gateway with, a module of their own: maturin builds one module a wheel (docs/decisions/009).
$(MOCK): Cargo.toml Cargo.lock $(shell find src/mock -type f)
	@$(TOOLCHAIN)
	@echo "make: compiling the mock LLM and the echo service"
	@src/mock/build-module

# The release extension, always: `maturin develop` without --release would put a debug build here. Compiled modules, as an
# installed package has them: where PYTHONDONTWRITEBYTECODE is set, every verb would compile them anew.
.venv/.built: $(MOCK) $(SOURCES) | .venv/.run
	@$(TOOLCHAIN)
	@echo "make: compiling the gateway: some minutes the first time"
	@PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release --locked
	@$(BIN)/python -m compileall -q python/aigw
	@touch $@

run: .venv/.built ## the demo: three tiers with a key each, a mock LLM, an echo service
	$(BIN)/aigw demo $(DEMO)

wheel: .venv/.run $(MOCK) ## dist/aigw-*.whl, for machines without a compiler
	@$(TOOLCHAIN)
	@echo "make: compiling the gateway: some minutes the first time"
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out dist

test: build lint ## every test: Rust, Python, real processes; lint first
	$(CARGO_TEST)
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ALONE:%=--ignore %)
	$(BIN)/pytest $(ALONE)

schedules: ## budget cells, places and journals under the schedules of a model checker (shuttle), in a build of its own
	RUSTFLAGS="--cfg shuttle" cargo test --locked -p aigw-core --test schedules --target-dir target/schedules

simulate: ## limits, ledger and compactor in worlds with deaths and faults: 100,000 seeds; SEEDS=1000, or one world step by step: SEED=42
	SEEDS=$(or $(SEEDS),100000) SEED=$(SEED) cargo test --locked --profile simulate -p aigw-io --test simulation -- --nocapture worlds

mutants: .cache/mutants/bin/cargo-mutants ## faults in the code that counts, each of which a test must notice: hours; FILES="src/cells/budget.rs"
	PATH=$(CURDIR)/.cache/mutants/bin:$$PATH RUSTC_BOOTSTRAP=1 PROPTEST_CASES=32 PROPTEST_MAX_SHRINK_ITERS=0 \
	  cargo mutants --package aigw-core --output target \
	  $(foreach file,$(or $(FILES),src/limits/** src/admit/** src/cells/**),--file '$(file)')

.cache/mutants/bin/cargo-mutants:
	@$(TOOLCHAIN)
	cargo install --locked --quiet --root .cache/mutants --version 27.1.0 cargo-mutants

compat: build ## nine clients (Python, Node, Go) through a gateway, each call of each, and decK with Kong's Go client; CLIENTS="openai vercel-ai", CLIENTS=kong
	$(BIN)/python -m tests.compat $(CLIENTS)

llama: build ## llama.cpp's server behind the gateway; builds it once (cmake, g++, some minutes of all cores)
	$(BIN)/python -m tests.support.llama
	$(BIN)/pytest tests/integration/llama

bench: build ## micro-benchmarks and load against nginx; ROUNDS=7 SECONDS=5
	@for tool in nginx wrk; do command -v $$tool >/dev/null || PATH=$$PATH:/usr/sbin command -v $$tool >/dev/null || \
	  { echo "make bench: $$tool is missing: apt-get install nginx-light wrk" >&2; exit 2; }; done
	cargo bench --locked -p aigw-core
	cargo bench --locked -p aigw-io --bench tokens --bench ledger
	$(BIN)/python -m benches.ledger
	$(BIN)/python -m benches.load --rounds $(ROUNDS) --seconds $(or $(SECONDS),5)

soak: build ## mixed load with reloads and changes for MINUTES=10: nothing of the gateway may grow
	$(BIN)/python -m benches.soak --minutes $(or $(MINUTES),10)

fuzz: ## fuzz the readers of foreign bytes, each for SECONDS=60; TARGET="sse body policy keys framing"
	tests/fuzz/run $(or $(SECONDS),60) $(TARGET)

lint: build ## ruff, mypy, stubtest, import-linter, rustfmt, clippy, cargo-deny where it is installed
	$(BIN)/ruff check python tests benches docs/generate.py
	$(BIN)/ruff format --check python tests benches docs/generate.py
	$(BIN)/mypy
	$(BIN)/stubtest aigw._native aigw._mock
	$(BIN)/lint-imports
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --workspace --offline check bans licenses sources; else \
	  echo "make lint: skipped 1 check: cargo-deny is not installed (cargo install --locked cargo-deny); tests/shape holds its main rules"; fi

fmt: .venv/.tools ## format both languages
	$(BIN)/ruff format python tests benches docs/generate.py
	$(BIN)/ruff check --fix --quiet python tests benches docs/generate.py
	cargo fmt --all

reference: build ## write the generated pages of docs/reference again
	$(BIN)/python docs/generate.py

lock: ## write requirements/*.lock again from pyproject.toml, and the locks of the clients of `make compat`
	$(PYTHON) -m venv .cache/lock
	.cache/lock/bin/pip install --quiet --disable-pip-version-check pip-tools
	$(COMPILE) --extra dev --output-file requirements/dev.lock pyproject.toml
	$(COMPILE) --extra build --constraint requirements/dev.lock --output-file requirements/run.lock pyproject.toml
	for client in openai langchain litellm pydantic-ai llamaindex; do \
	  $(COMPILE) --output-file tests/compat/python/$$client.lock tests/compat/python/$$client.in || exit; done
	cargo update --workspace

clean: ## remove what was built (not data folders)
	rm -rf .venv target dist python/aigw/*.so .pytest_cache .mypy_cache .ruff_cache
