#!/usr/bin/env bash
# Fuzzes the engine: a short smoke of every target, or long runs measured in CPU time.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Numbers are read out of what programs print.
export LC_ALL=C

readonly FUZZ=shard/fuzz
readonly TRIPLE=x86_64-unknown-linux-gnu
readonly BINARIES=$FUZZ/target/$TRIPLE/release
# What cargo-fuzz 0.13 hands to the compiler. Handed over here, nobody has to build cargo-fuzz first: a minute where nothing is installed.
readonly COMPILER_FLAGS=(
    # How libFuzzer learns which edges an input reaches, how deep its stack is, and what it compares with what.
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cllvm-args=-sanitizer-coverage-stack-depth
    # Two branches folded into one would be one edge.
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0
    -Zsanitizer=address
    --cfg=fuzzing
)
readonly WORK=.check/fuzz
readonly SUMMARY=$WORK/summary.txt
readonly TARGETS=(frames handshake json mask state deflate)

# Where the output of the targets goes: a smoke beside a long run must not take that one's place.
logs=$WORK

# Wall seconds of new inputs for each target in a smoke, and of one round of a long run.
readonly SMOKE_SECONDS=4
readonly ROUND_SECONDS=120
# An input that takes so many seconds is a finding. Generous, because other work may hold the cores.
readonly INPUT_SECONDS_MAX=60
# What is kept of a corpus in the repository, for each target.
readonly SEED_FILES_MAX=50
readonly SEED_BYTES_MAX=100000

usage() {
    cat <<TEXT
Usage: scripts/fuzz.sh smoke
       scripts/fuzz.sh [--minutes N] [TARGET...]
       scripts/fuzz.sh minimise [TARGET...]
       scripts/fuzz.sh --help

  smoke       replays the kept inputs of every target and tries new ones for $SMOKE_SECONDS s each
  --minutes   CPU minutes for each target: 30 where nothing is said. What a run finds worth keeping goes to $WORK/corpus,
              where the next run begins
  minimise    replaces the inputs kept in $FUZZ/seeds by the smallest choice out of all that reaches as much,
              at most $SEED_FILES_MAX files and $SEED_BYTES_MAX bytes a target

Targets: ${TARGETS[*]}.

Prints for each target: CPU minutes, inputs tried, inputs kept as corpus, coverage (edges and features as libFuzzer counts
them) and findings. $SUMMARY has the same after each round. A finding is an input below
$FUZZ/artifacts; the command that repeats it is printed, and the exit status is 1.

Needs Rust and a C++ compiler; the stable toolchain does (RUSTC_BOOTSTRAP=1 lets it take the flags of sanitizers).
TEXT
}

say() {
    printf '\n=== [%4d s] %s\n' "$SECONDS" "$*"
}

fail() {
    printf 'scripts/fuzz.sh: %s\n' "$*" >&2
    exit 1
}

build() {
    command -v cargo >/dev/null 2>&1 ||
        fail "cargo is missing: install Rust as https://www.rust-lang.org/tools/install says."
    say "Building the fuzz targets"
    # With a target named, the flags are not for build scripts and procedural macros.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="${COMPILER_FLAGS[*]}" \
        cargo build --manifest-path "$FUZZ/Cargo.toml" --target-dir "$FUZZ/target" --target "$TRIPLE" --release --bins
}

check_target() {
    local target
    for target in "${TARGETS[@]}"; do
        if [[ $target == "$1" ]]; then
            return
        fi
    done
    usage >&2
    fail "unknown target: $1"
}

# Bytes of the longest input of a target.
length_max() {
    case "$1" in
    mask) echo 512 ;;
    handshake) echo 1024 ;;
    *) echo 2048 ;;
    esac
}

# Runs a target once on a corpus, which takes what is new, and the kept inputs. Further arguments are libFuzzer's. Its output goes
# to the target's log.
run() {
    local target=$1 corpus=$2
    shift 2
    local dictionary=$FUZZ/dictionaries/$target.dict
    mkdir -p "$corpus" "$FUZZ/seeds/$target" "$FUZZ/artifacts/$target"
    local arguments=(
        "-artifact_prefix=$FUZZ/artifacts/$target/"
        "-max_len=$(length_max "$target")"
        "-timeout=$INPUT_SECONDS_MAX"
        -print_final_stats=1
    )
    if [[ -f $dictionary ]]; then
        arguments+=("-dict=$dictionary")
    fi
    "$BINARIES/$target" "${arguments[@]}" "$@" "$corpus" "$FUZZ/seeds/$target" >"$logs/$target.log" 2>&1
}

# Prints what a target has found, and the command that repeats it.
report_finding() {
    local target=$1 artifact
    artifact=$(sed -n 's/.*Test unit written to //p' "$logs/$target.log" | tail -n 1)
    printf '\n%s: FOUND\n' "$target"
    grep -m 1 -A 3 -E 'panicked at|ERROR: ' "$logs/$target.log" || tail -n 20 "$logs/$target.log"
    if [[ -n $artifact ]]; then
        printf 'Repeat it:     %s %s\n' "$BINARIES/$target" "$artifact"
    fi
    printf 'The whole log: %s\n' "$logs/$target.log"
}

# The value of one of libFuzzer's final statistics, and the number after one of the words of its last line; 0 where there is none.
statistic() {
    sed -n "s/^stat::$2: *//p" "$logs/$1.log" | tail -n 1 | grep . || echo 0
}

