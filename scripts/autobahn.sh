#!/usr/bin/env bash
# Runs Autobahn|Testsuite, the public conformance suite for WebSockets, against the echo example and the room server.
# Ends with 0 only if every case that was asked for ran and was OK in both of the suite's columns.
set -euo pipefail

readonly CALLED_AS="scripts/autobahn.sh${*:+ $*}"

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly SUITE=engine/tests/autobahn
readonly WORK=.check/autobahn
readonly VENV=$WORK/venv
readonly REPORTS=$WORK/reports
readonly PROFILE=${SHARDCAST_PROFILE:-release}
readonly PROGRAMS=${CARGO_TARGET_DIR:-target}/$PROFILE
readonly ACCELERATOR=wsaccel==0.6.2
# The last release that makes environments for Python 2.7.
readonly VIRTUALENV=virtualenv==20.21.1
readonly IMAGE=docker.io/crossbario/autobahn-testsuite:0.8.2
# What a server prints when it is ready, before its port.
readonly READY='listening on ws://127.0.0.1:'
readonly START_SECONDS_MAX=30
# The slowest cases may take eight minutes each by their own rules; a run as a whole may not.
readonly RUN_SECONDS_MAX=7200
# The largest message that the suite sends.
readonly MESSAGE_BYTES=16777216
# The exit code where the suite cannot be run on this machine at all.
readonly CANNOT_RUN=3

# Set by the command line.
AGAINST=(echo rooms)
QUICK=()
KEEP=
# How the suite is run, as `find_runner` finds it.
PYTHON2=
CONTAINERS=
# What this script started and has not ended.
SERVER_PID=
CLIENT_PID=
CONTAINER_NAME=
# What went wrong beside the cases themselves.
FAULTS=()

usage() {
    cat <<'TEXT'
Usage: scripts/autobahn.sh [--quick] [--against echo|rooms|both] [--keep]
       scripts/autobahn.sh --probe | --help

  (nothing)      all 517 cases against the echo example, and those without binary messages against the room server
  --quick        every rule of the protocol, and a few of the cases that differ only in size; well under a minute
  --against WHO  echo: engine/examples/echo.rs; rooms: the room server; both
  --keep         writes the summary to engine/tests/autobahn/summary.md too
  --probe        says what would run the suite here, and ends with 3 where nothing can; runs nothing

The suite needs Python 2.7: `python2.7` or one of pyenv's. It is installed below .check/, never into the system. Where there is no
Python 2.7, its container image is used with docker or podman.

Ends with 0 if every case that was asked for ran and was OK, 1 if not, 3 if the suite cannot be run here. The summary is
printed and written to .check/autobahn/summary.md; the suite's own pages are .check/autobahn/reports/*/index.html.

SHARDCAST_PROFILE=debug has the servers of a debug build tested instead of those of a release build.
TEXT
}

say() {
    printf '\n=== [%4d s] %s\n' "$SECONDS" "$*"
}

