# What a developer needs. Each target installs what it needs first (Debian: by apt, with sudo
# where necessary) and is silent about what is there already.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
QUICKSTART := examples/quickstart

# FANFARE_* in the environment are configuration; an unknown one is a fault. The simulation's own
# are given to it alone.
$(foreach name,$(filter FANFARE_%,$(.VARIABLES)),$(eval unexport $(name)))

# To build, and to test beside that. A package counts as there when its check succeeds.
BUILD_PACKAGES := libzmq3-dev pkg-config
TEST_PACKAGES := python3-zmq python3-msgpack iproute2 nftables strace shellcheck dnsmasq-base systemd
BENCH_PACKAGES := etcd-server
# To make packages (rpm finds out what an rpm requires), and to test those.
PACKAGING_PACKAGES := rpm binutils
PACKAGING_TEST_PACKAGES := systemd-container dbus lintian rpmlint man-db iproute2 curl python3

# $(call install,PACKAGES): those of them that are missing.
define install
	missing=(); \
	for package in $(1); do \
		status=$$(dpkg-query -W -f='$${db:Status-Abbrev}' "$$package" 2>/dev/null) || status=; \
		[[ $$status == ii* ]] || missing+=("$$package"); \
	done; \
	if (($${#missing[@]})); then \
		sudo=(); ((EUID == 0)) || sudo=(sudo); \
		echo "installing $${missing[*]}"; \
		"$${sudo[@]}" apt-get update -qq; \
		"$${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends "$${missing[@]}"; \
	fi
endef

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | column -t -s $$'\t'

.PHONY: run
run: build ## a publisher, an agent and sample changes on this machine (RUN_SECONDS=n ends it)
	@exec $(QUICKSTART)/run.sh "$(TARGET_DIR)/debug"

.PHONY: build
build: deps ## the programs, for developers
	@$(CARGO) build --bins

.PHONY: release
release: deps ## the programs, for use
	@$(CARGO) build --release --bins

# The tests come last, so that their summary does. What needs root or something of the system that is not
# there is left out, unless TEST_ALL is set.
.PHONY: test
test: lint deps-test smoke doctest ## everything that tells whether it works
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --no-fail-fast --no-tests=warn; \
	else \
		$(CARGO) test --no-fail-fast --lib --bins --tests; \
	fi

.PHONY: doctest
doctest: build # the examples in the sources and in the documents
	@$(CARGO) test --quiet --doc

# `make run` as a newcomer sees it: it must end by itself, have shown what it is for, and leave
# nothing in its temporary directory.
.PHONY: smoke
smoke: build
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; mkdir "$$dir/tmp"; \
	TMPDIR=$$dir/tmp RUN_SECONDS=10 $(QUICKSTART)/run.sh "$(TARGET_DIR)/debug" \
		</dev/null >"$$dir/out" 2>&1 || { cat "$$dir/out"; exit 1; }; \
	for text in 'set table=lport key=red-web-1' 'connection lost' 'missing: none' \
		'delete table=lport key=red-web-2' '"blue-db-2": {' 'rows.json as the agent left it'; do \
		grep -qF -- "$$text" "$$dir/out" || \
			{ cat "$$dir/out"; echo "make run: not shown: $$text" >&2; exit 1; }; \
	done; \
	if grep -F green "$$dir/out"; then echo "make run: a topic nobody asked for" >&2; exit 1; fi; \
	rmdir "$$dir/tmp"; \
	echo "make run: ok"

# The simulation of agents and publishers over a bad network; `make test` runs it with fewer seeds.
SEEDS := 100000
.PHONY: soak
soak: deps deps-test ## what takes long: the simulation with many seeds (SEEDS=n), a thousand agents on one publisher, latency under attack
	@FANFARE_SEEDS=$(SEEDS) $(CARGO) test --release --test simulation -- --nocapture
	@FANFARE_CROWD=1000 $(CARGO) test --test suite recovery::crowd -- --nocapture --test-threads 1
	@$(CARGO) test --release --test suite siege::latency -- --ignored --nocapture --test-threads 1

# What tells whether each rule of the recovery is tested: whoever changes a rule must be caught.
MUTANT_SEEDS := 600
.PHONY: mutants
mutants: deps deps-nextest ## changes each rule of the recovery and demands that a test notices (takes hours)
	@$(CARGO) mutants --version >/dev/null 2>&1 || $(CARGO) install cargo-mutants --locked --debug
	@FANFARE_SEEDS=$(MUTANT_SEEDS) $(CARGO) mutants -f 'src/agent/recovery/*.rs' --test-tool nextest \
		--output "$(TARGET_DIR)" --cargo-arg=--lib --cargo-arg=--test=simulation -- \
		-E 'binary(simulation) | test(agent::recovery)'

# What is fuzzed, by the folders of inputs that are kept; `make test` runs all of them as well. What
# fuzzing finds is kept there too, as found-*.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(notdir $(wildcard fuzz/corpus/*))
FUZZ_DIR = $(abspath $(TARGET_DIR))/fuzz
FUZZ_LIMITS := -timeout=10 -malloc_limit_mb=64 -rss_limit_mb=1024 -max_len=8192
.PHONY: fuzz
fuzz: deps deps-fuzz ## everything that reads what others wrote, each FUZZ_SECONDS=n (FUZZ_TARGETS=…)
	@RUSTC_BOOTSTRAP=1 $(CARGO) fuzz build
	@failed=0; for target in $(FUZZ_TARGETS); do \
		mkdir -p "$(FUZZ_DIR)/$$target"; log=$(FUZZ_DIR)/$$target.log; \
		if RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run "$$target" "$(FUZZ_DIR)/$$target" "fuzz/corpus/$$target" \
			-- $(FUZZ_LIMITS) -max_total_time="$(FUZZ_SECONDS)" \
			-artifact_prefix="fuzz/corpus/$$target/found-" >"$$log" 2>&1 </dev/null; \
		then echo "$$target: $$(grep '^Done' "$$log")"; \
		else failed=1; tail -n 60 "$$log"; echo "$$target: see $$log and fuzz/corpus/$$target/found-*"; fi; \
	done; exit $$failed

# AddressSanitizer sees what libzmq does with our memory too where it calls the allocator. It needs a
# target of its own, so that build scripts are built without it.
ASAN_TARGET := $(shell uname -m)-unknown-linux-gnu
ASAN_TESTS ?= test(/./)
.PHONY: asan
asan: deps deps-test deps-nextest ## the tests under AddressSanitizer (ASAN_TESTS=a filter of nextest's)
	@RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 FANFARE_SLOW=4 \
		$(CARGO) nextest run --no-fail-fast --target $(ASAN_TARGET) --target-dir "$(TARGET_DIR)/asan" \
		--lib --test suite --test simulation -E '$(ASAN_TESTS)'

# Where the packages go, and in what release of the version.
PACKAGES_DIR := $(TARGET_DIR)/packages
PACKAGE_RELEASE ?= 1

.PHONY: packages
packages: deps deps-packages ## deb and rpm packages, into target/packages
	@$(CARGO) build --release --locked --bins
	@mkdir -p "$(PACKAGES_DIR)" "$(TARGET_DIR)"/release/{man,stripped}
	@for page in packaging/man/*; do \
		gzip -9n <"$$page" >"$(TARGET_DIR)/release/man/$${page##*/}.gz"; \
	done
	@for program in fanfare fanfare-agent fanfare-publisher; do \
		strip -o "$(TARGET_DIR)/release/stripped/$$program" "$(TARGET_DIR)/release/$$program"; \
	done
	@for variant in agent publisher; do \
		$(CARGO) deb --quiet --no-build --locked --variant "$$variant" \
			--deb-revision "$(PACKAGE_RELEASE)" --output "$(PACKAGES_DIR)/"; \
		$(CARGO) generate-rpm --variant "$$variant" --target-dir "$(TARGET_DIR)" \
			--set-metadata 'release = "$(PACKAGE_RELEASE)"' --output "$(PACKAGES_DIR)/"; \
	done
	@ls -l "$(PACKAGES_DIR)"

.PHONY: test-packages
test-packages: packages ## installs, runs, upgrades and purges the packages under systemd (as root)
	@if ! command -v apt-get >/dev/null; then exit 0; fi; $(call install,$(PACKAGING_TEST_PACKAGES))
	@FANFARE_TEST_PACKAGES="$(abspath $(PACKAGES_DIR))" \
		$(CARGO) test --quiet --test packages -- --nocapture --test-threads=1

.PHONY: bench
bench: deps deps-bench ## all benches; they print ratios within one run
	@$(CARGO) bench --benches

.PHONY: lint
lint: deps deps-test ## format, clippy (benches too), rustdoc, shell scripts
	@$(CARGO) fmt --check
	@$(CARGO) clippy --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --quiet
	@shellcheck .ci/run $(QUICKSTART)/run.sh examples/pipe/handler.sh tests/packages/machine.sh
	@shellcheck -s sh packaging/*.postinst packaging/*.prerm packaging/*.postrm packaging/rpm/*.sh

.PHONY: fmt
fmt: ## formats the sources
	@$(CARGO) fmt

.PHONY: deps
deps: ## installs what building needs
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }
	@if command -v cc >/dev/null && pkg-config --exists 'libzmq >= 4.3' 2>/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then \
		echo "This is no Debian: install a C compiler, pkg-config and libzmq 4.3 with its headers" \
			"and CURVE by hand, then try again." >&2; \
		exit 1; \
	fi; \
	$(call install,$(BUILD_PACKAGES) $$(command -v cc >/dev/null || echo build-essential))

.PHONY: deps-bench
deps-bench: ## installs what is measured beside us
	@if command -v apt-get >/dev/null; then $(call install,$(BENCH_PACKAGES)); fi

# `make test` does without; what takes nextest's filters does not.
.PHONY: deps-nextest
deps-nextest: ## installs the runner of asan and mutants
	@$(CARGO) nextest --version >/dev/null 2>&1 || $(CARGO) install --quiet --locked --debug cargo-nextest

.PHONY: deps-fuzz
deps-fuzz: ## installs what fuzzing needs
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --quiet --locked --debug cargo-fuzz

.PHONY: deps-packages
deps-packages: ## installs what making packages needs
	@$(CARGO) deb --version >/dev/null 2>&1 || $(CARGO) install --quiet --locked --debug cargo-deb
	@$(CARGO) generate-rpm --version >/dev/null 2>&1 || \
		$(CARGO) install --quiet --locked --debug cargo-generate-rpm
	@if ! command -v apt-get >/dev/null; then \
		echo "This is no Debian: the packages want what these hold: $(PACKAGING_PACKAGES)" >&2; exit 0; \
	fi; \
	$(call install,$(PACKAGING_PACKAGES))

.PHONY: deps-test
deps-test: ## installs what testing needs
	@if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then \
		echo "This is no Debian: the tests want what these packages hold: $(TEST_PACKAGES)" >&2; \
		exit 0; \
	fi; \
	$(call install,$(TEST_PACKAGES))
	@$(CARGO) clippy --version >/dev/null 2>&1 && $(CARGO) fmt --version >/dev/null 2>&1 || \
		rustup component add clippy rustfmt