last_number() {
    sed -nE "s/^#[0-9]+.* $2: ([0-9]+).*/\1/p" "$logs/$1.log" | tail -n 1 | grep . || echo 0
}

# Writes the row of a target: CPU milliseconds, inputs tried, findings.
write_row() {
    local target=$1 cpu_ms=$2 executions=$3 findings=$4
    printf '%-10s %8d.%d %13d %7d %6d %9d %9d\n' "$target" $((cpu_ms / 60000)) $((cpu_ms % 60000 / 6000)) "$executions" \
        "$(last_number "$target" corp)" "$(last_number "$target" cov)" "$(last_number "$target" ft)" "$findings" \
        >"$WORK/$target.row"
    local other
    {
        printf '%-10s %10s %13s %7s %6s %9s %9s\n' target 'CPU min' inputs corpus edges features findings
        for other in "${TARGETS[@]}"; do
            if [[ -f $WORK/$other.row ]]; then
                cat "$WORK/$other.row"
            fi
        done
    } >"$SUMMARY"
}

# Replays the kept inputs of each target and tries new ones for a moment.
smoke() {
    local target failed=0
    logs=$WORK/smoke
    rm -rf "$logs"
    mkdir -p "$logs"
    for target in "${TARGETS[@]}"; do
        # Not the corpus of long runs: replaying it would take longer than the smoke.
        if run "$target" "$logs/corpus/$target" "-max_total_time=$SMOKE_SECONDS"; then
            printf '%-10s %8d inputs, %5d edges, nothing found\n' "$target" \
                "$(statistic "$target" number_of_executed_units)" "$(last_number "$target" cov)"
        else
            report_finding "$target"
            failed=1
        fi
    done
    return "$failed"
}

# Runs one target until it has used so many CPU minutes. Stops at its first finding: the same would come again and again.
run_long() {
    local target=$1 cpu_ms_wanted=$(($2 * 60000))
    local cpu_ms=0 executions=0 findings=0 status seconds user system
    local TIMEFORMAT='%U %S'
    while ((cpu_ms < cpu_ms_wanted && findings == 0)); do
        seconds=$(((cpu_ms_wanted - cpu_ms) / 1000 + 1))
        status=0
        { time run "$target" "$WORK/corpus/$target" \
            "-max_total_time=$((seconds < ROUND_SECONDS ? seconds : ROUND_SECONDS))"; } 2>"$WORK/$target.time" || status=$?
        read -r user system <"$WORK/$target.time"
        cpu_ms=$((cpu_ms + 10#${user/./} + 10#${system/./}))
        executions=$((executions + $(statistic "$target" number_of_executed_units)))
        if ((status != 0)); then
            findings=1
        fi
        write_row "$target" "$cpu_ms" "$executions" "$findings"
    done
    if ((findings > 0)); then
        report_finding "$target"
        return 1
    fi
}

# Chooses the inputs to keep: the smallest set of files that reaches as much as all of them.
minimise() {
    local target=$1 chosen=$WORK/chosen/$1
    rm -rf "$chosen"
    mkdir -p "$chosen" "$WORK/corpus/$target" "$FUZZ/seeds/$target"
    "$BINARIES/$target" -set_cover_merge=1 "-max_len=$(length_max "$target")" "$chosen" "$WORK/corpus/$target" \
        "$FUZZ/seeds/$target" >"$WORK/$target.minimise.log" 2>&1 || fail "see $WORK/$target.minimise.log"
    local files bytes
    files=$(find "$chosen" -type f | wc -l)
    bytes=$(find "$chosen" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')
    printf '%-10s %4d files, %6d bytes\n' "$target" "$files" "$bytes"
    if ((files > SEED_FILES_MAX || bytes > SEED_BYTES_MAX)); then
        printf '%-10s too much to keep: at most %d files and %d bytes\n' "$target" "$SEED_FILES_MAX" "$SEED_BYTES_MAX"
        return 1
    fi
    rm -rf "${FUZZ:?}/seeds/$target"
    mv "$chosen" "$FUZZ/seeds/$target"
}

main() {
    local mode=long minutes=30
    case "${1:-}" in
    --help | -h)
        usage
        return
        ;;
    smoke | minimise)
        mode=$1
        shift
        ;;
    --minutes)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || fail "--minutes needs a whole number, 1 or greater"
        minutes=$2
        shift 2
        ;;
    -*)
        usage >&2
        fail "unknown option: $1"
        ;;
    esac
    local target targets=("$@")
    for target in "${targets[@]}"; do
        check_target "$target"
    done
    if ((${#targets[@]} == 0)); then
        targets=("${TARGETS[@]}")
    fi

    build
    mkdir -p "$WORK"
    local failed=0
    case $mode in
    smoke)
        say "Fuzzing each target for a moment"
        smoke || failed=1
        ;;
    minimise)
        say "Choosing the inputs to keep"
        for target in "${targets[@]}"; do
            minimise "$target" || failed=1
        done
        ;;
    long)
        for target in "${targets[@]}"; do
            say "Fuzzing $target for $minutes CPU minutes"
            rm -f "$WORK/$target.row"
            run_long "$target" "$minutes" || failed=1
        done
        say "What came of it ($SUMMARY)"
        cat "$SUMMARY"
        ;;
    esac
    return "$failed"
}

main "$@"
