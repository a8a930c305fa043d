# make help says what there is. Everything but build, lint and install needs root: it boots a throwaway machine.

PREFIX  ?= /usr
DESTDIR ?=
PROFILE ?= release
CARGO   ?= cargo

bindir     = $(DESTDIR)$(PREFIX)/bin
unitdir    = $(DESTDIR)$(PREFIX)/lib/systemd/system
confdir    = $(DESTDIR)/etc/zexio
target_dir = $(or $(CARGO_TARGET_DIR),target)
built      = $(target_dir)/$(patsubst dev,debug,$(PROFILE))

SEEDS ?= 200000
FROM  ?= 0
STEPS ?= 40

.PHONY: help build demo test sim bench lint install uninstall clean packages

help:
	@echo 'make build     build the binary (PROFILE=release|dev)'
	@echo 'make demo      boot a throwaway machine, deploy the examples in it, tell the story (KEEP=1 leaves it up)'
	@echo 'make test      all tests: pure ones, and the contract on throwaway machines'
	@echo 'make sim       live many simulated lives with faults (SEEDS=200000 FROM=0); docs/invariants.md says what is checked'
	@echo 'make bench     time a deploy against the same steps by hand; figures in target/bench.json'
	@echo 'make lint      formatting and clippy'
	@echo 'make install   install the binary, units and template (PREFIX=/usr, DESTDIR=)'
	@echo 'make clean     remove what was built'

build:
	$(CARGO) build --locked --profile $(PROFILE) --bin zexio

demo: packages
	$(CARGO) build --locked --profile $(PROFILE) --bin zexio --example hello --example load
	PROFILE=$(PROFILE) KEEP=$(KEEP) BUILT=$(abspath $(built)) tests/machine/demo.sh

# Two at a time: each machine test boots a machine of its own. Examples are built too: the machines run them.
test: packages
	tests/machine/newer-caddy.sh $(target_dir)/caddy
	tests/machine/schemathesis/install.sh $(target_dir)/schemathesis
	tests/machine/service-packages.sh $(target_dir)/packages
	$(CARGO) test --locked --no-fail-fast -- --test-threads=2

sim:
	SEEDS=$(SEEDS) FROM=$(FROM) STEPS=$(STEPS) RUST_BACKTRACE=0 \
	  $(CARGO) test --locked --release --test sim -- --ignored --exact swarm::report::a_large_swarm --nocapture

bench: packages
	$(CARGO) build --locked --profile $(PROFILE) --bin zexio --example hello --example bench
	PROFILE=$(PROFILE) BUILT=$(abspath $(built)) tests/machine/bench.sh

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

packages:
	@tests/machine/packages.sh

# Builds nothing when a binary is there: on a server it runs as root, and the build need not.
$(built)/zexio:
	$(MAKE) build

install: $(if $(wildcard $(built)/zexio),,$(built)/zexio)
	install -D -m 755 $(built)/zexio $(bindir)/zexio
	install -D -m 644 -t $(unitdir) systemd/zexio-agent.service systemd/zexio-apps.slice
	sed -i 's|^ExecStart=/usr/bin/|ExecStart=$(PREFIX)/bin/|' $(unitdir)/zexio-agent.service
	@[ -d $(confdir) ] || install -d -m 755 $(confdir)
	@# A template that the operator changed stays; the note of what was installed last tells a change from an old version.
	@if [ ! -e $(confdir)/Caddyfile.tmpl ] || cmp -s $(confdir)/Caddyfile.tmpl $(confdir)/.Caddyfile.tmpl.installed; then \
	  install -m 644 Caddyfile.tmpl $(confdir)/Caddyfile.tmpl; rm -f $(confdir)/Caddyfile.tmpl.new; \
	elif ! cmp -s $(confdir)/Caddyfile.tmpl Caddyfile.tmpl; then \
	  install -m 644 Caddyfile.tmpl $(confdir)/Caddyfile.tmpl.new; \
	  echo 'kept your $(confdir)/Caddyfile.tmpl; the new one is Caddyfile.tmpl.new beside it'; \
	fi
	@install -m 644 Caddyfile.tmpl $(confdir)/.Caddyfile.tmpl.installed
	@# A running Caddy gets the directory of its admin socket by one restart, the only one ever needed.
	@fresh=; cmp -s systemd/caddy-zexio.conf $(unitdir)/caddy.service.d/zexio.conf || fresh=1; \
	install -D -m 644 systemd/caddy-zexio.conf $(unitdir)/caddy.service.d/zexio.conf; \
	if [ -z '$(DESTDIR)' ] && [ -d /run/systemd/system ]; then \
	  systemctl daemon-reload; \
	  if [ -n "$$fresh" ]; then systemctl try-restart caddy.service; fi; \
	fi

# Leaves /etc/zexio and /zexio: keys, data and the operator's settings are not the package's.
uninstall:
	rm -f $(bindir)/zexio $(unitdir)/zexio-agent.service $(unitdir)/zexio-apps.slice $(unitdir)/caddy.service.d/zexio.conf
	-rmdir $(unitdir)/caddy.service.d

clean:
	-tests/machine/machine.sh gc
	$(CARGO) clean
