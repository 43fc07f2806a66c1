# The two commands of this repository are `make demo` and `make test`. Both install what is missing and say so.
#
# Everything is built with the one profile of Cargo.toml, into CARGO_TARGET_DIR if that is set from outside.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
# A toolchain that the set-up has just put in place is not on this shell's path yet.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

# How many simulated worlds `make sim` plays, and the seed of the first; V=1: a line for each world, with its hash;
# TRACE=1: everything that happens in them.
SEEDS ?= 100
FIRST ?= 1
SIM_FLAGS = $(if $(filter-out 0,$(V)),-v) $(if $(filter-out 0,$(TRACE)),--trace)

# How long `make soak` goes on.
HOURS ?= 8

# What `make fuzz` fuzzes, and for how long.
TARGET ?= client
SECONDS ?= 60
FUZZ_PROGRAM = $(if $(filter admin configuration,$(TARGET)),fuzz-programs,fuzz)

.PHONY: help setup build demo test check doc docs-check book sim soak fuzz planted bench bench-check bench-accept clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## install what the build needs, if it is missing
	@.ci/setup

build: setup ## leave quorated and quorate in target/release
	@.ci/cache seed
	cargo build --release -p quorate-broker -p quorate-tools --bins
	@.ci/cache save build

demo: build ## three brokers, real text, a killed leader, a killed cluster, and a count
	@scripts/demo

test: ## everything the gate asks: format, lints, build, docs, tests, simulation
	@.ci/setup test
	@.ci/test

check: setup ## format and lints only
	@.ci/cache seed
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings

doc: setup ## the crates' documentation, in target/doc
	@.ci/cache seed
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps

docs-check: ## links, commands and flags named in the documentation
	@.ci/docs-check

book: ## the book as HTML, in target/book (needs mdbook)
	@if command -v mdbook >/dev/null; then mdbook build --dest-dir "$(CARGO_TARGET_DIR)/book"; \
	else echo "mdbook is not installed: skipped. The pages of docs/ read well as they are."; fi

sim: ## simulated clusters: make sim SEEDS=1000 FIRST=1 (V=1: a line for each; TRACE=1: all that happens)
	@.ci/setup test
	@.ci/sim $(SEEDS) $(FIRST) $(SIM_FLAGS)

soak: ## hours of what the gate does in minutes, with new seeds, and chaos and fuzzing: make soak HOURS=8
	@.ci/setup test
	@.ci/soak $(HOURS)

fuzz: ## one decoder, guided by coverage: make fuzz TARGET=segment SECONDS=600 (SAVE=1 keeps what it finds)
	@.ci/setup test
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/tests/fuzz/instrumented cargo build --release -p quorate-$(FUZZ_PROGRAM) --bin $(FUZZ_PROGRAM)
	$(CARGO_TARGET_DIR)/release/$(FUZZ_PROGRAM) $(TARGET) --seconds $(SECONDS) $(if $(SAVE),--save)

planted: ## the proof that the tests can fail: bugs put into the product, one at a time (make planted ONLY=07)
	@.ci/setup test
	@scripts/planted $(ONLY)

bench: setup ## how long things take, on the wall clock: make bench ARGS='apply --save-baseline before'
	@.ci/cache seed
	cargo bench -p quorate-protocol -p quorate-store -p quorate-core -p quorate-bench -- $(ARGS)

bench-check: setup ## what a message costs in instructions and allocations, against what was accepted (needs valgrind)
	@.ci/cache seed
	@scripts/bench-check

bench-accept: setup ## what a message costs now is what is accepted
	@.ci/cache seed
	@scripts/bench-check --accept

clean: ## remove what was built here (not the cache outside)
	cargo clean
