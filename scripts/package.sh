#!/usr/bin/env bash
# Builds the Debian package of Shardcast.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PROFILE=${SHARDCAST_PROFILE:-release}
readonly TARGET=${CARGO_TARGET_DIR:-target}
# What is made for the package beside the binary. `[package.metadata.deb]` of engine/Cargo.toml says where each file goes.
readonly STAGE=$TARGET/$PROFILE/package
# Newer versions may lay a package out differently, or refuse a debug build: a test looks at what comes out of this one.
readonly CARGO_DEB_VERSION=3.8.0

usage() {
    cat <<'TEXT'
Usage: scripts/package.sh [--revision N] [--output DIR] [--help]

  --revision N   of the package, where it changes and the program does not (1)
  --output DIR   where the package goes (target/debian)

Prints the path of the package, shardcast_VERSION-N_ARCHITECTURE.deb. It installs the program, its systemd unit and user, /etc/shardcast/shardcast.toml,
settings of the kernel, man pages and completions. SHARDCAST_PROFILE=debug packages a debug build, for tests.

Needs Rust and, of Debian, dpkg-dev and a C compiler; cargo-deb is installed with cargo where it is missing. The package runs on the release of Debian that it
was built on, and on newer ones.
TEXT
}

say() {
    printf '=== [%4d s] %s\n' "$SECONDS" "$*" >&2
}

fail() {
    printf 'scripts/package.sh: %s\n' "$*" >&2
    exit 1
}

install_cargo_deb() {
    if [[ $(cargo deb --version 2>/dev/null) == *"$CARGO_DEB_VERSION" ]]; then
        return
    fi
    say "Installing cargo-deb $CARGO_DEB_VERSION"
    cargo install --quiet --locked --version "$CARGO_DEB_VERSION" cargo-deb
}

build() {
    say "Building"
    if [[ $PROFILE == release ]]; then
        cargo build --quiet --locked --release -p shardcast
    else
        # As `cargo test --workspace` does: a package alone takes other features of its dependencies, and all would be built again.
        cargo build --quiet --workspace --bins --examples
    fi
}

# The program writes its own manual, completions and configuration: they are of its version. Of the configuration two defaults are left out, which are this
# machine's: dpkg would take another machine's for a change of the package.
stage() {
    local revision=$1 binary
    binary=$(realpath "$TARGET/$PROFILE/shardcast")
    rm -rf "$STAGE"
    mkdir -p "$STAGE/man"
    env -i "$binary" man "$STAGE/man"
    env -i "$binary" completions bash >"$STAGE/shardcast.bash"
    env -i "$binary" completions zsh >"$STAGE/_shardcast"
    env -i "$binary" completions fish >"$STAGE/shardcast.fish"
    {
        cat scripts/debian/shardcast.toml
        env -i "$binary" config --format toml | sed -E '1d; /^# (shards|cores) = /d'
    } >"$STAGE/shardcast.toml"
    gzip -9 --no-name "$STAGE"/man/*.1
    gzip -9 --no-name <CHANGELOG.md >"$STAGE/changelog.gz"
    debian_changelog "$revision" | gzip -9 --no-name >"$STAGE/changelog.Debian.gz"
}

# The history of the packaging, as Debian's tools read it. What changed in the program stands in CHANGELOG.md.
debian_changelog() {
    local version maintainer
    version=$(cargo pkgid -p shardcast)
    maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' engine/Cargo.toml)
    printf 'shardcast (%s-%s) unstable; urgency=medium\n\n  * Package of Shardcast %s. What changed: changelog.gz.\n\n -- %s  %s\n' \
        "${version##*[#@]}" "$1" "${version##*[#@]}" "$maintainer" "$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")"
}

main() {
    local revision=1 output=$TARGET/debian arguments=()
    while (($# > 0)); do
        case "$1" in
        --revision | --output)
            [[ -n ${2-} ]] || fail "$1 needs a value"
            declare "${1#--}=$2"
            shift 2
            ;;
        --help | -h)
            usage
            return
            ;;
        *)
            usage >&2
            fail "unknown option: $1"
            ;;
        esac
    done
    [[ $PROFILE == release || $PROFILE == debug ]] || fail "SHARDCAST_PROFILE takes release or debug, not $PROFILE"
    [[ $revision =~ ^[0-9a-z.+~]+$ ]] || fail "--revision takes digits, letters and . + ~, not $revision"
    command -v dpkg-shlibdeps >/dev/null || fail "dpkg-shlibdeps is missing: apt-get install dpkg-dev"
    # The same sources give the same package: files in it have the time of the last commit.
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    export SOURCE_DATE_EPOCH

    install_cargo_deb
    build
    stage "$revision"
    say "Packaging"
    if [[ $PROFILE == debug ]]; then
        arguments=(--profile dev --fast --quiet)
    fi
    cargo deb --no-build --locked -p shardcast --strip --deb-revision "$revision" --output "$output" "${arguments[@]}"
}

main "$@"
