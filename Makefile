# `make help` lists the targets. All except build, lint and install need root: they boot a throwaway machine.

PREFIX  ?= /usr
DESTDIR ?=
PROFILE ?= release
CARGO   ?= cargo

bindir     = $(DESTDIR)$(PREFIX)/bin
unitdir    = $(DESTDIR)$(PREFIX)/lib/systemd/system
confdir    = $(DESTDIR)/etc/zexio
mandir     = $(DESTDIR)$(PREFIX)/share/man/man1
bashdir    = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir     = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir    = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
target_dir = $(or $(CARGO_TARGET_DIR),target)
built      = $(target_dir)/$(patsubst dev,debug,$(PROFILE))

SEEDS ?= 200000
FROM  ?= 0
STEPS ?= 40

.PHONY: help build demo test sim bench fuzz coverage mutants lint install uninstall clean packages

help:
	@echo 'make build     build the binary (PROFILE=release|dev)'
	@echo 'make demo      boot a throwaway machine and deploy the examples in it, step by step (KEEP=1 leaves it up)'
	@echo 'make test      all tests: the pure ones, and those on throwaway machines'
	@echo 'make sim       run simulated lives with faults (SEEDS=200000 FROM=0); docs/invariants.md has what is checked'
	@echo 'make bench     time a deploy against the same steps by hand; figures in target/bench.json'
	@echo 'make fuzz      fuzz every parser of untrusted input, for FUZZ_SECONDS=30 each'
	@echo 'make coverage  which lines of model, plan and render the tests without a machine reach'
	@echo 'make mutants   make every small change to the planner, count what the tests catch (MUTANTS=rollout.rs: there)'
	@echo 'make lint      formatting and clippy'
	@echo 'make install   install the binary, man pages, completions, units and template (PREFIX=/usr, DESTDIR=)'
	@echo 'make clean     remove what was built'

build:
	$(CARGO) build --locked --profile $(PROFILE) --bin zexio

demo: packages
	$(CARGO) build --locked --profile $(PROFILE) --bin zexio --example hello --example load
	PROFILE=$(PROFILE) KEEP=$(KEEP) BUILT=$(abspath $(built)) tests/machine/demo.sh

# Two at a time: each machine test boots its own machine. Examples are built too: the machines run them.
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

# A stable compiler is enough: libFuzzer's counters are an LLVM pass. With --target, build scripts are built without them.
FUZZ_SECONDS ?= 30
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares
host = $(shell rustc -vV | sed -n 's/^host: //p')

fuzz: packages
	RUSTFLAGS='$(FUZZ_FLAGS)' $(CARGO) build --locked --release --target $(host) \
	  --manifest-path fuzz/Cargo.toml --target-dir $(target_dir)/fuzz
	fuzz/run.sh $(target_dir)/fuzz $(host) $(FUZZ_SECONDS)

# All decisions are tested without a machine, so only those tests are measured. Prints a table, then the lines that no
# test reaches.
pure_tests = --lib --test sim --test golden --test properties

coverage: packages
	@rustup component list --installed 2>/dev/null | grep -q llvm-tools || rustup component add llvm-tools
	@$(CARGO) llvm-cov --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-llvm-cov
	@# Files of an older build would be counted as missed.
	$(CARGO) llvm-cov clean --workspace
	$(CARGO) llvm-cov --locked --no-fail-fast $(pure_tests) --no-report
	@$(CARGO) llvm-cov report --show-missing-lines | awk -f tests/coverage.awk

# All mutants that cargo-mutants knows are compiled at once, so each costs a run of the tests and no build. MUTANTS
# selects those with one of these words in their name; SWARM is the number of simulated lives for a survivor of the golden
# plans.
MUTANTS ?=
SWARM   ?= 1500
mutants: packages
	@$(CARGO) mutants --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-mutants
	SWARM=$(SWARM) tests/mutants/mutants.py $(target_dir)/mutants $(MUTANTS)

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) check --locked --manifest-path fuzz/Cargo.toml --target-dir $(target_dir)
	tests/mutants/crate.sh $(target_dir)/mutants
	$(CARGO) check -q --locked --manifest-path $(target_dir)/mutants/Cargo.toml --test golden --test sim --target-dir $(target_dir)

