export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
.DEFAULT_GOAL := help
.PHONY: help setup demo test check unit e2e build bench attack faults fuzz clean

ATTACKS := attacks before-authentication checked-config compose-differential compose-render compose-rules path-attacks stack-boundaries

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: npm packages, a Docker engine, compose, rsync, the checkers
	@scripts/setup.sh

demo: setup ## run the whole product: agent, stack, merges, undo, killed agent, backup, refusal; then clean up
	@scripts/with-engine.sh node test/demo/main.ts

test: setup ## run every check and every test
	@scripts/check.sh
	@scripts/with-engine.sh scripts/test.sh

check: setup ## check types, lint, walls, unused code, dist, shell scripts and workflows
	@scripts/check.sh

unit: setup ## run the tests that need no engine, and print their coverage
	@scripts/test.sh --project unit --coverage
	@node scripts/coverage.ts

e2e: setup ## run the tests of the bundles against a real engine: SHARD=1/4
	@scripts/with-engine.sh scripts/test.sh --project e2e $(if $(SHARD),--shard=$(SHARD))

build: setup ## build dist/, which is committed
	@scripts/build.sh

bench: setup ## measure against ssh and a bare server, and print ratios
	@scripts/with-engine.sh node bench/main.ts

attack: setup ## attack the host's rules with both versions of compose: files, paths, stacks, connections: CASES=100000
	@CASES=$(CASES) vitest run --project unit agent/compose
	@scripts/with-engine.sh vitest run --project e2e $(ATTACKS:%=test/%.e2e.test.ts)
	@DOCKER_CONFIG=$$(scripts/newest-compose.sh) scripts/with-engine.sh vitest run --project e2e $(ATTACKS:%=test/%.e2e.test.ts)

faults: setup ## kill random processes at random moments, on an engine of their own: ROUNDS=200 SEED=1
	@ROUNDS=$(ROUNDS) SEED=$(SEED) node test/faults/main.ts

fuzz: setup ## change untrusted input at random: CASES=1000000 SEED=…
	@CASES=$(CASES) SEED=$(SEED) node test/fuzz/main.ts

clean: ## delete what was built or installed here
	rm -rf build node_modules
