# Every target runs on a fresh machine after a clone: `setup` installs what is missing, and is quick when nothing is.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

# The sinks that have an example `throughput`.
BENCHED := kafka nats webhook file console

.DEFAULT_GOAL := help
.PHONY: help setup build lint deny test demo sim fuzz bench bench-journal bench-query bench-sinks size chaos docker-test dist dist-test \
	web test-web clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what building and testing needs
	@scripts/setup

build: setup ## Build the zkbridge command for release, into target/release
	$(CARGO) build --release --locked

lint: setup ## Check formatting, lints and documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

deny: setup ## Check the dependencies: licences, bans, sources, and known vulnerabilities where these can be reached
	@scripts/deny

test: setup ## Run all tests, on real servers too; ZKBRIDGE_TESTS=offline leaves those out
	CARGO="$(CARGO)" scripts/test

web: ## Build the page from web/src into web/dist, which is committed
	@scripts/setup web
	cd web && npm ci --no-audit --no-fund && npm run --silent check && npm run --silent build

test-web: ## Compare web/dist with web/src, and test the page with Chromium, a real bridge and a real ZooKeeper
	@scripts/setup web
	cd web && npm ci --no-audit --no-fund && npm run --silent check && npm test
	@# The programs beside these tests, as `make test` builds them, so that nothing is built twice.
	$(CARGO) test --workspace --locked --no-run --test command_line --test child
	$(TARGET)/debug/fetch-servers
	cd web && ZKBRIDGE_BINARY=$(abspath $(TARGET))/debug/zkbridge \
		ZKBRIDGE_CACHE=$(or $(ZKBRIDGE_CACHE),$(CURDIR)/.cache/servers) npm run --silent test-browser

demo: setup ## Start ZooKeeper and Kafka, bridge them and show it; KEEP=1 keeps them running
	$(CARGO) build --locked -p zkbridge -p bridge-demo
	$(TARGET)/debug/demo $(if $(KEEP),--keep)

sim: setup ## Play SEEDS=n seeds of the simulator on all cores; ends with 1 if one fails or a state is never reached
	ZKBRIDGE_SEEDS=$(or $(SEEDS),10000) $(CARGO) run --release --locked -p bridge-simulator --bin simulate

fuzz: setup ## Mutate what comes from outside, let servers be hostile and ask the API, TIMES=n times as long as in tests
	ZKBRIDGE_FUZZ=$(or $(TIMES),100) $(CARGO) test --release --locked -p bridge-fuzz -- --nocapture
	$(CARGO) build --locked -p bridge-servers
	$(TARGET)/debug/fetch-servers
	ZKBRIDGE_FUZZ=$(or $(TIMES),100) $(CARGO) test --locked -p zkbridge --test end_to_end hostile:: -- --nocapture
	ZKBRIDGE_FUZZ=$(or $(TIMES),100) $(CARGO) test --locked -p zkbridge --test http_api described:: -- --nocapture

bench: ## Measure the bridge beside a bare pipeline and Curator; QUICK=1 for minutes, SCENARIO=sustained,idle for some
	@scripts/setup bench
	$(CARGO) build --release --locked -p zkbridge -p bridge-bench
	@mkdir -p $(TARGET)/bench
ifeq ($(QUICK)$(SCENARIO),)
	$(CARGO) bench --locked -p bridge-core --bench journal >$(TARGET)/bench/journal.txt
endif
	$(TARGET)/release/bench run --bridge $(TARGET)/release/zkbridge --folder $(TARGET)/bench \
		$(if $(QUICK),--quick) $(if $(SCENARIO),--scenario $(SCENARIO)) \
		$(if $(QUICK)$(SCENARIO),,--journal $(TARGET)/bench/journal.txt)

bench-journal: setup ## Measure the journal alone, with a million znodes
	$(CARGO) bench --locked -p bridge-core --bench journal

bench-query: setup ## Answer questions from a journal of RECORDS=n records, 10 million; fails where one takes too long
	$(if $(RECORDS),ZKBRIDGE_BENCH_RECORDS=$(RECORDS)) $(CARGO) bench --locked -p bridge-query --bench query

bench-sinks: setup ## Measure each sink beside the bare client below it, with the same settings and records
	@# One by one: the examples have the same name.
	@for sink in $(BENCHED); do $(CARGO) build --release --locked -p bridge-$$sink --example throughput || exit 1; done
	@echo "| sink     | bare client              | sink        | bare        | ratio |"
	@echo "| -------- | ------------------------ | ----------- | ----------- | ----- |"
	@for sink in $(BENCHED); do \
		$(CARGO) run -q --release --locked -p bridge-$$sink --example throughput | grep '^|' || exit 1; \
	done

size: setup ## Measure memory and time with a million znodes, large values and storms; fails beyond the promised bounds
	$(CARGO) build --release --locked -p zkbridge
	ZKBRIDGE_SIZES=full ZKBRIDGE_BINARY=$(abspath $(TARGET))/release/zkbridge \
		$(CARGO) test --locked -p zkbridge --test end_to_end sizes:: -- --nocapture --test-threads=1
	ZKBRIDGE_SIZES=full $(CARGO) test --locked -p bridge-transactions --test tree_memory -- --nocapture

docker-test: setup ## Build the image and let it run, with Docker where its engine answers, else with buildah
	@scripts/docker-test

dist: ## Make the packages, the image and their checksums, into target/dist-out
	@scripts/dist

dist-test: ## Install what make dist made into clean roots, start and upgrade it; QUICK=1 packs the program of the tests
	@scripts/dist-test $(if $(QUICK),--quick)

chaos: setup ## Let everything fail at random on real servers: MINUTES=30, SEED=1, CAPTURE=watch, observer or txnlog
	$(CARGO) build --release --locked -p zkbridge -p bridge-chaos
	$(CARGO) run --release --locked -p bridge-servers --bin fetch-servers
	$(TARGET)/release/chaos --bridge $(TARGET)/release/zkbridge --keep $(TARGET)/chaos \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(CAPTURE),--capture $(CAPTURE))

clean: ## Remove what was built; the fetched servers in .cache stay
	$(CARGO) clean
