#!/usr/bin/env bash
# Brings the kernel's settings to what many connections need (settings.table), and back.
set -euo pipefail

readonly COMMAND=scripts/tune.sh
HERE=$(dirname "${BASH_SOURCE[0]}")
readonly HERE
readonly TABLE=$HERE/settings.table
# By this first line a file is known as written here.
readonly MARK="# Written by tune.sh of Shardcast; its revert removes this file."

# shellcheck source=scripts/originals.sh
source "$HERE/originals.sh"

# The exit code of check where a setting is worse than wanted.
readonly NOT_AS_WANTED=1

# Set by the command line.
SYSCTL_ROOT=/proc/sys
STATE=/var/lib/shardcast/tune.state
PERSIST=
connections=1000000

# The rows of the table, column by column. INDEX is empty where the setting has one value.
SETTINGS=()
INDEXES=()
WANTS=()
BOUNDS=()
REASONS=()
# Each setting once, in the order of the table.
DISTINCT=()

# What a function has for its caller.
ELEMENT=
VERDICT=
WANTED=

usage() {
    cat <<'TEXT'
Usage: scripts/tune.sh check|apply|revert [OPTIONS]

  check   one line for each setting of settings.table: ok, low, high or off, what it is, what is wanted, and why
  apply   changes what is worse than wanted, and nothing else, and prints the difference. The originals are saved first, so it can be
          interrupted at any time and repeated as often as you like
  revert  puts all originals back and forgets them

  --connections N      for so many connections (1000000)
  --persist[=FILE]     apply also has every boot apply what was changed (/etc/sysctl.d/90-shardcast.conf); revert removes that file.
                       Without it a reboot undoes all
  --state FILE         where the originals are kept (/var/lib/shardcast/tune.state)
  --sysctl-root DIR    the settings as files (/proc/sys)

What is better than wanted stays, and so does what this kernel does not have. In a container most settings are the host's: run this there.

Exit codes: 0, all is as wanted, or put back; 1, check found a setting worse than wanted; 2, a setting could not be read or written, each is
named with its error; 3, could not run at all.
TEXT
}

path_of() {
    printf '%s/%s' "$SYSCTL_ROOT" "${1//.//}"
}

# The values of a setting may be separated by tabs or spaces.
normal() {
    local fields
    read -ra fields <<<"$1"
    printf '%s' "${fields[*]}"
}

read_table() {
    local setting want base each why number=0
    while read -r setting want base each why; do
        number=$((number + 1))
        if [[ -z $setting || $setting == '#'* ]]; then
            continue
        fi
        [[ $want =~ ^(at-least|at-most|exactly)$ && $base =~ ^[0-9]+$ && $each =~ ^[0-9]+$ && -n $why &&
            $setting =~ ^([a-z0-9_.-]+)(\[([0-9])\])?$ ]] ||
            fail "line $number of $TABLE is no row: a setting, at-least, at-most or exactly, two numbers, and why"
        SETTINGS+=("${BASH_REMATCH[1]}")
        INDEXES+=("${BASH_REMATCH[3]}")
        WANTS+=("$want")
        BOUNDS+=($((base + each * connections)))
        REASONS+=("$why")
        if [[ " ${DISTINCT[*]} " != *" ${BASH_REMATCH[1]} "* ]]; then
            DISTINCT+=("${BASH_REMATCH[1]}")
        fi
    done <"$TABLE"
}

# Sets ELEMENT to the value that a row is about, of the text of its setting. Returns 1 where there is no such number.
element() {
    local fields
    read -ra fields <<<"$2"
    ELEMENT=${fields[${INDEXES[$1]:-0}]-}
    if [[ ! $ELEMENT =~ ^-?[0-9]+$ ]]; then
        ERROR="has no number${INDEXES[$1]:+ at [${INDEXES[$1]}]}: $(spaced "$2")"
        return 1
    fi
}

# Sets VERDICT to what a row says of the text of its setting, and ELEMENT.
judge() {
    local bound=${BOUNDS[$1]}
    element "$1" "$2" || return 1
    VERDICT=ok
    case "${WANTS[$1]}" in
    at-least) ((ELEMENT >= bound)) || VERDICT=low ;;
    at-most) ((ELEMENT <= bound)) || VERDICT=high ;;
    exactly) ((ELEMENT == bound)) || VERDICT=off ;;
    esac
}

# Sets WANTED to the text that a setting should have: of several values only those change that a row asks for. All change in one write, so that the
# kernel never sees a part of them.
improve() {
    local setting=$1 text=$2 row fields
    read -ra fields <<<"$text"
    for row in "${!SETTINGS[@]}"; do
        if [[ ${SETTINGS[row]} == "$setting" ]]; then
            judge "$row" "$text" || return 1
            if [[ $VERDICT != ok ]]; then
                fields[${INDEXES[row]:-0}]=${BOUNDS[row]}
            fi
        fi
    done
    local IFS=$'\t'
    WANTED="${fields[*]}"
}

