#!/usr/bin/env bash
# Checks everything that must hold before a change is merged: formatting, lints, tests, documentation.
# Installs what the checks need, stops at the first failure, and says what it is doing and for how long it has been.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.check/venv
# What a stage printed that ran beside others.
readonly BESIDE_LOG=.check/beside.log
readonly CLIENTS=engine/tests/clients
# Prometheus as Debian packages it, unpacked.
readonly PROMETHEUS=.check/prometheus
# The oldest Node.js and Python that the client scripts are written for.
readonly NODE_MAJOR_LEAST=18
readonly PYTHON_MINOR_LEAST=11
# The exit code of scripts/autobahn.sh where there is nothing to run the suite with.
readonly CONFORMANCE_CANNOT_RUN=3
# The same of scripts/dashboard.sh.
readonly DASHBOARD_CANNOT_RUN=3

# The stage that runs beside others: its process group.
BESIDE=

usage() {
    cat <<'TEXT'
Usage: scripts/check.sh [--quick | --full | --help]

  (nothing)  formatting, lints, unit, integration and end-to-end tests, interleavings, documentation, the operator scripts, a short
             run of each fuzz target, the dashboard, a short conformance run
  --quick    formatting, lints and the unit tests: what to run while writing
  --full     the same as without an option with the whole conformance suite, then all tests once more in the release profile, those of
             the peers in Rust, and what looks after memory

Run it from anywhere, on a Debian or Ubuntu system with Rust. What is missing of Python, Node.js, a C compiler, Chromium and the tools of the
network is installed with apt-get where this runs as root, and named otherwise. Prometheus is unpacked into .check.
TEXT
}

say() {
    printf '\n=== [%4d s] %s\n' "$SECONDS" "$*"
}

