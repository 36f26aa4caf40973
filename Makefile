# `make help` says what there is. Everything that is installed goes to the
# system's packages (servers, a browser) or to the cache folder below.
CACHE ?= $(HOME)/.cache/dhow
GO ?= go
# A bound for each package, with the race detector, on two busy cores: the slowest take ten minutes.
TEST_TIMEOUT ?= 25m
# What these try runs as processes of its own, which have no race detector: it would make
# them pack images ten times as slowly, and find nothing.
PROCESSES = tests/chaos tests/kubernetes
# Clusters of one's own take root; without it their tests say so and are skipped.
KUBE = $(if $(filter 0,$(shell id -u)),--kube)

.DEFAULT_GOAL := help
.PHONY: help setup build images demo cluster test test-operator bench bench-postgres bench-mariadb bench-redis bench-gate bench-assess bench-landing bench-operator lint fuzz clean

help: ## this text
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## install what this machine lacks: PostgreSQL, MariaDB, Redis, a browser (ARGS=--kube: clusters too)
	@hack/setup $(ARGS)

build: ## build bin/dhow and bin/superapp
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ ./cmd/dhow ./superapp/cmd/superapp

images: ## the super-app's container images, their digests and sizes (ARGS="--push 127.0.0.1:5000/superapp --tag v1")
	@$(GO) run ./superapp/cmd/images $(ARGS)

superapp: build ## the whole application on this machine, with servers and data (ARGS="--scale 100000")
	@hack/setup
	@bin/superapp run $(ARGS)

demo: build ## a whole voyage on this machine under live traffic (ARGS="--rollback --rate 800", or "--kubernetes" as root)
	@hack/setup $(if $(findstring --kubernetes,$(ARGS)),--kube)
	@bin/dhow demo $(ARGS)

cluster: build ## a Kubernetes cluster with the old deployment in its pods until Ctrl-C, as root (ARGS="--empty")
	@hack/setup --kube
	$(GO) build -trimpath -o bin/ ./internal/demo/cluster
	@bin/cluster $(ARGS)

test: ## every test, with the race detector, real servers and, as root, real clusters
	@hack/setup $(KUBE)
	$(GO) vet ./...
	failed=0; \
	$(GO) test -race -count=1 -timeout $(TEST_TIMEOUT) $$($(GO) list ./... | grep -v $(PROCESSES:%=-e /%$$)) || failed=1; \
	$(GO) test -count=1 -timeout $(TEST_TIMEOUT) $(PROCESSES:%=./%) || failed=1; \
	exit $$failed

test-operator: ## the operator killed, cut off and fought; rollouts under load, as root: on a machine that does nothing else (ARGS="-whole -timeout 90m")
	@hack/setup $(KUBE)
	$(GO) test -count=1 -v ./tests/operator -alone $(ARGS)

bench: bench-gate bench-postgres bench-mariadb bench-redis bench-assess bench-landing bench-operator ## all side-by-side measurements

bench-postgres: ## the PostgreSQL mover beside pgcopydb and native replication
	@hack/setup --bench
	$(GO) run ./bench/postgres $(ARGS)

bench-mariadb: ## the MariaDB mover's copy beside mydumper and myloader
	@hack/setup --bench
	$(GO) run ./bench/mariadb $(ARGS)

bench-redis: ## the Redis mover beside REPLICAOF
	@hack/setup
	$(GO) run ./bench/redis $(ARGS)

bench-gate: ## the gate beside a direct connection
	$(GO) run ./bench/gate $(ARGS)

bench-assess: build ## the assessment beside kube-score, and of 100,000 objects
	@hack/setup --bench
	$(GO) run ./bench/assess $(ARGS)

bench-landing: ## the deployment of a landing zone beside its critical path
	$(GO) run ./bench/landing $(ARGS)

bench-operator: build ## the operator with 1,000 and 10,000 Exposures at a real API server (ARGS="-quick -v")
	@hack/setup --kube
	$(GO) run ./bench/operator $(ARGS)

lint: ## golangci-lint, govulncheck and shell checks
	@hack/lint

fuzz: ## each fuzz test for half a minute
	@hack/fuzz

clean: ## remove what was built and the demo's state; the cache stays
	rm -rf bin .dhow