check() {
    local row name wanted worse=0
    for row in "${!SETTINGS[@]}"; do
        name=${SETTINGS[row]}${INDEXES[row]:+[${INDEXES[row]}]}
        wanted="${WANTS[row]/-/ } ${BOUNDS[row]}"
        if [[ ! -e $(path_of "${SETTINGS[row]}") ]]; then
            VERDICT=ok
            ELEMENT='not there'
        elif ! read_value "${SETTINGS[row]}" || ! judge "$row" "$VALUE"; then
            problem "$name $ERROR"
            continue
        elif [[ $VERDICT != ok ]]; then
            worse=$((worse + 1))
        fi
        printf '  %-4s %-36s %20s, wanted %-20s %s\n' "$VERDICT" "$name" "$ELEMENT" "$wanted" "${REASONS[row]}"
    done
    if ((problems > 0)); then
        warn "$problems settings could not be read."
        exit "$PROBLEMS"
    elif ((worse > 0)); then
        say "$worse of ${#SETTINGS[@]} are worse than $connections connections want. \`apply\` changes them, \`revert\` puts them back."
        exit "$NOT_AS_WANTED"
    fi
    say "all settings hold for $connections connections."
}

apply() {
    local setting held=0 missing=0
    if ! load_originals; then
        say "$STATE is of an earlier boot, and the reboot undid what it tells: begun anew."
        SAVED=()
        ORIGINAL=()
    fi
    for setting in "${DISTINCT[@]}"; do
        if [[ ! -e $(path_of "$setting") ]]; then
            missing=$((missing + 1))
        elif ! read_value "$setting" || ! improve "$setting" "$VALUE"; then
            problem "$setting $ERROR"
        elif [[ $(normal "$VALUE") == "$(normal "$WANTED")" ]]; then
            held=$((held + 1))
        else
            save_original "$setting" "$VALUE"
            change "$setting" "$VALUE" "$WANTED"
        fi
    done
    if [[ -n $PERSIST ]]; then
        persist
    fi
    say "$changed changed, $held held, $missing are not on this kernel, $problems could not be changed."
    ((problems == 0)) || exit "$PROBLEMS"
}

# Writes what apply has changed, now or before, as a file for sysctl.d(5). What the kernel has refused is left out.
persist() {
    local setting
    if ((${#SAVED[@]} == 0)); then
        say "nothing was changed, so $PERSIST is not needed."
        return
    fi
    if [[ -e $PERSIST && $(head -n 1 "$PERSIST") != "$MARK" ]]; then
        problem "$PERSIST is somebody else's file: name another one with --persist=FILE."
        return
    fi
    if [[ -n $PERSISTED && $PERSISTED != "$PERSIST" ]]; then
        problem "the settings are in $PERSISTED already: revert first, or name the same file."
        return
    fi
    PERSISTED=$PERSIST
    write_state
    {
        printf '%s\n' "$MARK"
        for setting in "${SAVED[@]}"; do
            if read_value "$setting" && improve "$setting" "$VALUE" && [[ $(normal "$VALUE") == "$(normal "$WANTED")" ]]; then
                printf '%s = %s\n' "$setting" "$(spaced "$VALUE")"
            fi
        done
    } | replace "$PERSIST" || problem "$PERSIST cannot be written: the next boot will not apply these settings."
}

# A process whose hard limit is above fs.nr_open keeps its descriptors, but the kernel refuses whatever limits it sets from then on (setrlimit(2)).
warn_of_limits() {
    local original=${ORIGINAL[fs.nr_open]-} file limit fields pids=()
    if [[ -z $original ]]; then
        return
    fi
    # Processes come and go meanwhile.
    while IFS=: read -r file limit; do
        read -ra fields <<<"$limit"
        if [[ ${fields[4]} == unlimited ]] || ((fields[4] > original)); then
            file=${file%/limits}
            pids+=("${file##*/}")
        fi
    done < <(grep -H '^Max open files' "$PROC_ROOT"/[0-9]*/limits 2>/dev/null || true)
    if ((${#pids[@]} > 0)); then
        warn "fs.nr_open goes back to $original. These processes have a higher limit of open files and can set no limit of their own until they are started again: ${pids[*]}"
    fi
}

main() {
    local mode=${1-}
    case "$mode" in
    check | apply | revert) shift ;;
    --help | -h)
        usage
        return
        ;;
    *)
        usage >&2
        fail "the first argument is check, apply or revert${mode:+, not $mode}"
        ;;
    esac
    while (($# > 0)); do
        case "$1" in
        --connections | --state | --sysctl-root)
            [[ -n ${2-} ]] || fail "$1 needs a value"
            case "$1" in
            --connections) connections=$2 ;;
            --state) STATE=$2 ;;
            --sysctl-root) SYSCTL_ROOT=${2%/} ;;
            esac
            shift 2
            ;;
        --persist | --persist=*)
            PERSIST=${1#--persist}
            PERSIST=${PERSIST#=}
            PERSIST=${PERSIST:-/etc/sysctl.d/90-shardcast.conf}
            shift
            ;;
        --help | -h)
            usage
            return
            ;;
        *)
            usage >&2
            fail "unknown argument: $1"
            ;;
        esac
    done
    [[ $connections =~ ^[1-9][0-9]{0,8}$ ]] || fail "--connections takes a whole number from 1 to 999999999, not $connections"
    [[ -z $PERSIST || $mode == apply ]] || fail "--persist goes with apply; revert knows by itself what was persisted"
    [[ -d $SYSCTL_ROOT ]] || fail "there is no directory $SYSCTL_ROOT"
    PROC_ROOT=$(dirname "$SYSCTL_ROOT")
    read_table

    if [[ $mode == check ]]; then
        check
        return
    fi
    trap on_interrupt INT TERM
    lock "$SYSCTL_ROOT"
    if [[ $mode == revert ]]; then
        load_originals && warn_of_limits
        revert
    else
        apply
    fi
}

main "$@"
