export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
.DEFAULT_GOAL := help
.PHONY: help setup demo test check build bench faults fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## npm packages, a Docker engine, compose, rsync and the checkers, where they are missing
	@scripts/setup.sh

demo: setup ## the main job, for real: agent, stack, merges, an undo, a killed agent, a backup, a refusal; then clean up
	@scripts/with-engine.sh node test/demo/main.ts

test: setup ## every check and every test
	@scripts/check.sh
	@scripts/with-engine.sh scripts/test.sh

check: setup ## types, lint, walls, dist, shell scripts and workflows
	@scripts/check.sh

build: setup ## dist/, which is committed
	@scripts/build.sh

bench: setup ## benchmarks against ssh and a bare server, as ratios
	@scripts/with-engine.sh node bench/main.ts

faults: setup ## random kills of everything at random moments, on an engine of its own: ROUNDS=200 SEED=1
	@ROUNDS=$(ROUNDS) SEED=$(SEED) node test/faults/main.ts

fuzz: setup ## what strangers send, changed at random: CASES=1000000 SEED=…
	@CASES=$(CASES) SEED=$(SEED) node test/fuzz/main.ts

clean: ## what was built or installed here
	rm -rf build node_modules
