#!/usr/bin/env bash
# Compares Shardcast with other WebSocket servers on this machine: builds all of them in release, then measures them in turn.
# What it measures, and what its options are, `scripts/compare.sh --help` says.
set -euo pipefail

readonly CALLED_AS="scripts/compare.sh${*:+ $*}"

cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'TEXT'
Usage: scripts/compare.sh [OPTIONS]

Builds shardcast, its examples, shardcast-bench and the servers below bench/peers/, then compares them.
A server that cannot be built is left out and named. Useful options:

  --quick            ends within ten minutes (building apart)
  --servers LIST     only these, such as shardcast,floor,axum
  --update-readme    puts the tables between the compare markers of README.md

All options are those of `shardcast-bench compare`:

TEXT
}

say() {
    printf '\n=== [%4d s] %s\n' "$SECONDS" "$*"
}

fail() {
    printf 'scripts/compare.sh: %s\n' "$*" >&2
    exit 1
}

build() {
    command -v cargo >/dev/null 2>&1 ||
        fail "cargo is missing: install Rust as https://www.rust-lang.org/tools/install says."
    say "Building shardcast and shardcast-bench"
    # Whole packages, whatever the workspace's default members are: the comparison starts the binary and an example.
    cargo build --release -p shardcast --bins --examples
    cargo build --release -p shardcast-bench
}

# Peers need compilers and runtimes that a machine may lack: what cannot be built is left out, and the comparison says so.
build_peers() {
    local peers peer
    mapfile -t peers < <(bench/peers/build.sh --list)
    for peer in "${peers[@]}"; do
        say "Building $peer"
        bench/peers/build.sh "$peer" || printf '%s could not be built and is left out.\n' "$peer" >&2
    done
}

main() {
    local argument
    for argument in "$@"; do
        if [[ $argument == --help || $argument == -h ]]; then
            usage
            cargo run --quiet --release -p shardcast-bench -- compare --help
            return
        fi
    done
    build
    build_peers
    say "Comparing"
    exec target/release/shardcast-bench compare --called-as "$CALLED_AS" "$@"
}

main "$@"
