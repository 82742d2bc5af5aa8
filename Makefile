# Goldsmith. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

export CGO_ENABLED := 0
export GOFLAGS := -mod=readonly -trimpath -buildvcs=false

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
HELPER  := internal/provision/bin/helper-linux-amd64.gz
PROXY   := internal/proxyvm/bin/init-linux-amd64.gz
CACHE   := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/goldsmith

# What a build host needs, and what the tests need beside it.
PACKAGES      := qemu-system-x86 qemu-utils ovmf mmdebstrap uidmap mtools dosfstools fdisk e2fsprogs \
                 systemd-boot-efi grub-pc-bin grub-common ca-certificates
TEST_PACKAGES := util-linux

.PHONY: help build packages demo test test-fast lint bench soak clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: bin/goldsmith ## build the program

bin/goldsmith: $(HELPER) $(PROXY) FORCE
	@go build -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/goldsmith

$(HELPER): $(shell find internal/provision -name '*.go' -not -name '*_test.go') go.sum
	@go generate ./internal/provision

$(PROXY): $(shell find internal/proxyvm internal/machine/cloudkernel -name '*.go' -not -name '*_test.go') go.sum
	@go generate ./internal/proxyvm

packages: ## install the Debian packages that a build host lacks
	@scripts/install-packages $(PACKAGES)

demo: packages build ## build examples/hello-linux, boot the result, show proof
	@scripts/demo

lint: $(HELPER) $(PROXY) ## formatting, vet, staticcheck, architecture
	@scripts/lint

test-fast: $(HELPER) $(PROXY) ## unit tests and architecture: no VM, no installs
	@go test ./...

test: packages build ## every test tier
	@scripts/install-packages $(TEST_PACKAGES)
	@scripts/test

soak: packages build ## long fault matrices on real machines
	@scripts/soak

bench: packages build ## measure: prints a table, writes bench/results.json
	@scripts/bench $(BENCH)

clean: ## remove what make built
	@rm -rf bin $(HELPER) $(PROXY)

FORCE:
