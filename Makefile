# microvm-cni: see `make help`.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

GO ?= go

# sudo resets PATH to one without the usual place of Go.
export PATH := $(PATH):/usr/local/go/bin

# The version that a plugin prints when it is run without CNI_COMMAND. It is
# the same for root in the checkout of a user, where git would refuse.
override VERSION := $(or $(VERSION),$(shell git -c safe.directory='$(CURDIR)' describe --tags --always --dirty 2>/dev/null),unknown)

# Where `make install` puts the plugins, below DESTDIR.
PLUGINDIR ?= /opt/cni/bin

# What `make test` tests; RUN is a pattern as for `go test -run`.
PKG ?= ./...
RUN ?=

# What `make test-kernels` boots, the packages that it runs there (folders, or
# patterns such as pkg/kernel/...), tests that it leaves out (one measures peers,
# and needs nft with JSON), and how long a package may take (40m; on a busy machine
# TIMEOUT=90m).
KERNELS ?= 5.10 6.1 6.12
SUITES  ?= tests/kernels/probe tests/netns pkg/datapath/... pkg/shape tests/chain tests/vlan
SKIP    ?= ^TestWhatPeersStop$$
TIMEOUT ?=

MODULE   := github.com/microvm-cni/microvm-cni
LDFLAGS  := -s -w -X $(MODULE)/pkg/verbs.Version=$(VERSION)
CACHE    := $(CURDIR)/.cache
PEERS    := $(CACHE)/peers
CNI      := github.com/containernetworking/cni
CNI_IPAM := github.com/containernetworking/plugins/plugins/ipam
CNI_META := github.com/containernetworking/plugins/plugins/meta

# The linter's dependencies stay out of go.mod: `go install` with a version
# takes them from the linter's own go.mod, checked by the checksum database.
LINTER_VERSION := v2.15.0
LINTER_MODULE  := github.com/golangci/golangci-lint/v2
LINTER         := $(CACHE)/bin/golangci-lint-$(LINTER_VERSION)

# No git state in a binary but VERSION: a build in an exported tree, or as
# another user than the owner of the checkout, gives the same bytes.
export GOFLAGS := $(filter-out -buildvcs%,$(GOFLAGS)) -buildvcs=false

.PHONY: build
build: needs-go ## build the plugins into bin/: static, reproducible
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./plugins/...

