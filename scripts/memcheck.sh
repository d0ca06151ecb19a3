#!/usr/bin/env bash
# Looks for misuse of memory where the compiler cannot: Miri, valgrind and the sanitizers over the tests that come near `unsafe`.
# What each of them can and cannot see, `scripts/memcheck.sh --help` says.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TARGET=x86_64-unknown-linux-gnu

# What Miri leaves out. It executes some thousand times slower than a processor, so most of these would take it hours, and what they run other tests
# run, too; the rest enter the kernel or start processes, which it cannot.
readonly MIRI_SKIPS=(
    hub::tests::simulation                      # thousands of seeds
    sim::                                       # an instrument of tests: thousands of seeds, frames of 64 KiB by the byte
    shard::tests                                # minutes of rounds each
    connection::tests::whoever_keeps_coming     # millions of rounds
    mailbox::tests::senders_take_turns          # thousands of channels
    agree                                       # properties of many steps, each compared with a map as a whole
    wire::json::decode::tests::content_is       # strings made from regular expressions
    wire::json::decode::tests::nothing_panics   # the same
    wire::json::decode::tests::what_is_no       # a hundred thousand nested arrays
    wire::json::decode::tests::working_memory   # a megabyte
    compressing::a_compressor_holds             # a hundred kilobytes through zlib-rs
    compressing::a_match_that_reaches           # the same
    compressing::frames_of_every_length         # the same
    compressing::no_match_reaches               # the same
    compressing::output_is_freed                # the same
    compressing::what_does_not                  # the same
    compressing::with_takeover                  # the same
    inflating::a_bomb                           # the same
    inflating::a_message_may                    # the same
    inflating::an_inflater_holds                # a report on zlib-rs 0.6.8, see SECURITY.md
    inflating::blocks_without                   # a hundred kilobytes through zlib-rs
    inflating::output_                          # the same
    ws::frame::tests::written_frames            # frames of 64 KiB by the byte
    ws::tests::oracle                           # another implementation beside this one
    ws::tests::splits                           # every split of every stream
    cli::tests                                  # the whole command line in clap, some minutes each
    config::file::tests::what_is_wrong          # the same of the TOML parser
    preflight::host::tests::the_soft_limit      # enters the kernel
    memory::tests::memory_that_is_touched       # the same
    compare::child                              # starts processes
    compare::server                             # the same
    compare::round                              # the same
    cores::tests                                # reads /proc and /sys
    observe::                                   # the same
    incoming::tests::every_split                # seventy thousand bytes by the byte
    report::figures                             # histograms of whole runs
    report::table                               # the same
    report::page                                # whole pages
    report::plot                                # whole images
)

# What `--quick` has Miri run: the part with `unsafe`.
readonly MIRI_QUICK=(ring::)

# Leaks, and shows that it does: what the kernel has not given back.
readonly LEAK_ON_PURPOSE=ring::tests::what_the_kernel_has_not_given_back

# valgrind reserves descriptors for itself and shows a lower limit than the kernel's, and it is too slow for tests that count
# what arrives in a given time.
readonly VALGRIND_SKIPS=(
    lifetime::a_table_beyond_the_limit_is_refused
    lifetime::a_payload_that_a_worker_of_the_kernel
    lifetime::peers_that_hinder_their_connection
    receive::stopping_and_starting_loses_nothing
)

usage() {
    cat <<'TEXT'
Usage: scripts/memcheck.sh [--quick] [PART...]

Parts, all of them without an argument:

  miri      interprets the unit tests that do not enter the kernel; finds any undefined behaviour there, in the dependencies too.
            Takes hours. Needs a nightly toolchain with miri:
              rustup toolchain install nightly --component miri --component rust-src
  valgrind  memcheck over the ring tests against the real kernel, and over the unit tests: invalid and uninitialised memory, leaks.
            It follows io_uring's system calls, not what the kernel does behind them: a write into memory that was freed meanwhile
            is seen only when somebody trips over it. Needs the package valgrind.
  address   AddressSanitizer and LeakSanitizer over the same tests. As blind to the kernel as valgrind, and much faster.

  --quick   Miri over the unit tests of shard/src/ring, and valgrind over the ring tests: under a minute of processor time after building

ThreadSanitizer is not among them: it understands neither fences nor what the kernel does between two threads, so it would
report races that are none. The sleep and wake handshake of the mailboxes is loom's to prove (scripts/check.sh).

A part whose tool is missing is skipped and named at the end; a part that was asked for by name fails instead.
TEXT
}

