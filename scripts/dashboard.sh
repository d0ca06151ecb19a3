#!/usr/bin/env bash
# Builds and checks the dashboard, which the admin port serves: its source is in engine/dashboard, and what is built from it is committed there.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly DASHBOARD=engine/dashboard
# The exit code of `check` where it cannot run here.
readonly CANNOT_RUN=3

usage() {
    cat <<'TEXT'
Usage: scripts/dashboard.sh install | build | check | screenshots | scale

  install      the packages that the others need
  build        engine/dashboard/dist from its source; commit it
  check        types, lints, unit tests, whether dist is what the source gives, and the tests in a browser
  screenshots  engine/dashboard/screenshots, of a server under load
  scale        how the page does beside 1,000 and beside 100,000 connections; builds of release, SHARDCAST_PROFILE=release, do best

Needs Node.js (20.19, or 22.12 and newer) and npm; all but `install` and `build` need Chromium, and the binary: that of SHARDCAST_BIN or,
where that is not set, target/PROFILE/shardcast with the PROFILE of SHARDCAST_PROFILE, which is `debug` by itself. CHROMIUM names
a browser that is not in the path. Exit code 3: this cannot run here, and the output says why.
TEXT
}

say() {
    printf '=== dashboard: %s\n' "$*"
}

fail() {
    printf 'scripts/dashboard.sh: %s\n' "$*" >&2
    exit 1
}

skip() {
    printf 'SKIPPED: the dashboard: %s\n' "$*"
    exit "$CANNOT_RUN"
}

in_dashboard() {
    (cd "$DASHBOARD" && "$@")
}

# The packages in the versions of the lock file. Does nothing where they are in place.
install_packages() {
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        skip "Node.js and npm are missing"
    fi
    # As `engines` in package.json: what Vite runs on.
    node -e 'const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22 ? 0 : 1)' ||
        skip "Node.js $(node --version) is too old for Vite: 20.19, or 22.12 and newer is needed"
    if ! cmp -s "$DASHBOARD/package-lock.json" "$DASHBOARD/node_modules/installed.json"; then
        say "packages"
        npm ci --prefix "$DASHBOARD" --no-audit --no-fund --loglevel=error
        cp "$DASHBOARD/package-lock.json" "$DASHBOARD/node_modules/installed.json"
    fi
}

find_browser() {
    if [[ -z ${CHROMIUM:-} ]]; then
        CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
            skip "Chromium is missing (as root: apt-get install chromium)"
    fi
    export CHROMIUM
}

find_binary() {
    local profile=${SHARDCAST_PROFILE:-debug}
    SHARDCAST_BIN=${SHARDCAST_BIN:-${CARGO_TARGET_DIR:-target}/$profile/shardcast}
    [[ -x $SHARDCAST_BIN ]] || fail "$SHARDCAST_BIN is missing: run cargo build first, or name another in SHARDCAST_BIN."
    SHARDCAST_BIN=$(realpath "$SHARDCAST_BIN")
    export SHARDCAST_BIN
}

# Whether what is committed is what the source gives, byte by byte.
compare() {
    local built
    built=$(mktemp -d)
    in_dashboard npx vite build --logLevel warn --outDir "$built" --emptyOutDir
    if ! diff --recursive --brief "$DASHBOARD/dist" "$built"; then
        rm -r "$built"
        fail "$DASHBOARD/dist is not what its source gives: run scripts/dashboard.sh build, and commit it."
    fi
    rm -r "$built"
}

check() {
    find_browser
    install_packages
    find_binary
    say "types and lints"
    in_dashboard npm run --silent types
    in_dashboard npm run --silent lint
    say "unit tests"
    in_dashboard npm run --silent unit
    say "whether dist is what the source gives"
    compare
    say "tests in a browser"
    in_dashboard npm run --silent browser
}

find_harness() {
    export SHARDCAST_BENCH_BIN=${SHARDCAST_BENCH_BIN:-${SHARDCAST_BIN%/*}/shardcast-bench}
    [[ -x $SHARDCAST_BENCH_BIN ]] || fail "$SHARDCAST_BENCH_BIN is missing: run cargo build -p shardcast-bench first."
}

scale() {
    find_browser
    install_packages
    find_binary
    find_harness
    in_dashboard npx playwright test --project scale
}

screenshots() {
    find_browser
    install_packages
    find_binary
    find_harness
    in_dashboard npm run --silent screenshots
    # Fewer colours: a page has few, and the files are a third in size.
    if command -v pngquant >/dev/null; then
        pngquant --force --ext .png --speed 1 --strip "$DASHBOARD"/screenshots/*.png
    else
        say "pngquant is missing: the files stay large"
    fi
    ls -l "$DASHBOARD"/screenshots
}

case "${1:-}" in
install) install_packages ;;
build)
    install_packages
    in_dashboard npm run --silent build
    ;;
check) check ;;
screenshots) screenshots ;;
scale) scale ;;
--help | -h) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
