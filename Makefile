# What there is to do; `make help` lists it. Works from a clean clone on Debian 12 with the Rust toolchain, as root or
# with sudo.

PREFIX ?= /usr/local
TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE ?=
PROFILE := $(if $(RELEASE), --release)

BUILD_PACKAGES := build-essential cmake pkg-config ca-certificates
TEST_PACKAGES := $(BUILD_PACKAGES) nginx-light haproxy python3 python3-jwt python3-cryptography python3-grpcio openssl curl valgrind systemd \
  systemd-container faketime
BENCH_PACKAGES := $(BUILD_PACKAGES) python3 python3-matplotlib openssl curl wrk
PEER_PACKAGES := nginx-light haproxy
MORE_PEER_PACKAGES := $(PEER_PACKAGES) caddy nghttp2-client python3-venv protobuf-compiler

# Installs what of the packages $(1) is missing. Each is known by what is used of it, so that nothing is asked of apt where
# the tools came another way.
define need
@command -v cargo >/dev/null || { echo 'cargo is missing: install the Rust toolchain from https://rustup.rs' >&2; exit 1; }
@missing=; \
for package in $(1); do \
  case $$package in \
    build-essential) command -v cc && command -v c++ && command -v make ;; \
    ca-certificates) test -e /etc/ssl/certs/ca-certificates.crt ;; \
    nginx-light) test -x /usr/sbin/nginx ;; \
    haproxy) test -x /usr/sbin/haproxy ;; \
    nghttp2-client) command -v h2load ;; \
    protobuf-compiler) command -v protoc ;; \
    systemd) command -v systemd-analyze ;; \
    systemd-container) command -v systemd-nspawn ;; \
    python3-matplotlib) /usr/bin/python3 -c 'import matplotlib' ;; \
    python3-venv) /usr/bin/python3 -c 'import ensurepip' ;; \
    python3-grpcio) /usr/bin/python3 -c 'import grpc' ;; \
    python3-jwt) /usr/bin/python3 -c 'import jwt' ;; \
    python3-cryptography) /usr/bin/python3 -c 'import cryptography' ;; \
    testssl.sh) command -v testssl ;; \
    *) command -v $$package ;; \
  esac >/dev/null 2>&1 || missing="$$missing $$package"; \
done; \
[ -n "$$missing" ] || exit 0; \
command -v apt-get >/dev/null || { echo "missing, and there is no apt-get to install them:$$missing" >&2; exit 1; }; \
if [ "$$(id -u)" = 0 ]; then sudo=; \
elif command -v sudo >/dev/null; then sudo=sudo; \
else echo "missing, and neither root nor sudo to install them:$$missing" >&2; exit 1; fi; \
echo "installing$$missing"; \
$$sudo apt-get update -q && \
$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing || \
{ echo "these packages could not be installed:$$missing" >&2; exit 1; }
endef

# cargo-deb, below the target directory when it is nowhere else.
export PATH := $(PATH):$(abspath $(TARGET))/tools/bin
need_cargo_deb = command -v cargo-deb >/dev/null || cargo install cargo-deb --locked --root $(TARGET)/tools

.DEFAULT_GOAL := help
.PHONY: help demo test loss fuzz bench bench-full micro lint install plain release deb deb-assets tls-check install-deps

help:
	@echo 'make demo      build and start a gateway with sample origins, and print lines to try'
	@echo '               RELEASE=1: the optimised build, which takes longer'
	@echo 'make test      run every test'
	@echo 'make loss      100 reloads and 10 upgrades under load of every kind, wrk and h2load among it: every request counted,'
	@echo '               two to three minutes; fails when one is lost. RELEASE=1: with the optimised build'
	@echo 'make fuzz      give each parser of clients'\'' bytes a minute of whatever breaks it: needs cargo-fuzz and the nightly toolchain'
	@echo 'make bench     measure the gateway beside nginx, HAProxy and a bare Pingora proxy, the main scenarios: two minutes'
	@echo '               after the build; table on the terminal, record, report and plots in bench/runs'
	@echo 'make bench-full   every scenario, and Envoy, Caddy and Pingap too, which it installs: an hour after the builds'
	@echo 'make micro     time the pieces alone: route match, limits, tokens, signatures, picks, log lines'
	@echo 'make lint      check format and lints'
	@echo 'make tls-check ask testssl.sh what it thinks of our TLS: two minutes'
	@echo 'make release   build target/release/tollgate, arranged by a profile of the benchmark where wrk and the profile'
	@echo '               tool of the toolchain are there (two builds and a run: half an hour on two cores), else plainly'
	@echo 'make plain     the same without a profile: a few minutes'
	@echo 'make install   install binary, manual page, completions, systemd units, and the configuration if there is none'
	@echo '               PREFIX=/usr/local, DESTDIR= for packagers'
	@echo 'make deb       build a Debian package of target/release/tollgate in target/debian'
	@echo 'make install-deps   install what any of these needs, and nothing else'
	@echo 'CARGO_TARGET_DIR is honoured. Missing Debian packages are installed first, with sudo when not root.'

demo:
	$(call need,$(BUILD_PACKAGES))
	cargo run$(PROFILE) --bin tollgate -- demo

test:
	$(call need,$(TEST_PACKAGES))
	-@$(call need_cargo_deb)
	cargo test

# The gateway that is loaded may be the optimised one; what loads it is built for tests.
loss:
	$(call need,$(TEST_PACKAGES) wrk nghttp2-client)
	cargo build$(PROFILE) --bin tollgate
	TOLLGATE_TEST_PROGRAM=$(abspath $(TARGET))/$(if $(RELEASE),release,debug)/tollgate \
	  cargo test --test tests loss::a_hundred -- --ignored --nocapture

