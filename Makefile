# What a newcomer needs: `make demo`, `make test`, `make bench`. Missing tools are installed from the
# distribution's packages.

.DEFAULT_GOAL := help
.PHONY: help demo test pgo chaos compat fuzz lint advisories bench bench-citus idle budget

CARGO ?= cargo

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

demo: ## a throw-away primary and two replicas with Trunkline before them; ARGS="--port 6000 --keep"
	@.ci/install-tools build postgres
	$(CARGO) run --locked --release -- demo $(ARGS)

test: ## all tests, against real servers and real drivers; ARGS="name-of-a-test"
	@.ci/install-tools build libclang postgres promtool curl python node
	@.ci/install-drivers
	$(CARGO) test --locked --quiet --doc
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked $(ARGS); \
	else \
		set -x; $(CARGO) test --locked --no-fail-fast --lib --bins --tests $(ARGS); \
	fi

pgo: ## target/pgo/trunkline, built with a profile of its own work: the cheapest build (15 minutes; needs llvm-profdata)
	@.ci/install-tools build postgres
	.ci/build-pgo

chaos: ## clients while servers are killed, hung, cut off and promoted (10 minutes); TRUNKLINE_CHAOS_SECONDS, TRUNKLINE_CHAOS_SEED
	@.ci/install-tools build libclang postgres
	$(CARGO) test --locked --test chaos -- --ignored --nocapture nothing_is_lost_in_a_long_chaos $(ARGS)

compat: ## PostgreSQL's regression suite, libpq_pipeline and SQLAlchemy's, directly and through Trunkline; ARGS="regression"
	@.ci/install-tools build libclang postgres python
	@.ci/install-compat
	PGBIN=$$(.ci/install-compat --bindir) $(CARGO) test --locked --test compat -- \
		--ignored --nocapture --test-threads=1 $(ARGS)

# The targets are those of tests/fuzz/Cargo.toml; ARGS="sql config" names some of them.
FUZZ_TARGETS = $(or $(ARGS),frames startup server_login patroni sql config)
FUZZ_SECONDS ?= 60

fuzz: ## libFuzzer on what reads bytes of strangers, a minute each; ARGS="sql" FUZZ_SECONDS=3600
	@.ci/install-tools build
	@$(CARGO) +nightly fuzz --version >/dev/null || { echo "needs a nightly toolchain and: cargo install --locked cargo-fuzz" >&2; exit 1; }
	@set -e; for target in $(FUZZ_TARGETS); do \
		dictionary=tests/fuzz/dictionaries/$$target.dict; \
		mkdir -p target/fuzz/corpus/$$target target/fuzz/artifacts/$$target; \
		set -x; \
		$(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none $$target \
			target/fuzz/corpus/$$target tests/fuzz/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=20 \
			-artifact_prefix=target/fuzz/artifacts/$$target/ $$([ -f $$dictionary ] && echo -dict=$$dictionary); \
		{ set +x; } 2>/dev/null; \
	done

lint: ## formatting, lints, no OpenSSL among the dependencies; their licences if cargo-deny is there
	@.ci/install-tools build libclang
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- --deny warnings
	@! grep -E '^name = "openssl(-sys)?"' Cargo.lock
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		set -x; $(CARGO) deny --offline --locked check --hide-inclusion-graph bans licenses sources; \
	fi

advisories: ## flaws that are known of the dependencies, and versions that were withdrawn (needs the network and cargo-deny)
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "needs: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny --locked check --hide-inclusion-graph advisories

bench: ## what Trunkline costs beside PgBouncer and others (25 minutes); ARGS="--suites pgbench --filter c16"
	@.ci/install-tools build postgres pgbouncer
	$(CARGO) bench --locked --bench e2e -- $(ARGS)

CITUS_RESULTS = $(or $(CARGO_TARGET_DIR),target)/citus

bench-citus: ## what sending statements to the owner of their shard saves (3 minutes); TRUNKLINE_TEST_CITUS=postgres://user:pw@coordinator/db
	@.ci/install-tools build postgres
	$(CARGO) bench --locked --bench e2e -- --suites citus --scale 1 \
		--json $(CITUS_RESULTS).json --markdown $(CITUS_RESULTS).md $(ARGS)

idle: ## of these, only what many idle clients cost; ARGS="--idle-clients 5000"
	@$(MAKE) --no-print-directory bench ARGS='--suites idle $(ARGS)'

budget: ## what a statement costs in system calls and instructions, and whether that is too much; ARGS="--suites syscalls"
	@.ci/install-tools build postgres strace valgrind
	$(CARGO) bench --locked --bench budget -- $(ARGS)
