# The front door. `make` alone says what there is.
#
# Everything that is built or fetched lies in target/; only `make install` and its kin write
# elsewhere: into the Postgres whose pg_config they are given, or below PREFIX.

PG_CONFIG ?= pg_config
CARGO     ?= cargo
INSTALL   ?= install
PREFIX    ?= /usr/local
# The major versions that `make test-versions` builds for and runs on.
VERSIONS  ?= 14 15 16 17 18

SHELL        := /bin/sh
.DEFAULT_GOAL := help
TARGET       := $(abspath $(or $(CARGO_TARGET_DIR),target))

# Asked when used, not when read: before `make setup` there may be no pg_config.
pg_major  = $(shell $(PG_CONFIG) --version 2>/dev/null | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
extension = $(TARGET)/extension/pg$(pg_major)
control   = pg_ext/headwater.control
scripts   = $(wildcard sql/headwater--*.sql)

# pgrx reads the server's headers through this, and builds its bindings anew whenever
# the value changes: the same absolute path for every command keeps them.
export PGRX_PG_CONFIG_PATH = $(shell command -v $(PG_CONFIG) 2>/dev/null)

for_pg    = -p headwater-pg --no-default-features --features pg$(pg_major)
rust_only = -p headwater-protocol -p headwater -p headwater-tests -p headwater-fuzz
benches   = plugin e2e snapshot latency

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 26
	@echo
	@echo '  PG_CONFIG=/path/to/pg_config chooses the Postgres that is built for (default: the one in PATH).'

.PHONY: setup
setup: ## install what is missing: distribution packages through apt, Kafka into target/
	@setup/packages.sh
	@setup/toolchain.sh
	@setup/maven.sh kafka

.PHONY: build
build: pg_config client extension ## the client and the extension, in target/release and target/extension

.PHONY: pg_config
pg_config:
	@test -n '$(pg_major)' || { echo 'make: "$(PG_CONFIG)" is no pg_config; give PG_CONFIG=/path/to/pg_config' >&2; exit 1; }

.PHONY: client
client:
	$(CARGO) build --locked --release -p headwater

.PHONY: extension
extension: pg_config
	$(CARGO) build --locked --release $(for_pg)
	@mkdir -p $(extension)
	@cmp -s $(TARGET)/release/libheadwater.so $(extension)/headwater.so \
		|| cp $(TARGET)/release/libheadwater.so $(extension)/headwater.so

.PHONY: install
install: pg_config ## the extension into the Postgres of PG_CONFIG, after `make build` (DESTDIR is honoured)
	@test -f $(extension)/headwater.so \
		|| { echo 'make: not built for Postgres $(pg_major) yet; run "make build PG_CONFIG=$(PG_CONFIG)" first' >&2; exit 1; }
	$(INSTALL) -d '$(DESTDIR)$(shell $(PG_CONFIG) --pkglibdir)' '$(DESTDIR)$(shell $(PG_CONFIG) --sharedir)/extension'
	$(INSTALL) -m 755 $(extension)/headwater.so '$(DESTDIR)$(shell $(PG_CONFIG) --pkglibdir)/headwater.so'
	$(INSTALL) -m 644 $(control) $(scripts) '$(DESTDIR)$(shell $(PG_CONFIG) --sharedir)/extension'

.PHONY: install-client
install-client: ## the client, its manual and completions below PREFIX, after `make client` (DESTDIR is honoured)
	@test -f $(TARGET)/release/headwater || { echo 'make: not built yet; run "make client" first' >&2; exit 1; }
	$(INSTALL) -d $(addprefix '$(DESTDIR)$(PREFIX)/,bin' share/man/man1' share/bash-completion/completions' \
		share/zsh/site-functions' share/fish/vendor_completions.d')
	$(INSTALL) -m 755 $(TARGET)/release/headwater '$(DESTDIR)$(PREFIX)/bin/headwater'
	$(INSTALL) -m 644 man/*.1 '$(DESTDIR)$(PREFIX)/share/man/man1'
	$(TARGET)/release/headwater completions bash >'$(DESTDIR)$(PREFIX)/share/bash-completion/completions/headwater'
	$(TARGET)/release/headwater completions zsh >'$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_headwater'
	$(TARGET)/release/headwater completions fish >'$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/headwater.fish'

.PHONY: uninstall
uninstall: pg_config ## what `make install` brought
	rm -f '$(DESTDIR)$(shell $(PG_CONFIG) --pkglibdir)/headwater.so' \
		'$(DESTDIR)$(shell $(PG_CONFIG) --sharedir)'/extension/headwater.control \
		'$(DESTDIR)$(shell $(PG_CONFIG) --sharedir)'/extension/headwater--*.sql

# A private copy of the server with the extension in it: see setup/server-copy.sh.
.PHONY: server
server: extension
	@copy=$$(setup/server-copy.sh $(PG_CONFIG) $(TARGET)/postgres/system) \
		&& $(MAKE) --no-print-directory -s install PG_CONFIG=$$copy

# Another copy, with a library that panics where a test asks it to: see
# pg_ext/src/pg/panics.rs. Its profile has a folder of its own, so that it is never the library that
# `make install` takes, and neither of the two has the other built again.
.PHONY: server-panics
server-panics:
	$(CARGO) build --locked --profile panics $(for_pg),panics
	@mkdir -p $(TARGET)/extension/panics
	@cmp -s $(TARGET)/panics/libheadwater.so $(TARGET)/extension/panics/headwater.so \
		|| cp $(TARGET)/panics/libheadwater.so $(TARGET)/extension/panics/headwater.so
	@copy=$$(setup/server-copy.sh $(PG_CONFIG) $(TARGET)/postgres/panics) \
		&& $(MAKE) --no-print-directory -s install PG_CONFIG=$$copy extension=$(TARGET)/extension/panics

.PHONY: demo
demo: setup ## rows written in psql arrive in a real Kafka: the whole path, on throwaway servers (FORMAT=avro)
	@test '$(FORMAT)' != avro || setup/registry.sh
	@$(MAKE) --no-print-directory client server
	$(CARGO) build --locked --release -p headwater-tests --bin demo
	@FORMAT='$(FORMAT)' $(TARGET)/release/demo

.PHONY: pictures
pictures: setup ## the README's pictures of terminals, from a real run
	@$(MAKE) --no-print-directory client server
	$(CARGO) test --locked -p headwater-tests --test e2e -- --ignored --nocapture pictures::

.PHONY: test
test: setup ## unit, property and end-to-end tests, on throwaway servers
	@setup/packages.sh test
	@setup/registry.sh
	@setup/python.sh fastavro
	@setup/python.sh prometheus_client
	@setup/promtool.sh >/dev/null
	@$(MAKE) --no-print-directory client server-panics server
	@# Most end-to-end tests wait for a server most of the time.
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} $(CARGO) test --locked $(rust_only)

.PHONY: test-bounds
test-bounds: setup ## memory under a million rows, a million subtransactions, five gigabytes in a transaction
	@$(MAKE) --no-print-directory client server
	$(CARGO) test --locked -p headwater-tests --test e2e -- --include-ignored --nocapture --test-threads 1 bounds::

.PHONY: test-idle
test-idle: setup ## the slot follows ten gigabytes that are written elsewhere
	@$(MAKE) --no-print-directory client server
	$(CARGO) test --locked -p headwater-tests --test e2e -- --include-ignored --nocapture --test-threads 1 idle::

.PHONY: torture
torture: setup ## faults at random under writers, every change accounted for (SECONDS=120 SEED=… FORMAT=avro)
	@test '$(FORMAT)' != avro || setup/registry.sh
	@$(MAKE) --no-print-directory client server
	$(CARGO) build --locked -p headwater-tests --bin torture
	@SECONDS='$(SECONDS)' SEED='$(SEED)' FAULTS='$(FAULTS)' FORMAT='$(FORMAT)' $(TARGET)/debug/torture

.PHONY: test-long
test-long: setup ## what takes minutes: a snapshot killed twenty times, a stream that stands still
	@$(MAKE) --no-print-directory client server
	$(CARGO) test --locked -p headwater-tests --test e2e -- --ignored --nocapture --test-threads 1 fuse:: snapshot_kills::

.PHONY: test-outage
test-outage: setup ## a broker that is away for 90 s, during a copy and under load
	@$(MAKE) --no-print-directory client server
	$(CARGO) test --locked -p headwater-tests --test e2e -- --ignored --nocapture outage::

.PHONY: test-security
test-security: setup ## every way in to Kafka, tokens that end, the ACLs that docs/security.md grants
	@$(MAKE) --no-print-directory client server
	$(CARGO) test --locked -p headwater-tests --test e2e -- --ignored --nocapture security::

.PHONY: test-doctor
test-doctor: setup ## cures that take a build, an authorizer, a second broker or patience, run as they are printed
	@$(MAKE) --no-print-directory client server
	$(CARGO) test --locked -p headwater-tests --test e2e -- --ignored --nocapture doctor::
	@# The build for another pg_config has taken the place of this one.
	@$(MAKE) --no-print-directory server

.PHONY: test-avro
test-avro: setup ## a thousand random ALTERs under a registry, every row of every catalog in Avro; minutes
	@setup/registry.sh
	@setup/python.sh fastavro
	@$(MAKE) --no-print-directory client server
	$(CARGO) test --locked -p headwater-tests --test e2e -- --ignored --nocapture --test-threads 1 avro::

.PHONY: test-verify
test-verify: setup ## five million rows under load compared with their topic: time and memory
	@$(MAKE) --no-print-directory client server
	$(CARGO) test --locked -p headwater-tests --test e2e -- --ignored --nocapture verify_large::

# Coverage as libFuzzer wants it, by flags that the pinned toolchain has: no nightly is needed.
# The targets are safe Rust, so there is nothing for a sanitizer to find in them.
coverage = -Cpasses=sancov-module -Cdebug-assertions=yes -Coverflow-checks=yes \
	$(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
host     = $(shell rustc -vV | sed -n 's/^host: //p')
fuzzed   = $(notdir $(wildcard fuzz/seeds/*))

.PHONY: fuzz
fuzz: setup ## what reads untrusted bytes, under libFuzzer (SECONDS=60 for each target)
	RUSTFLAGS='$(coverage)' CARGO_PROFILE_DEV_OPT_LEVEL=3 CARGO_PROFILE_DEV_DEBUG=line-tables-only \
		$(CARGO) build --locked --target $(host) --target-dir $(TARGET)/fuzz -p headwater-fuzz --features libfuzzer
	@for target in $(fuzzed); do \
		echo "== fuzz $$target"; \
		mkdir -p $(TARGET)/fuzz/found/$$target; \
		HEADWATER_FUZZ=$$target $(TARGET)/fuzz/$(host)/debug/fuzz \
			-max_total_time=$(or $(SECONDS),60) -timeout=10 -rss_limit_mb=512 -print_final_stats=1 -verbosity=0 \
			-artifact_prefix=$(TARGET)/fuzz/$$target- \
			$(TARGET)/fuzz/found/$$target fuzz/seeds/$$target || exit 1; \
	done

.PHONY: test-versions
test-versions: setup ## build for, load into and stream from each Postgres of VERSIONS
	@$(MAKE) --no-print-directory client
	$(CARGO) build --locked -p headwater-tests --bin versions
	@set -e; for major in $(VERSIONS); do \
		if [ $$major = '$(pg_major)' ]; then \
			$(MAKE) --no-print-directory server; \
			server=$$(setup/server-copy.sh $(PG_CONFIG) $(TARGET)/postgres/system); \
		else \
			server=$$(setup/postgres.sh $$major); \
			$(MAKE) --no-print-directory extension install PG_CONFIG=$$server; \
		fi; \
		servers="$$servers $$server"; \
	done; \
	$(TARGET)/debug/versions $$servers

# Each writes bench/results/ and its part of docs/performance.md; BENCH_ARGS='--rounds 1 --dry'
# looks without writing.
.PHONY: $(benches:%=bench-%)
bench-plugin: ## CPU of the walsender, beside the other output plugins
bench-e2e: ## a backlog into Kafka, beside Debezium Server
bench-snapshot: ## a table into Kafka, beside Debezium Server; encoding beside COPY
bench-latency: ## commit to consumer, beside Debezium Server
$(benches:%=bench-%): bench-%: setup
	@setup/packages.sh bench
	@test $* = plugin || setup/debezium.sh
	@$(MAKE) --no-print-directory client server
	$(CARGO) build --locked --release -p headwater-bench
	@$(TARGET)/release/bench $* $(BENCH_ARGS)

.PHONY: bench-micro
bench-micro: ## nanoseconds and allocations of encoders and frame parser
	$(CARGO) bench --locked -p headwater-bench --bench micro -- $(BENCH_ARGS)

.PHONY: lint
lint: ## formatting, clippy, rustdoc, shell scripts, dependencies, what the code may not say
	@setup/packages.sh lint
	@setup/toolchain.sh
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked $(rust_only) -p headwater-bench --all-targets -- -D warnings
	$(CARGO) clippy --locked $(for_pg) --all-targets -- -D warnings
	$(CARGO) clippy --locked $(for_pg),panics --all-targets -- -D warnings
	@# A library that nothing links to: its documentation is for those who change it.
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
		$(CARGO) doc --locked --no-deps --document-private-items $(for_pg)
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps $(rust_only)
	shellcheck setup/*.sh .ci/run .ci/confinement
	.ci/confinement
	$(CARGO) fetch --locked
	$$(setup/cargo-deny.sh) --offline --locked check --hide-inclusion-graph licenses bans sources

.PHONY: docs
docs: ## the library documentation, in target/doc
	$(CARGO) doc --locked --no-deps $(rust_only)

.PHONY: bless
bless: ## rewrite what is generated from the code: pages of docs/, the manual, the example file
	HEADWATER_BLESS=1 $(CARGO) test --locked -p headwater-protocol -p headwater --test docs_are_current

.PHONY: clean
clean: ## remove target/
	$(CARGO) clean