say() {
    printf '\n=== [%4d s] %s\n' "$SECONDS" "$*"
}

fail() {
    printf 'scripts/memcheck.sh: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# The given names as --skip options of the test harness, into the array `skips`.
skip_all() {
    skips=()
    local name
    for name in "$@"; do
        skips+=(--skip "$name")
    done
}

# What a part lacks, if anything.
missing() {
    case "$1" in
    miri)
        cargo +nightly miri --version >/dev/null 2>&1 || echo "a nightly toolchain with miri"
        ;;
    valgrind)
        have valgrind || echo "valgrind"
        ;;
    address)
        [[ $(rustc -vV | sed -n 's/^host: //p') == "$TARGET" ]] || echo "a host of the kind $TARGET"
        ;;
    esac
}

run_miri() {
    local filters=() packages=(-p shardcast-shard)
    if [[ $quick == yes ]]; then
        filters=("${MIRI_QUICK[@]}")
    else
        packages+=(-p shardcast -p shardcast-bench)
    fi
    skip_all "${MIRI_SKIPS[@]}"
    # Isolation is off because tests read clocks; the provenance of addresses that travel as numbers (to the kernel, in
    # crossbeam) is taken on trust. Few cases of each property, and no backtraces of panics that tests expect: both cost minutes.
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance" PROPTEST_CASES=2 RUST_BACKTRACE=0 \
        cargo +nightly miri test "${packages[@]}" --lib -- --test-threads=1 "${skips[@]}" "${filters[@]}"
}

# Prints the path of each test binary that `cargo test` with these options would run.
test_binaries() {
    cargo test "$@" --no-run --message-format=json |
        sed -n 's/.*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1/p'
}

run_valgrind() {
    local binary binaries targets=(--test ring)
    if [[ $quick == no ]]; then
        targets+=(--lib)
    fi
    binaries=$(test_binaries -p shardcast-shard "${targets[@]}")
    [[ -n $binaries ]] || fail "cargo named no test binary"
    skip_all "$LEAK_ON_PURPOSE" "${VALGRIND_SKIPS[@]}" hub::tests::simulation sim::tests::streams
    for binary in $binaries; do
        say "valgrind: ${binary##*/}"
        # Tests that leave a thread behind lose what it holds at exit, so only what nothing points to counts as a leak.
        (cd shard && RUST_BACKTRACE=0 valgrind --quiet --error-exitcode=99 --fair-sched=yes \
            --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
            "$binary" --test-threads=2 "${skips[@]}")
    done
}

run_address() {
    # The stable compiler has the sanitizers and hides them. The target is named so that build scripts are not instrumented.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" ASAN_OPTIONS="detect_leaks=1" \
        CARGO_INCREMENTAL=0 CARGO_TARGET_DIR=target/address \
        cargo test --target "$TARGET" -p shardcast-shard --lib --test ring -- --skip "$LEAK_ON_PURPOSE"
}

main() {
    local quick=no part lack skipped=() parts=()
    while (($# > 0)); do
        case "$1" in
        --help | -h)
            usage
            return
            ;;
        --quick) quick=yes ;;
        miri | valgrind | address) parts+=("$1") ;;
        *)
            usage >&2
            fail "unknown argument: $1"
            ;;
        esac
        shift
    done
    have cargo || fail "cargo is missing: install Rust as https://www.rust-lang.org/tools/install says."

    local asked=yes
    if ((${#parts[@]} == 0)); then
        asked=no
        parts=(miri valgrind)
        if [[ $quick == no ]]; then
            parts+=(address)
        fi
    fi
    for part in "${parts[@]}"; do
        lack=$(missing "$part")
        if [[ -z $lack ]]; then
            say "$part"
            "run_$part"
        elif [[ $asked == yes ]]; then
            fail "$part needs $lack"
        else
            skipped+=("$part ($lack is missing)")
        fi
    done
    for part in "${skipped[@]}"; do
        say "skipped: $part"
    done
    say "No misuse of memory found"
}

main "$@"