fail() {
    printf 'scripts/autobahn.sh: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Sets PYTHON2 to a Python 2.7 that works. A shim of pyenv may be there without one behind it, so each is asked.
find_python2() {
    local candidate
    for candidate in python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python; do
        if have "$candidate" && "$candidate" -c 'import ssl, sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
            PYTHON2=$candidate
            return
        fi
    done
}

# Sets CONTAINERS to a program that runs containers now: docker may be there without its daemon.
find_containers() {
    local candidate
    for candidate in docker podman; do
        if have "$candidate" && "$candidate" info >/dev/null 2>&1; then
            CONTAINERS=$candidate
            return
        fi
    done
}

find_runner() {
    find_python2
    if [[ -n $PYTHON2 ]]; then
        return
    fi
    find_containers
    if [[ -z $CONTAINERS ]]; then
        printf 'scripts/autobahn.sh: %s\n' \
            "Autobahn|Testsuite cannot run here: there is neither a Python 2.7 (python2.7, ~/.pyenv/versions/2.7*) nor a docker or podman that works." \
            "Debian 11, Ubuntu 22.04 and older have the package python2.7; elsewhere \`pyenv install 2.7.18\` builds one." >&2
        exit "$CANNOT_RUN"
    fi
}

name_runner() {
    if [[ -n $PYTHON2 ]]; then
        printf '%s (%s)' "$("$PYTHON2" --version 2>&1)" "$PYTHON2"
    else
        printf 'the image %s (%s)' "$IMAGE" "$CONTAINERS"
    fi
}

# The suite in the versions that its list pins. Does nothing where they are in place.
install_suite() {
    if [[ -z $PYTHON2 ]]; then
        "$CONTAINERS" image inspect "$IMAGE" >/dev/null 2>&1 || "$CONTAINERS" pull --quiet "$IMAGE"
        return
    fi
    if cmp -s "$SUITE/requirements.txt" "$VENV/installed.txt"; then
        return
    fi
    say "Installing the suite for Python 2.7"
    rm -rf "$VENV" "$WORK/virtualenv"
    # Python 2.7 itself often comes without pip; a virtualenv of Python 3 makes an environment that has it.
    python3 -m venv "$WORK/virtualenv"
    "$WORK/virtualenv/bin/python" -m pip install --quiet --disable-pip-version-check "$VIRTUALENV"
    "$WORK/virtualenv/bin/virtualenv" --quiet --python "$PYTHON2" "$VENV"
    PYTHONWARNINGS=ignore "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-python-version-warning \
        --requirement "$SUITE/requirements.txt"
    # In C: without it most of a run is the suite's own masking in Python. It needs a compiler, and the suite can do without.
    PYTHONWARNINGS=ignore "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-python-version-warning \
        "$ACCELERATOR" || say "Without $ACCELERATOR: the run takes longer"
    cp "$SUITE/requirements.txt" "$VENV/installed.txt"
}

build_servers() {
    local options=(--bins --examples)
    case $PROFILE in
    release) options+=(--release -p shardcast) ;;
    # As `cargo test --workspace` does: a package alone takes other features of its dependencies, and all would be built again.
    debug) options+=(--workspace) ;;
    esac
    say "Building the servers ($PROFILE)"
    cargo build "${options[@]}"
}

server_command() {
    case $1 in
    echo) SERVER_COMMAND=("$PROGRAMS/examples/echo" --listen 127.0.0.1:0) ;;
    # One shard: with several, the home of an inbox may be another one, and what comes back from there may rightly be later than
    # the answer to a close frame.
    rooms)
        SERVER_COMMAND=(
            env SHARDCAST_ECHO=1 "$PROGRAMS/shardcast" serve --listen 127.0.0.1:0 --admin off --shards 1
            --message-size-max "$MESSAGE_BYTES" --messages-per-second-max 0
        )
        ;;
    esac
}

