# Every target sets up what it needs; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamps
# Native builds survive clones and `make clean`.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/zerog/target
export CARGO_INCREMENTAL ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
RUST_SOURCES := $(shell find native/src -name '*.rs' 2>/dev/null) native/Cargo.toml native/Cargo.lock
CLIENTS := tests/conformance/clients
STORAGE_SDKS := tests/conformance/storage_sdks

.PHONY: demo test lint bench soak coverage clean setup setup-test tools wheel contracts
.DEFAULT_GOAL := setup

setup: $(STAMP)/native $(STAMP)/inference
	@echo "zerog is ready: $(BIN)/zerog up"

demo: setup
	$(BIN)/zerog demo

test: setup-test
	cd native && cargo test --locked --release --no-default-features --quiet
	$(BIN)/python -m pytest -m "not soak"

# Lines and branches of the inference and validation contracts that their tests reach; fails below 100 %.
coverage: setup-test
	$(BIN)/python -m tests.contracts.coverage

soak: setup-test
	$(BIN)/python -m pytest -m soak -s

bench: setup-test $(STAMP)/bench
	$(BIN)/python benchmarks/rpc.py compare --peers zerog,anvil --out benchmarks/results
	$(BIN)/python benchmarks/rpc.py compare --peers zerog,hardhat --runs 3 --out benchmarks/results \
	  --scenarios automine_burst_3000,automine_burst_5000,automine_sequence,mine_transfer,startup
	$(BIN)/python benchmarks/storage.py
	$(BIN)/python benchmarks/audit_economics.py

lint: setup-test $(STAMP)/lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd native && cargo fmt --check
	cd native && cargo clippy --locked --all-targets -- -D warnings
	node contracts/build.mjs --check

wheel: $(STAMP)/lint
	$(BIN)/maturin build --release --out dist

contracts: $(STAMP)/contracts
	node contracts/build.mjs

setup-test: setup $(STAMP)/test $(STAMP)/contracts $(STAMP)/clients $(STAMP)/storage-sdks

# --- toolchains -------------------------------------------------------------------------------
tools:
	@sh .ci/tools

$(STAMP):
	@sh .ci/tools
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMP)

$(STAMP)/native: $(RUST_SOURCES) pyproject.toml | $(STAMP)
	$(BIN)/pip install -q "maturin>=1.9,<2"
	$(BIN)/maturin develop --release --quiet
	@touch $@

$(STAMP)/inference: pyproject.toml | $(STAMP) $(STAMP)/native
	$(BIN)/python .ci/extras.py inference | xargs -d '\n' $(BIN)/pip install -q
	$(BIN)/zerog infer fetch
	@touch $@

$(STAMP)/test: pyproject.toml | $(STAMP) $(STAMP)/native
	$(BIN)/python .ci/extras.py test | xargs -d '\n' $(BIN)/pip install -q
	$(BIN)/python .ci/extras.py zk | xargs -d '\n' $(BIN)/pip install -q
	$(BIN)/python .ci/extras.py onnx | xargs -d '\n' $(BIN)/pip install -q
	$(BIN)/zerog infer fetch --embeddings
	@touch $@

$(STAMP)/bench: pyproject.toml | $(STAMP)
	$(BIN)/python .ci/extras.py bench | xargs -d '\n' $(BIN)/pip install -q
	@touch $@

$(STAMP)/lint: pyproject.toml | $(STAMP)
	$(PYTHON) .ci/extras.py lint | xargs -d '\n' $(BIN)/pip install -q
	@touch $@

$(STAMP)/contracts: contracts/package.json contracts/package-lock.json | $(STAMP)
	cd contracts && npm ci --no-audit --no-fund --silent
	@touch $@

$(STAMP)/clients: $(CLIENTS)/package.json $(CLIENTS)/package-lock.json | $(STAMP)
	cd $(CLIENTS) && npm ci --no-audit --no-fund --silent
	@touch $@

# The Python SDK installs top-level modules such as `core`: it gets a folder of its own, outside the test interpreter's path.
$(STAMP)/storage-sdks: $(STORAGE_SDKS)/package.json $(STORAGE_SDKS)/package-lock.json | $(STAMP)/test
	cd $(STORAGE_SDKS) && npm ci --no-audit --no-fund --silent
	$(BIN)/pip install -q --no-deps --upgrade --target $(VENV)/storage-sdk "0g-storage-sdk==0.4.0" "pycryptodome==3.23.0"
	@touch $@

clean:
	rm -rf $(VENV) dist contracts/node_modules $(CLIENTS)/node_modules $(STORAGE_SDKS)/node_modules .mypy_cache .ruff_cache .pytest_cache
	find src -name '*.so' -delete