fuzz:
	$(call need,$(BUILD_PACKAGES))
	fuzz/run

# A peer that cannot be had is left out of the report, which says so.
bench-full:
	$(call need,$(BENCH_PACKAGES) $(MORE_PEER_PACKAGES))
	-bench/peers/install
	cargo build --release --bin tollgate --examples
	bench/run

bench:
	$(call need,$(BENCH_PACKAGES) $(PEER_PACKAGES))
	cargo build --release --bin tollgate --examples
	bench/run --quick

micro:
	$(call need,$(BUILD_PACKAGES))
	cargo bench --bench micro

lint:
	$(call need,$(BUILD_PACKAGES))
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings

# The optimised build without a profile.
plain:
	$(call need,$(BUILD_PACKAGES))
	cargo build --release --bin tollgate

release:
	$(call need,$(BENCH_PACKAGES))
	bench/release

# `sudo make install` after `make release` works where root has no cargo, and takes the program that is there unless the
# sources are newer; the configuration keeps what an operator wrote.
# In a fresh one the example secrets give way to random ones, so that a file left as it is opens nothing.
install: BINARY := $(TARGET)/release/tollgate
install: ETC := $(DESTDIR)/etc/tollgate
install: SHARE := $(DESTDIR)$(PREFIX)/share
install:
	@if command -v cargo >/dev/null && { [ ! -x $(BINARY) ] || \
	  [ -n "$$(find src build.rs Cargo.toml Cargo.lock -newer $(BINARY) -print -quit)" ]; }; then \
	  $(MAKE) --no-print-directory plain; fi
	@test -x $(BINARY) || { echo 'install: there is no $(BINARY); run `make release` first' >&2; exit 1; }
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/tollgate
	install -d $(SHARE)/man/man1 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions \
	  $(SHARE)/fish/vendor_completions.d
	$(BINARY) man >$(SHARE)/man/man1/tollgate.1
	$(BINARY) completions bash >$(SHARE)/bash-completion/completions/tollgate
	$(BINARY) completions zsh >$(SHARE)/zsh/site-functions/_tollgate
	$(BINARY) completions fish >$(SHARE)/fish/vendor_completions.d/tollgate.fish
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,/usr/bin/tollgate,$(PREFIX)/bin/tollgate,' systemd/tollgate.service \
	  >$(DESTDIR)$(PREFIX)/lib/systemd/system/tollgate.service
	install -m 0644 systemd/tollgate.socket $(DESTDIR)$(PREFIX)/lib/systemd/system/
	install -D -m 0644 systemd/tollgate.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/tollgate.conf
	install -D -m 0644 systemd/tollgate.logrotate $(DESTDIR)/etc/logrotate.d/tollgate
	@if [ -e $(ETC)/tollgate.toml ]; then \
	  echo 'install: $(ETC)/tollgate.toml is kept'; \
	else \
	  install -d $(ETC) && install -m 0640 /dev/null $(ETC)/tollgate.toml && \
	  awk -v random='head -c 36 /dev/urandom | base64' \
	    '/"example-[^"]*"/ { random | getline s; close(random); sub(/"example-[^"]*"/, "\"" s "\"") } 1' \
	    conf/tollgate.toml >$(ETC)/tollgate.toml && \
	  echo 'install: $(ETC)/tollgate.toml is new; edit it, then run: tollgate check'; \
	fi
	@if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" = 0 ] && command -v systemd-sysusers >/dev/null; then \
	  systemd-sysusers tollgate.conf && chgrp tollgate $(ETC) $(ETC)/tollgate.toml && chmod 0750 $(ETC); \
	  [ ! -d /run/systemd/system ] || systemctl daemon-reload; \
	  echo 'install: to start it: systemctl enable --now tollgate'; \
	fi

# The package of the optimised program that is there, else of one built plainly. DEB_PROFILE=dev packs target/debug, which
# is for trying the package and not for serving.
DEB_PROFILE ?= release
DEB_FOLDER := $(if $(filter dev,$(DEB_PROFILE)),debug,$(DEB_PROFILE))
deb:
	$(call need,$(BUILD_PACKAGES))
	@[ -x $(TARGET)/$(DEB_FOLDER)/tollgate ] || cargo build --profile $(DEB_PROFILE) --bin tollgate
	@$(call need_cargo_deb)
	@$(MAKE) --no-print-directory deb-assets
	cargo deb --no-build --profile $(DEB_PROFILE) $(if $(filter dev,$(DEB_PROFILE)),--no-strip --fast)

deb-assets: BINARY := $(TARGET)/$(DEB_FOLDER)/tollgate
deb-assets: ASSETS := $(TARGET)/$(DEB_FOLDER)/assets
deb-assets:
	install -d $(ASSETS)
	$(BINARY) man >$(ASSETS)/tollgate.1
	$(BINARY) completions bash >$(ASSETS)/tollgate
	$(BINARY) completions zsh >$(ASSETS)/_tollgate
	$(BINARY) completions fish >$(ASSETS)/tollgate.fish

# TLS as it looks from outside. It fails on findings from medium on, of which those of the throw-away certificate are let pass.
tls-check:
	$(call need,$(BUILD_PACKAGES) openssl testssl.sh)
	cargo build --bin tollgate
	tests/testssl $(TARGET)/debug/tollgate

install-deps:
	$(call need,$(sort $(TEST_PACKAGES) $(BENCH_PACKAGES) $(MORE_PEER_PACKAGES)))
