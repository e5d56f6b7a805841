# The verbs of the project. `make help` lists them.
#
# Needs a Debian-like machine with a Rust toolchain (rustup or cargo), and installs the rest itself.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CARGO ?= cargo
DATA_DIR ?= data
# Flags of `make run`; ten seconds so that there is something to see soon.
ARGS ?= --metric-resolution=10s
# Shown by `heapster version`.
export HEAPSTER_COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)
CARGO_DENY_VERSION := 0.20.2
TOOLS := target/tools

.PHONY: help
help: ## List the verbs
	@awk -F':.*## ' '/^[a-z][a-zA-Z0-9_-]*:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what a bare Debian machine lacks (a C compiler for the TLS library)
	@scripts/setup

.PHONY: test-setup
test-setup:
	@scripts/setup --tests

.PHONY: run
run: setup ## Build and serve this machine on http://127.0.0.1:8082/ (flags: ARGS)
	$(CARGO) build --release --locked -p heapster-server
	target/release/heapster serve --data-dir $(DATA_DIR) $(ARGS)

.PHONY: build
build: setup ## Build everything
	$(CARGO) build --workspace --all-targets --locked

.PHONY: test
test: test-setup fmt-check clippy unit doc deny python ## Everything a change must pass
	@echo "all checks passed"

.PHONY: unit
unit: ## Unit, integration, property, golden and documentation tests
	$(CARGO) test --workspace --locked

.PHONY: python
python: ## The Python package: its wheel in a fresh virtual environment, and its tests there
	scripts/test-python

.PHONY: wheel
wheel: setup $(TOOLS)/maturin/bin/maturin ## The Python package as a wheel for this machine, in target/wheels
	$(TOOLS)/maturin/bin/maturin build --release --locked -m heapster-py/Cargo.toml --out target/wheels

$(TOOLS)/maturin/bin/maturin:
	python3 -m venv $(TOOLS)/maturin
	$(TOOLS)/maturin/bin/pip install --quiet "$$(sed -n 's/^requires = \["\(.*\)"\]$$/\1/p' heapster-py/pyproject.toml)"

.PHONY: fmt-check
fmt-check: ## Formatting is rustfmt's
	$(CARGO) fmt --all --check

.PHONY: fmt
fmt: ## Format
	$(CARGO) fmt --all

.PHONY: clippy
clippy: ## Lints, warnings are errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

.PHONY: doc
doc: ## API documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

.PHONY: deny
deny: $(TOOLS)/bin/cargo-deny ## Licences, bans and sources of the dependencies
	$(TOOLS)/bin/cargo-deny --locked --all-features check --hide-inclusion-graph bans licenses sources

.PHONY: audit
audit: $(TOOLS)/bin/cargo-deny ## Known vulnerabilities (fetches the advisory database)
	$(TOOLS)/bin/cargo-deny check advisories

# Unoptimized: it runs for seconds, and its optimized build takes minutes.
$(TOOLS)/bin/cargo-deny:
	$(CARGO) install cargo-deny --version $(CARGO_DENY_VERSION) --locked --no-default-features --debug --root $(TOOLS)

# The generator of the data set GEN, and the folder of its data.
GENERATOR := ../shared/tools/gen_cluster_metrics.py
GENERATED ?= $(or $(HEAPSTER_GENERATED),target/cluster-metrics)
# Flags of `make bench`, such as --quick, --only disk,queries or -o json.
BENCH_ARGS ?=

.PHONY: bench
bench: setup ## The workload report: figures beside goals and other engines (flags: BENCH_ARGS)
	@$(CARGO) build --release --locked -p heapster-server -p heapster-benches \
		--bin heapster --bin heapster-workload
	@if [ -f $(GENERATOR) ] && [ ! -f $(GENERATED)/meta.txt ]; then \
		$(MAKE) --no-print-directory generated-data >&2 \
			|| echo "the generator does not run here; the report makes a set of its own" >&2; \
	fi
	@if [ -f $(GENERATED)/meta.txt ]; then export HEAPSTER_GENERATED=$(GENERATED); fi; \
		target/release/heapster-workload $(BENCH_ARGS)

.PHONY: generated-data
generated-data: $(TOOLS)/python/numpy
	$(TOOLS)/python/bin/python3 $(GENERATOR) $(GENERATED)

