#!/usr/bin/env bash
# Builds the peers: the servers that the comparison measures Shardcast against. Installs what they need, stops at the
# first failure, and ends with a table of what was built.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

readonly RUST_PEERS=(tokio-tungstenite axum fastwebsockets floor)
readonly OTHER_PEERS=(gorilla ws websockets cowboy uwebsockets)

usage() {
    cat <<'TEXT'
Usage: bench/peers/build.sh [--list | --help | PEER...]

  (nothing)  builds every peer
  PEER...    builds these
  --list     prints the names of all peers

Each peer becomes an executable bench/peers/bin/PEER, and its versions one line in bench/peers/bin/PEER.version.
Run it from anywhere, on a Debian or Ubuntu system. What is missing of compilers and runtimes is installed with apt-get
where this runs as root, and named otherwise. The peers in Rust need cargo.
TEXT
}

say() {
    printf '\n=== [%4d s] %s\n' "$SECONDS" "$*"
}

fail() {
    printf 'bench/peers/build.sh: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# The peers that can be built from this checkout, one a line.
all_peers() {
    if [[ -d rust ]]; then
        printf '%s\n' "${RUST_PEERS[@]}"
    fi
    printf '%s\n' "${OTHER_PEERS[@]}"
}

# need TEST PACKAGE...: installs the packages where the test, a command line, does not hold.
need() {
    local test=$1
    shift
    if bash -c "$test" >/dev/null 2>&1; then
        return
    fi
    if ((EUID != 0)) || ! have apt-get; then
        fail "missing: $*. Install them (as root: apt-get install $*) and run this again."
    fi
    say "Installing $*"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# launcher PEER COMMAND...: bin/PEER becomes a program that runs the command, found from this folder, in its own place.
launcher() {
    local peer=$1
    shift
    # shellcheck disable=SC2016 # These are expanded when the launcher runs.
    printf '#!/bin/sh\ncd "$(dirname "$0")/.." && exec %s "$@"\n' "$*" >"bin/$peer"
    chmod +x "bin/$peer"
}

# The version of a Debian package without its epoch and revision.
debian_version() {
    dpkg-query --show --showformat='${Version}' "$1" | sed 's/^[0-9]*://; s/[-+].*//'
}

# locked_version CRATE: the version in the lock file of the Rust workspace; of several the newest, which is the one asked for here.
locked_version() {
    awk -v name="\"$1\"" '
        $1 == "name" { found = $3 == name }
        $1 == "version" && found { gsub("\"", "", $3); print $3 }
    ' rust/Cargo.lock | sort --version-sort | tail -1
}

# pip_install PYTHON LIST STAMP OPTION...: installs a pinned list with pip. Does nothing where it is in place.
pip_install() {
    local python=$1 list=$2 stamp=$3
    shift 3
    if cmp -s "$list" "$stamp"; then
        return
    fi
    "$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore "$@" --requirement "$list"
    cp "$list" "$stamp"
}

need_python() {
    need 'python3 -c "import venv, ensurepip"' python3 python3-venv
    if [[ ! -x websockets/.venv/bin/python ]]; then
        python3 -m venv websockets/.venv
    fi
}

build_rust() {
    local peer=$1 binary=peer-$1 versions
    have cargo || fail "cargo is missing: install Rust as https://www.rust-lang.org/tools/install says."
    need 'command -v cc' build-essential
    case $peer in
    floor)
        binary=floor
        versions='no library'
        ;;
    tokio-tungstenite) versions="tokio-tungstenite $(locked_version tokio-tungstenite)" ;;
    axum) versions="axum $(locked_version axum)" ;;
    fastwebsockets) versions="fastwebsockets $(locked_version fastwebsockets)" ;;
    esac
    if [[ $peer != floor ]]; then
        versions+=", tokio $(locked_version tokio)"
    fi
    cargo build --quiet --release --locked --manifest-path rust/Cargo.toml --bin "$binary"
    ln -sf "../rust/target/release/$binary" "bin/$peer"
    echo "$versions, $(rustc --version | cut -d ' ' -f 1-2)" >"bin/$peer.version"
}

build_gorilla() {
    local sources=/usr/share/gocode
    need "command -v go && test -d $sources/src/github.com/gorilla/websocket" \
        golang-go golang-github-gorilla-websocket-dev
    # Debian's Go packages are sources for GOPATH; nothing is fetched.
    (cd gorilla && GO111MODULE=off GOPATH=$sources go build -o ../bin/gorilla .)
    echo "gorilla/websocket $(debian_version golang-github-gorilla-websocket-dev), $(go version |
        sed 's/go version go/go /; s/ linux.*//')" >bin/gorilla.version
}