packages:
	@tests/machine/packages.sh

# Does not build if there is a binary: on a server `make install` runs as root, and the build need not.
$(built)/zexio:
	$(MAKE) build

install: $(if $(wildcard $(built)/zexio),,$(built)/zexio)
	install -D -m 755 $(built)/zexio $(bindir)/zexio
	install -D -m 644 -t $(unitdir) systemd/zexio-agent.service systemd/zexio-apps.slice
	sed -i 's|^ExecStart=/usr/bin/|ExecStart=$(PREFIX)/bin/|' $(unitdir)/zexio-agent.service
	install -d -m 755 $(mandir) $(bashdir) $(zshdir) $(fishdir)
	$(built)/zexio man $(mandir)
	$(built)/zexio completions bash >$(bashdir)/zexio
	$(built)/zexio completions zsh >$(zshdir)/_zexio
	$(built)/zexio completions fish >$(fishdir)/zexio.fish
	@[ -d $(confdir) ] || install -d -m 755 $(confdir)
	@# A template that the operator changed stays; a copy of the last installed one tells a change from an old version.
	@if [ ! -e $(confdir)/Caddyfile.tmpl ] || cmp -s $(confdir)/Caddyfile.tmpl $(confdir)/.Caddyfile.tmpl.installed; then \
	  install -m 644 Caddyfile.tmpl $(confdir)/Caddyfile.tmpl; rm -f $(confdir)/Caddyfile.tmpl.new; \
	elif ! cmp -s $(confdir)/Caddyfile.tmpl Caddyfile.tmpl; then \
	  install -m 644 Caddyfile.tmpl $(confdir)/Caddyfile.tmpl.new; \
	  echo 'kept your $(confdir)/Caddyfile.tmpl; the new one is Caddyfile.tmpl.new beside it'; \
	fi
	@install -m 644 Caddyfile.tmpl $(confdir)/.Caddyfile.tmpl.installed
	@# Earlier versions made the directory of Caddy's admin socket by a drop-in; now a line in tmpfiles.d does, which stays
	@# after `make uninstall`, since the Caddyfile names the socket.
	@if [ -e $(unitdir)/caddy.service.d/zexio.conf ]; then \
	  install -d -m 755 $(DESTDIR)/etc/tmpfiles.d; \
	  [ -e $(DESTDIR)/etc/tmpfiles.d/zexio-caddy.conf ] || \
	    echo 'd /run/caddy 0700 caddy caddy -' >$(DESTDIR)/etc/tmpfiles.d/zexio-caddy.conf; \
	  rm -f $(unitdir)/caddy.service.d/zexio.conf; rmdir $(unitdir)/caddy.service.d 2>/dev/null || true; \
	fi
	@if [ -z '$(DESTDIR)' ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

# Leaves /etc/zexio, /var/lib/zexio and /zexio: keys, data and settings belong to the operator. The directory of the
# admin socket and /etc/caddy/zexio.caddyfile stay too: the operator's Caddyfile names them, and Caddy serves with them.
uninstall:
	rm -f $(bindir)/zexio $(unitdir)/zexio-agent.service $(unitdir)/zexio-apps.slice
	rm -f $(mandir)/zexio.1 $(mandir)/zexio-*.1 $(bashdir)/zexio $(zshdir)/_zexio $(fishdir)/zexio.fish
	@if [ -z '$(DESTDIR)' ]; then \
	  echo 'zexio is removed from $(PREFIX). Running apps continue until they end or the machine reboots: zexio starts them.'; \
	  echo 'If the agent still runs: systemctl disable --now zexio-agent'; \
	  echo 'Caddy keeps serving with /etc/caddy/zexio.caddyfile. To remove it: delete its import and the admin line from'; \
	  echo '/etc/caddy/Caddyfile, systemctl reload caddy, then delete it and /etc/tmpfiles.d/zexio-caddy.conf.'; \
	fi

clean:
	-tests/machine/machine.sh gc
	$(CARGO) clean