$(TOOLS)/python/numpy:
	python3 -m venv $(TOOLS)/python
	$(TOOLS)/python/bin/pip install --quiet numpy
	touch $@

.PHONY: criterion
criterion: ## Small benchmarks of single steps
	$(CARGO) bench -p heapster-benches

NODES ?= 200
PODS ?= 30
CONTAINERS ?= 2
RESOLUTION ?= 10s
DURATION ?= 20m

.PHONY: load
load: setup ## A simulated cluster against the release server; NODES PODS CONTAINERS RESOLUTION DURATION
	$(CARGO) build --release --locked -p heapster-server -p heapster-benches --bins
	target/release/heapster-load --nodes $(NODES) --pods-per-node $(PODS) \
		--containers-per-pod $(CONTAINERS) --resolution $(RESOLUTION) --duration $(DURATION)

SECONDS ?= 60
JOBS ?= 1
CARGO_FUZZ_VERSION := 0.13.2

.PHONY: fuzz
fuzz: $(TOOLS)/bin/cargo-fuzz ## Every fuzz target for SECONDS, JOBS at a time (needs a nightly toolchain)
	@scripts/fuzz --seconds $(SECONDS) --jobs $(JOBS)

$(TOOLS)/bin/cargo-fuzz:
	$(CARGO) install cargo-fuzz --version $(CARGO_FUZZ_VERSION) --locked --root $(TOOLS)

# Pure code: Miri opens no file of a store. The property tests of a few cases each are enough, since
# they run in full elsewhere.
MIRI_TESTS ?= codec:: chunk:: wal::bytes:: segment::symbols:: segment::postings:: head::row:: tier::columns::

SIMULATE := target/simulate/heapster-simulate
FIRST ?= 0
SOAK_ARGS ?=

.PHONY: soak
soak: setup ## The crash simulator for as long as one likes; FIRST is the seed to go on with
	$(CARGO) build --profile simulate --locked -p heapster-simulator
	$(SIMULATE) soak --first $(FIRST) $(SOAK_ARGS)

HUNT_ARGS ?=

.PHONY: hunt
hunt: setup ## Plants each known bug into the store; the simulator has to find it
	$(CARGO) build --profile simulate --locked -p heapster-simulator --features planted-bugs --target-dir target/planted
	target/planted/simulate/heapster-simulate hunt $(HUNT_ARGS)

ROUNDS ?= 400

.PHONY: kernel
kernel: setup ## The store on the real kernel: killed at each of ROUNDS system calls of a kind (needs root)
	HEAPSTER_KERNEL_ROUNDS=$(ROUNDS) $(CARGO) test --locked -p heapster-store --test it kernel:: -- --nocapture

STRIDE ?= 1
FROM ?= 0

.PHONY: sweep
sweep: setup ## Every STRIDE-th byte from FROM on of a store of a megabyte is changed, one at a time
	HEAPSTER_SWEEP_FROM=$(FROM) HEAPSTER_SWEEP_STRIDE=$(STRIDE) $(CARGO) test --profile simulate --locked -p heapster-store --test it \
		no_changed_byte_of_a_megabyte -- --ignored --nocapture

CYCLES ?= 500
SEED ?= 1

.PHONY: kill
kill: setup ## kill -9 of a server under load, CYCLES times; nothing acknowledged may be lost (SEED)
	$(CARGO) build --release --locked -p heapster-server -p heapster-benches --bin heapster --bin heapster-killer
	target/release/heapster-killer --cycles $(CYCLES) --seed $(SEED)

MINUTES ?= 10
# Flags such as --keep or --prometheus FILE.
COMPARE_ARGS ?=

.PHONY: compare
compare: setup ## A Prometheus sends to the server for MINUTES, then both answer the same queries (COMPARE_ARGS)
	$(CARGO) build --release --locked -p heapster-server
	@scripts/compare-prometheus --minutes $(MINUTES) $(COMPARE_ARGS)

.PHONY: miri
miri: ## The codecs under Miri, which finds undefined behaviour (needs a nightly toolchain)
	MIRIFLAGS="-Zmiri-symbolic-alignment-check -Zmiri-disable-isolation" PROPTEST_CASES=2 \
		$(CARGO) +nightly miri test --target-dir target/miri --locked -p heapster-store --lib -- $(MIRI_TESTS)

.PHONY: clean
clean: ## Remove what was built (not the data)
	$(CARGO) clean
