#!/usr/bin/env bash
# Runs the simulation on many seeds: whole shards on a driver that injects faults, every property with its invariants.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Numbers are read out of what programs print.
export LC_ALL=C

readonly LOG=.check/simulate.log

usage() {
    cat <<TEXT
Usage: scripts/simulate.sh [--from SEED] [--debug] N [PROPERTY...]
       scripts/simulate.sh --help

  N          seeds for each property; those whose runs are large (chaos_of_thousands, a_large_room, resets_at_each_byte) run one for each 100 of them
  --from     the first seed, 0 where nothing is said
  --debug    builds with assertions and little optimisation, as the tests are built; slower

Properties are chosen by parts of their names, as tests are: none means all of them.

Prints a line for each property: seeds run, steps of shards, and each fault that was met with how often. At a failure the seed and the
command that repeats it are printed, and the exit status is 1. A property that has run on at least as many seeds as it does by
default fails, too, where it has not met a fault that it is about. All that was printed stands in $LOG.
TEXT
}

fail() {
    printf 'scripts/simulate.sh: %s\n' "$*" >&2
    exit 1
}

from=0
profile=(--release)
while [[ $# -gt 0 ]]; do
    case "$1" in
    --help | -h)
        usage
        exit 0
        ;;
    --from)
        [[ ${2-} =~ ^[0-9]+$ ]] || fail "--from takes the number of a seed"
        from=$2
        shift 2
        ;;
    --debug)
        profile=()
        shift
        ;;
    *) break ;;
    esac
done
if [[ ! ${1-} =~ ^[0-9]+$ || $1 -eq 0 ]]; then
    usage >&2
    exit 2
fi
readonly seeds=$1
shift

command -v cargo >/dev/null 2>&1 ||
    fail "cargo is missing: install Rust as https://www.rust-lang.org/tools/install says."
mkdir -p "$(dirname "$LOG")"

run() {
    cargo test "${profile[@]}" --quiet -p shardcast --test simulation "$@"
}

run --no-run
printf 'simulating %d seeds from %d on\n' "$seeds" "$from"
status=0
SHARDCAST_SEEDS=$from..$((from + seeds)) run -- --nocapture "$@" >"$LOG" 2>&1 || status=$?
# The test harness prints a dot for each test that ends, in front of whatever comes next.
properties=$(grep -o 'property [a-z_]*: [0-9].*' "$LOG" | sort || true)
[[ -z $properties ]] || printf '%s\n' "$properties"
if [[ $status -ne 0 ]]; then
    # What failed, and how to repeat it.
    grep -E -A 1 'panicked at (engine/tests|shard/src/sim)|does not hold for seed|never met |^error' "$LOG" >&2 || tail -n 20 "$LOG" >&2
    fail "a property does not hold; $LOG has all of it"
fi
if [[ -z $properties ]]; then
    fail "no property has a name like that: $*"
fi
printf 'all hold, in %d s\n' "$SECONDS"