build_ws() {
    need 'command -v node && command -v npm' nodejs npm
    if ! cmp -s ws/package-lock.json ws/node_modules/installed.json; then
        npm ci --prefix ws --no-audit --no-fund --loglevel=error
        cp ws/package-lock.json ws/node_modules/installed.json
    fi
    launcher ws node ws/server.mjs
    local versions
    versions="ws $(node -p 'require("./ws/node_modules/ws/package.json").version')"
    if [[ -d ws/node_modules/bufferutil ]]; then
        versions+=", bufferutil $(node -p 'require("./ws/node_modules/bufferutil/package.json").version')"
    fi
    echo "$versions, node $(node -p process.versions.node)" >bin/ws.version
}

build_websockets() {
    need_python
    pip_install websockets/.venv/bin/python websockets/requirements.txt websockets/.venv/installed.txt
    launcher websockets websockets/.venv/bin/python websockets/server.py
    websockets/.venv/bin/python - >bin/websockets.version <<'PYTHON'
import platform
from importlib.metadata import version

print(f"websockets {version('websockets')}, uvloop {version('uvloop')}, python {platform.python_version()}")
PYTHON
}

# Debian ships Cowboy compiled, within RabbitMQ. The package is unpacked here, not installed: that would start a broker.
build_cowboy() {
    need 'command -v erlc && erl -noshell -eval "{ok, _} = application:ensure_all_started(ssl), halt()."' \
        erlang-base erlang-crypto erlang-ssl
    if ! compgen -G 'cowboy/lib/cowboy-*' >/dev/null; then
        local package
        package=$(mktemp -d)
        # apt-get's own user writes the download.
        chmod 755 "$package"
        if ((EUID == 0)); then
            chown _apt "$package"
        fi
        (cd "$package" && apt-get download -qq rabbitmq-server && dpkg-deb --extract ./*.deb .)
        mkdir -p cowboy/lib
        cp -r "$package"/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins/{cowboy,cowlib,ranch}-* cowboy/lib
        rm -r "$package"
    fi
    mkdir -p cowboy/ebin
    erlc -pa cowboy/lib/cowboy-*/ebin -Wall -Werror -o cowboy/ebin cowboy/src/*.erl
    launcher cowboy erl -args_file cowboy/emulator.args -pa cowboy/ebin 'cowboy/lib/*/ebin' -s room_server -extra
    echo "cowboy $(basename cowboy/lib/cowboy-* | cut -d - -f 2), erlang/otp $(debian_version erlang-base)" \
        >bin/cowboy.version
}

build_uwebsockets() {
    [[ $(uname -m) == x86_64 ]] || fail "the package that ships uWebSockets has it for x86-64 only."
    need 'command -v c++' build-essential
    need 'ldconfig -p | grep -F libuv.so.1' libuv1
    need_python
    # Only the compiled library is used, not the Python package: without what the package depends on.
    mkdir -p uwebsockets/lib
    pip_install websockets/.venv/bin/python uwebsockets/requirements.txt uwebsockets/lib/installed.txt \
        --no-deps --upgrade --target uwebsockets/lib
    # shellcheck disable=SC2016 # The dynamic linker expands $ORIGIN.
    c++ -std=c++17 -O2 -Wall -Wextra -Werror -o bin/uwebsockets uwebsockets/main.cpp \
        -Luwebsockets/lib/socketify -l:libsocketify_linux_amd64.so \
        -Wl,--allow-shlib-undefined '-Wl,-rpath,$ORIGIN/../uwebsockets/lib/socketify'
    echo "uWebSockets 20 (socketify $(sed 's/.*==//' uwebsockets/requirements.txt)), libuv $(debian_version libuv1)" \
        >bin/uwebsockets.version
}

build() {
    local peer=$1
    say "Building $peer"
    case $peer in
    tokio-tungstenite | axum | fastwebsockets | floor) build_rust "$peer" ;;
    *) "build_$peer" ;;
    esac
}

main() {
    local known peers peer
    mapfile -t known < <(all_peers)
    case "${1:-}" in
    --list)
        printf '%s\n' "${known[@]}"
        return
        ;;
    --help | -h)
        usage
        return
        ;;
    esac
    if (($# == 0)); then
        peers=("${known[@]}")
    else
        peers=("$@")
    fi
    for peer in "${peers[@]}"; do
        if ! printf '%s\n' "${known[@]}" | grep -Fqx -- "$peer"; then
            usage >&2
            fail "unknown peer: $peer"
        fi
    done

    mkdir -p bin
    for peer in "${peers[@]}"; do
        build "$peer"
    done

    say "Built"
    for peer in "${peers[@]}"; do
        printf '%-18s %s\n' "$peer" "$(<"bin/$peer.version")"
    done
}

main "$@"