# Starts a server on a port of its own choice; sets SERVER_PID and URL.
start_server() {
    local log="$WORK/$1.log" deadline=$((SECONDS + START_SECONDS_MAX)) address
    server_command "$1"
    : >"$log"
    "${SERVER_COMMAND[@]}" >"$log" 2>&1 9>&- &
    SERVER_PID=$!
    while true; do
        address=$(grep --only-matching --max-count=1 "${READY}[0-9]*/[a-z]*" "$log") && break
        kill -0 "$SERVER_PID" 2>/dev/null || { cat "$log" >&2 && fail "the server $1 did not start"; }
        ((SECONDS < deadline)) || fail "the server $1 did not listen within $START_SECONDS_MAX s; it printed: $(<"$log")"
        sleep 0.1
    done
    URL=${address#listening on }
}

# Ends the server, and notes whether it had died, ended badly, or complained.
stop_server() {
    local log="$WORK/$1.log" status=0
    kill -TERM "$SERVER_PID" 2>/dev/null || FAULTS+=("$1: the server died during the run")
    wait "$SERVER_PID" || status=$?
    SERVER_PID=
    ((status == 0)) || FAULTS+=("$1: the server ended with code $status")
    if grep --quiet --extended-regexp 'panicked at|\bERROR\b' "$log"; then
        FAULTS+=("$1: the server complained, see $log")
    fi
}

# Runs the suite's client with the specification given, in the background; sets CLIENT_PID.
start_client() {
    local spec=$1 command
    if [[ -n $PYTHON2 ]]; then
        command=("$VENV/bin/wstest")
    else
        CONTAINER_NAME=shardcast-autobahn-$$
        command=("$CONTAINERS" run --rm --name "$CONTAINER_NAME" --network host --volume "$PWD/$WORK:/$WORK" --workdir /)
        # The reports belong to whoever runs this.
        if [[ $CONTAINERS == podman ]]; then
            command+=(--userns keep-id)
        else
            command+=(--user "$(id -u):$(id -g)")
        fi
        command+=("$IMAGE" wstest)
    fi
    PYTHONUNBUFFERED=1 timeout --kill-after 10 "$RUN_SECONDS_MAX" "${command[@]}" --mode fuzzingclient --spec "$spec" \
        > >(show_progress "$WORK/client.log") 2>&1 &
    CLIENT_PID=$!
}

# Keeps what the client prints, and shows one line a group of cases.
show_progress() {
    local line group=
    : >"$1"
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$1"
        if [[ $line =~ 'test case ID '([0-9]+)'.' && ${BASH_REMATCH[1]} != "$group" ]]; then
            group=${BASH_REMATCH[1]}
            printf '    [%4d s] group %s\n' "$SECONDS" "$group"
        fi
    done
}

run_against() {
    local server=$1 spec="$WORK/$1.json" status=0
    start_server "$server"
    say "Running the suite against $server at $URL"
    rm -rf "${REPORTS:?}/$server"
    python3 -B "$SUITE/suite.py" spec --server "$server" --url "$URL" --reports "$REPORTS/$server" "${QUICK[@]}" >"$spec"
    start_client "$spec"
    wait "$CLIENT_PID" || status=$?
    CLIENT_PID=
    CONTAINER_NAME=
    ((status == 0)) || FAULTS+=("$server: the suite's client ended with code $status, see $WORK/client.log")
    stop_server "$server"
}

# Ends what this script started, however it ends.
clean_up() {
    if [[ -n $CLIENT_PID ]]; then
        kill -TERM "$CLIENT_PID" 2>/dev/null || true
    fi
    if [[ -n $CONTAINER_NAME ]]; then
        "$CONTAINERS" stop --time 1 "$CONTAINER_NAME" >/dev/null 2>&1 || true
    fi
    if [[ -n $SERVER_PID ]]; then
        kill -TERM "$SERVER_PID" 2>/dev/null || true
    fi
}

summarise() {
    local server fault arguments=() status=0
    for server in "${AGAINST[@]}"; do
        arguments+=(--server "$server")
    done
    for fault in "${FAULTS[@]}"; do
        arguments+=(--fault "$fault")
    done
    say "Summary"
    python3 -B "$SUITE/suite.py" judge --reports "$REPORTS" --command "$CALLED_AS" "${QUICK[@]}" "${arguments[@]}" \
        >"$WORK/summary.md" || status=$?
    cat "$WORK/summary.md"
    if [[ -n $KEEP ]]; then
        cp "$WORK/summary.md" "$SUITE/summary.md"
    fi
    return "$status"
}

# Prints what runs the suite, and nothing else.
probe() {
    find_runner
    name_runner
    printf '\n'
}

parse() {
    while (($# > 0)); do
        case $1 in
        --quick) QUICK=(--quick) ;;
        --keep) KEEP=yes ;;
        --against)
            case ${2:-} in
            echo | rooms) AGAINST=("$2") ;;
            both) AGAINST=(echo rooms) ;;
            *) fail "--against takes echo, rooms or both" ;;
            esac
            shift
            ;;
        --probe)
            probe
            exit
            ;;
        --help | -h)
            usage
            exit
            ;;
        *)
            usage >&2
            fail "unknown option: $1"
            ;;
        esac
        shift
    done
}

main() {
    local server
    parse "$@"
    [[ $PROFILE == release || $PROFILE == debug ]] || fail "SHARDCAST_PROFILE takes release or debug, not $PROFILE"
    find_runner
    have cargo || fail "cargo is missing: install Rust as https://www.rust-lang.org/tools/install says."
    python3 -c 'import tomllib' 2>/dev/null || fail "python3 3.11 or newer is missing: it judges the reports."
    mkdir -p "$WORK"
    # Two runs would write the same reports.
    exec 9>"$WORK/lock"
    flock --nonblock 9 || fail "another run is under way"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    say "The suite runs on $(name_runner)"
    install_suite
    build_servers
    for server in "${AGAINST[@]}"; do
        run_against "$server"
    done
    summarise
}

main "$@"