.PHONY: install
install: build ## install the plugins into $(DESTDIR)/opt/cni/bin
	install -d '$(DESTDIR)$(PLUGINDIR)'
	install -m 0755 bin/* '$(DESTDIR)$(PLUGINDIR)/'

.PHONY: demo
demo: ## boot two microVMs on a bridge and watch them ping (root)
	scripts/demo

# A skipped test fails the run: a suite that skipped is not green. With
# MICROVM_CNI_ALLOW_SKIP=1 the skips are only listed and counted.
#
# Vet has its own step (hence -vet=off). Two packages at a time: more than that
# makes guests in software emulation starve each other, on any machine.
.PHONY: test
test: needs-root needs-go ## run all tests, with the race detector (root); PKG=./pkg/... RUN=TestX to narrow
	scripts/prepare test
	@echo '#include <stdlib.h>' | $${CC:-gcc} -E -x c -o /dev/null - 2>/dev/null || \
		{ echo 'make test: the race detector needs a C compiler and the C headers: apt-get install gcc libc6-dev' >&2; exit 1; }
	@$(MAKE) --no-print-directory build peers
	$(GO) vet ./...
	@$(GO) build -o $(CACHE)/report ./tests/report
	CGO_ENABLED=1 $(GO) test -race -count=1 -p 2 -timeout 18m -vet=off -json $(if $(RUN),-run '$(RUN)') $(PKG) | $(CACHE)/report

# A module of its own: the runtimes' dependencies stay out of the plugins' go.mod.
.PHONY: test-compat
test-compat: needs-root needs-go ## hold results against the parser of firecracker-go-sdk (root)
	@$(GO) build -o $(CACHE)/report ./tests/report
	$(GO) vet -C tests/compat ./...
	$(GO) test -C tests/compat -count=1 -timeout 5m -vet=off -json ./... | $(CACHE)/report

# In software emulation; docs/kernels.md has the results. Fault injection tries one
# in 60 of the faults that `make test` tries: those are hundreds of plugin runs.
test-kernels: export MICROVM_CNI_FAULTS := $(or $(MICROVM_CNI_FAULTS),60)
.PHONY: test-kernels
test-kernels: needs-go ## run tests on Debian's kernels, in QEMU; KERNELS=6.1 SUITES=tests/netns RUN=TestX to narrow
	scripts/prepare kernels $(KERNELS)
	@$(GO) build -o $(CACHE)/report ./tests/report
	@$(GO) build -o $(CACHE)/bin/kernels ./tests/kernels
	$(CACHE)/bin/kernels -suites '$(SUITES)' $(if $(RUN),-run '$(RUN)') $(if $(SKIP),-skip '$(SKIP)') $(if $(TIMEOUT),-timeout $(TIMEOUT)) $(KERNELS) | $(CACHE)/report

.PHONY: bench-bandwidth
bench-bandwidth: needs-root needs-go ## measure ways to limit a guest's bandwidth (root)
	$(GO) run ./tests/bench/bandwidth

# How many mutated frames `make fuzz` judges.
FRAMES ?= 100000000

.PHONY: fuzz
fuzz: needs-root needs-go ## hold the guard to its oracle on 100 million mutated frames (root); FRAMES=1000000 for fewer
	$(GO) test -count=1 -timeout 5h -v -run '^TestMutated$$' ./pkg/datapath/guard -frames $(FRAMES)

.PHONY: test-mutation
test-mutation: needs-root needs-go ## leave out each rule of the guard: an attack must get through (root, clang-14)
	scripts/prepare lint
	$(GO) test -count=1 -timeout 20m -tags mutation -run '^TestWithoutRule$$' ./pkg/datapath/guard

.PHONY: bench-guard
bench-guard: needs-root needs-go ## measure the guard: a frame, what it takes to attach it, and end to end (root)
	$(GO) test -count=1 -run '^$$' -bench . ./pkg/datapath/guard
	CGO_ENABLED=0 $(GO) build -trimpath -o $(CACHE)/bench/ ./plugins/... $(CNI_IPAM)/host-local
	$(GO) run ./tests/bench/guard $(CACHE)/bench

.PHONY: bench-splice
bench-splice: needs-root needs-go ## measure ways to connect a tap in a namespace of its own (root); ALL=1 for all that was tried, PLUGINS=folder for what they make
	$(GO) run ./tests/bench/splice $(if $(ALL),-all) $(if $(PLUGINS),-plugins $(PLUGINS))

.PHONY: generate
generate: needs-go ## compile the BPF programs (clang-14)
	scripts/prepare lint
	scripts/generate

.PHONY: check-generated
check-generated: needs-go ## check that the compiled BPF programs are what their source gives
	scripts/prepare lint
	scripts/generate --check

.PHONY: lint
lint: check-generated $(LINTER) ## check style, layers, forbidden calls and shell scripts, and that arm64 builds
	shellcheck $$(grep -rlE '^#!/(usr/)?bin/(env )?(ba)?sh$$' .ci scripts tests)
	$(LINTER) config verify
	$(LINTER) run ./...
	GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...
	GOARCH=arm64 CGO_ENABLED=0 $(GO) build -trimpath -o $(CACHE)/arm64/ ./plugins/...

$(LINTER): | needs-go
	@echo 'building golangci-lint $(LINTER_VERSION) once, about two minutes'
	@mkdir -p $(@D)
	GOBIN=$(@D) $(GO) install -trimpath -ldflags '-s -w' $(LINTER_MODULE)/cmd/golangci-lint@$(LINTER_VERSION)
	mv $(@D)/golangci-lint $@

.PHONY: peers
peers: needs-go ## build cnitool, host-local, static, portmap and firewall into .cache/peers, in the versions of go.mod
	CGO_ENABLED=0 $(GO) build -trimpath -o $(PEERS)/ $(CNI)/cnitool $(CNI_IPAM)/host-local $(CNI_IPAM)/static \
		$(CNI_META)/portmap $(CNI_META)/firewall

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf bin .cache

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z][a-z-]*):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: needs-root
needs-root:
	@[ "$$(id -u)" -eq 0 ] || { echo 'make test: the tests need root, for network namespaces and taps: sudo make test' >&2; exit 1; }

.PHONY: needs-go
needs-go:
	@command -v $(GO) >/dev/null || { echo 'make: $(GO) is not in PATH; if sudo hides it: sudo env PATH="$$PATH" make ...' >&2; exit 1; }