fail() {
    printf 'scripts/check.sh: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Starts a stage beside those that follow, until `finish`. It has a process group of its own, which can be ended as a whole.
start() {
    mkdir -p "${BESIDE_LOG%/*}"
    set -m
    "$@" >"$BESIDE_LOG" 2>&1 </dev/null &
    set +m
    BESIDE=$!
}

# Waits for the stage that was started, prints what it said, and fails if it did.
finish() {
    local status=0
    wait "$BESIDE" || status=$?
    BESIDE=
    cat "$BESIDE_LOG"
    ((status == 0)) || exit "$status"
}

# Ends the stage that still runs beside one that failed.
clean_up() {
    if [[ -n $BESIDE ]]; then
        kill -TERM -- "-$BESIDE" 2>/dev/null || true
    fi
}

# Prints one line for each Debian package that the checks need and the system lacks.
missing_packages() {
    local needed=(cc:build-essential python3:python3 node:nodejs npm:npm openssl:openssl curl:curl shellcheck:shellcheck tmux:tmux) one
    # Namespaces need root, and what is tested in them is left out without.
    if ((EUID == 0)); then
        needed+=(ip:iproute2 nft:nftables iptables:iptables conntrack:conntrack sslscan:sslscan lintian:lintian)
        # A large one, for the dashboard alone: who is not root runs the rest without.
        needed+=(chromium:chromium)
    fi
    for one in "${needed[@]}"; do
        have "${one%%:*}" || echo "${one#*:}"
    done
    # `venv` itself may be there without the part that puts pip into the new environment.
    if ! have python3 || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
        echo python3-venv
    fi
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    if ((${#packages[@]} == 0)); then
        return
    fi
    if ((EUID != 0)) || ! have apt-get; then
        fail "missing: ${packages[*]}. Install them (as root: apt-get install ${packages[*]}) and run this again."
    fi
    say "Installing ${packages[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

# Prometheus, which scrapes a server in a test, and its tool, which judges what it is told. The package is unpacked and not installed: installed it starts a
# server of its own, which takes a port and stays; what it depends on is for that server's pages. Does nothing where there is one.
unpack_prometheus() {
    if { have prometheus && have promtool; } || [[ -x $PROMETHEUS/usr/bin/promtool ]]; then
        return
    fi
    say "Unpacking Prometheus"
    if ! have apt-get; then
        ((EUID != 0)) || fail "missing: prometheus and promtool, and there is no apt-get to get them with."
        echo "SKIPPED: there is no apt-get; put prometheus and promtool into the path for the tests that need them"
        return
    fi
    local unpacked
    mkdir -p "${PROMETHEUS%/*}"
    unpacked=$(mktemp -d -p "${PROMETHEUS%/*}")
    # Only root can bring the lists of packages up to date; with those that are there others get it too.
    ((EUID != 0)) || apt-get update -qq
    (
        cd "$unpacked"
        apt-get download -qq -o APT::Sandbox::User=root prometheus
        dpkg -x prometheus_*.deb .
        rm prometheus_*.deb
    ) || fail "cannot get the package prometheus with apt-get download."
    rm -rf "$PROMETHEUS"
    mv "$unpacked" "$PROMETHEUS"
}

check_versions() {
    python3 -c "import sys; sys.exit(sys.version_info < (3, $PYTHON_MINOR_LEAST))" ||
        fail "$(python3 --version) is too old for the client scripts: 3.$PYTHON_MINOR_LEAST or newer is needed."
    node -e "process.exit(Number(process.versions.node.split('.')[0]) < $NODE_MAJOR_LEAST ? 1 : 0)" ||
        fail "Node.js $(node --version) is too old for the client scripts: $NODE_MAJOR_LEAST or newer is needed."
}

# The clients of the end-to-end tests, in the versions that their lists pin. Does nothing where they are in place.
install_clients() {
    if ! cmp -s "$CLIENTS/requirements.txt" "$VENV/installed.txt"; then
        say "Installing the Python client"
        rm -rf "$VENV"
        python3 -m venv "$VENV"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
            --requirement "$CLIENTS/requirements.txt"
        cp "$CLIENTS/requirements.txt" "$VENV/installed.txt"
    fi
    # For the dashboard's own stage, and for the browser of the walk-through. That it cannot be is said there.
    scripts/dashboard.sh install || (($? == DASHBOARD_CANNOT_RUN))
    if ! cmp -s "$CLIENTS/package-lock.json" "$CLIENTS/node_modules/installed.json"; then
        say "Installing the Node.js client"
        npm ci --prefix "$CLIENTS" --no-audit --no-fund --loglevel=error
        cp "$CLIENTS/package-lock.json" "$CLIENTS/node_modules/installed.json"
    fi
}

install_needs() {
    have cargo || fail "cargo is missing: install Rust as https://www.rust-lang.org/tools/install says."
    install_packages
    check_versions
    unpack_prometheus
}

check_format() {
    say "Formatting"
    cargo fmt --all --check
}

check_lints() {
    say "Lints"
    cargo clippy --workspace --all-targets -- -D warnings
}

test_units() {
    say "Unit tests"
    cargo test --workspace --lib --bins
}

test_all() {
    say "Unit, integration and end-to-end tests${1:+ ($1)}"
    cargo test --workspace "$@"
}

# The servers to compare with, as far as they are written in Rust: a workspace of their own.
test_peers() {
    say "Peers"
    cargo clippy --manifest-path bench/peers/rust/Cargo.toml --all-targets -- -D warnings
    cargo test --manifest-path bench/peers/rust/Cargo.toml
}

# What operators run: the scripts that change the kernel's settings, the systemd unit, the Debian package, the containers. What needs root or a
# package that is not here says SKIPPED.
test_operator_scripts() {
    say "Operator scripts"
    shellcheck -x scripts/*.sh scripts/debian/postinst
    SHARDCAST_PROFILE=debug python3 -B -m unittest discover --start-directory scripts/tests
}

# The page that the admin port serves: its source, what was built from it, and how it does in a browser against the binary of the tests before.
check_dashboard() {
    say "Dashboard"
    local status=0
    SHARDCAST_PROFILE=debug scripts/dashboard.sh check || status=$?
    if ((status == DASHBOARD_CANNOT_RUN)); then
        say "SKIPPED: the dashboard, which cannot be checked here (see above)"
    elif ((status != 0)); then
        fail "the dashboard does not hold"
    fi
}

# Every interleaving of the sleep and wake handshake. Of the whole workspace, as all tests are built: a package alone takes other
# features of its dependencies, and all would be built again.
test_interleavings() {
    say "Interleavings of the mailboxes"
    cargo test --workspace --test interleavings -- --include-ignored
}

# Autobahn|Testsuite: a few sizes of each kind against the servers of the tests before, or all of it against those of a release build.
test_conformance() {
    say "Conformance"
    python3 -B -m unittest discover --start-directory engine/tests/autobahn
    local status=0
    scripts/autobahn.sh "$@" || status=$?
    if ((status == CONFORMANCE_CANNOT_RUN)); then
        say "SKIPPED: the conformance suite, which cannot run here (see above)"
    elif ((status != 0)); then
        fail "the conformance suite failed"
    fi
}

# Every fuzz target on its kept inputs and for some seconds on new ones.
test_fuzz_targets() {
    say "Fuzz targets"
    scripts/fuzz.sh smoke
}

# Miri, valgrind and the sanitizers.
test_memory() {
    say "Memory"
    scripts/memcheck.sh
}

check_documentation() {
    say "Documentation"
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
}

main() {
    local mode=default
    case "${1:-}" in
    '') ;;
    --quick | --full) mode="${1#--}" ;;
    --help | -h)
        usage
        return
        ;;
    *)
        usage >&2
        fail "unknown option: $1"
        ;;
    esac
    if (($# > 1)); then
        usage >&2
        fail "one option at most"
    fi

    if [[ $mode == quick ]]; then
        have cargo || fail "cargo is missing: install Rust as https://www.rust-lang.org/tools/install says."
        check_format
        check_lints
        test_units
        say "Formatting, lints and unit tests hold"
        return
    fi

    trap clean_up EXIT
    install_needs
    start install_clients
    check_format
    check_lints
    finish
    test_all
    # Hundreds of short processes, one after the other, on one core; what runs beside them measures no time.
    start test_operator_scripts
    test_interleavings
    check_documentation
    test_fuzz_targets
    finish
    check_dashboard
    if [[ $mode == full ]]; then
        test_conformance
        test_all --release
        test_peers
        test_memory
    else
        # The servers are built already, with assertions that a release build has not.
        SHARDCAST_PROFILE=debug test_conformance --quick
    fi
    say "Everything holds"
}

main "$@"
