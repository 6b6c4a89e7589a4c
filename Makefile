# Berth: a CNI plugin suite. `make demo` shows it, `make test` tests it.

PLUGINS     := $(notdir $(wildcard plugins/*))
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
DESTDIR     ?=
CNI_BIN_DIR ?= /opt/cni/bin
BINDIR      ?= /usr/local/bin
UNITDIR     ?= /usr/local/lib/systemd/system
MANDIR      ?= /usr/local/share/man/man8
FORCE       ?=
IMAGE       ?= localhost/berth-cni/berth:devel

export CGO_ENABLED := 0
LDFLAGS := -s -w -X github.com/berth-cni/berth/pkg/cni.Version=$(VERSION)

# What the tests and the demo run, in Debian's packages.
DEMO_PACKAGES := iproute2 nftables iptables conntrack curl iputils-ping procps
TEST_PACKAGES := $(DEMO_PACKAGES) strace containerd runc podman conmon busybox-static \
	etcd-server etcd-client ethtool redis-server dnsmasq-base bind9-dnsutils
BENCH_PACKAGES := $(TEST_PACKAGES) dnsperf aardvark-dns
BROWSER_PACKAGES := $(TEST_PACKAGES) chromium
KUBERNETES_PACKAGES := $(TEST_PACKAGES) netcat-openbsd wget
KERNEL_PACKAGES := $(TEST_PACKAGES) user-mode-linux qemu-system-x86 kmod

.PHONY: build image manifest demo demo-overlay test unit integration test-browser test-kernels test-kubernetes bench fresh lint install clean test-deps demo-deps

build: $(PLUGINS:%=bin/%) bin/berth

# go build knows better than make what is out of date.
.PHONY: $(PLUGINS:%=bin/%) bin/berth
$(PLUGINS:%=bin/%): bin/%:
	@go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./plugins/$*

bin/berth:
	@go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/berth

demo: build demo-deps
	@cd integration && go run ./demo -bin ../bin

demo-overlay: build overlay-deps
	@cd integration && go run ./demo-overlay -bin ../bin

test: unit integration

unit: test-deps
	go vet ./...
	$(MAKE) -C integration unit

integration: build test-deps
	$(MAKE) -C integration test

# The page of berth graph --serve, in a browser. With ARTIFACTS, a folder, pictures of it are kept
# there; with BERTH_PAGE=30s it is told what the server takes of a processor for so long.
test-browser: build browser-deps
	$(MAKE) -C integration test-browser $(if $(ARTIFACTS),ARTIFACTS='$(abspath $(ARTIFACTS))')

# Tests of packages on other kernels (integration/kernels), as
#   make test-kernels KERNEL='uml 6.12' RUN=TestVLAN PACKAGES=./pkg/link
test-kernels: kernel-deps
	@cd integration && go run ./kernels $(if $(RUN),-run '$(value RUN)') $(if $(PACKAGES),-packages '$(PACKAGES)') $(if $(TIMEOUT),-timeout $(TIMEOUT)) $(KERNEL)

# A Kubernetes of two nodes, and Kubernetes' own tests in it: some 50 minutes, of which conformance
# takes 8, what is beyond it 30 and services 4, and of a machine's first run half an hour of CPU more,
# which builds Kubernetes.
#   make test-kubernetes RUN=TestServices
test-kubernetes: build image kubernetes-deps
	$(MAKE) -C integration test-kubernetes $(if $(RUN),RUN='$(value RUN)')

bench: build bench-deps
	$(MAKE) -C integration bench
	go test -run xxx -bench Servers -benchtime 3x ./pkg/names/server

# The first commands of a new user, each on a new Debian (integration/fresh), the last of
# which systemd then boots, and has the agent as a service.
fresh: fresh-deps
	@cd integration && go run ./fresh 'make demo' 'make demo-overlay' 'make build install && berth --version && sh integration/fresh/boot.sh integration/fresh/service.sh'

# The image of the agent and the plugins, for `ctr -n k8s.io images import` and for `docker
# load`: bin/berth-image.tar, with a bill of materials for each architecture beside it.
# Nothing is asked for it but Go; the same commit makes the same file.
image:
	@cd integration && SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
		go run ./image -version '$(VERSION)' -ref '$(IMAGE)'

# deploy/berth.yaml and deploy/reset.yaml, from the chart.
manifest:
	@cd integration/manifest && go run . ../../deploy

# gofmt, go vet, and staticcheck of integration/go.mod. Of a machine's first run
# staticcheck takes a minute of CPU, of every other a few seconds: it keeps what it knows
# of packages in the user's cache folder.
STATICCHECK := $(CURDIR)/integration/.bin/staticcheck

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	cd integration && go vet ./...
	@cd integration && go build -trimpath -o $(STATICCHECK) honnef.co/go/tools/cmd/staticcheck
	$(STATICCHECK) ./...
	cd integration && $(STATICCHECK) ./...

# bridge, macvlan, ipvlan and loopback are names of the reference plugins, too.
install: build
	@mkdir -p '$(DESTDIR)$(CNI_BIN_DIR)'
	@for p in $(PLUGINS); do \
		old='$(DESTDIR)$(CNI_BIN_DIR)'/$$p; \
		if [ -e "$$old" ] && [ -z '$(FORCE)' ] && ! CNI_COMMAND= "$$old" 2>&1 </dev/null | grep -q '(berth)'; then \
			echo "$$old is another suite's: 'make install FORCE=1' replaces it," \
				"'make install CNI_BIN_DIR=...' goes elsewhere" >&2; exit 1; fi; \
	done
	install -m 755 $(PLUGINS:%=bin/%) '$(DESTDIR)$(CNI_BIN_DIR)'
	install -D -m 755 -t '$(DESTDIR)$(BINDIR)' bin/berth
	ln -sf berth '$(DESTDIR)$(BINDIR)/kubectl-berth'
	install -D -m 644 -t '$(DESTDIR)$(UNITDIR)' conf-examples/agent/berth-agent.service
	install -d '$(DESTDIR)$(MANDIR)'
	bin/berth doc man '$(DESTDIR)$(MANDIR)'

clean:
	rm -rf bin bench-out
	$(MAKE) -C integration clean

# Only what is missing is installed.
define apt
	@missing=; for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

overlay-deps:
	$(call apt,$(DEMO_PACKAGES) etcd-server etcd-client)

demo-deps:
	$(call apt,$(DEMO_PACKAGES))

fresh-deps:
	$(call apt,debootstrap)

bench-deps:
	$(call apt,$(BENCH_PACKAGES))

browser-deps:
	$(call apt,$(BROWSER_PACKAGES))

kubernetes-deps:
	$(call apt,$(KUBERNETES_PACKAGES))

kernel-deps:
	$(call apt,$(KERNEL_PACKAGES))

test-deps:
	$(call apt,$(TEST_PACKAGES))
