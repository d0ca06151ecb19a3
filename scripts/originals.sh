# shellcheck shell=bash
# What tune.sh and irq-affinity.sh share: values of the kernel are changed after their originals have been saved, and put back from there.
#
# Whoever sources this sets STATE (the file that keeps the originals), PROC_ROOT and COMMAND (how errors call the script), and defines two functions for
# values by their names: `path_of NAME`, the file that holds the value, and `normal TEXT`, the same text for all spellings of a value.
#
# The state file has a line `boot ID`, a line `persisted FILE` where a file has the kernel set the values at every boot, and a line `value NAME TEXT` for each
# original, in the order of the changes. It is complete on the disk before a value changes. So whenever a script is stopped, by whatever, it holds the
# original of everything that is no longer as it was.

export LC_ALL=C

# Whoever finds another one at work waits for so long.
readonly LOCK_SECONDS_MAX=3

# The exit codes for trouble.
readonly PROBLEMS=2
readonly CANNOT_RUN=3

# Names in the order in which they were saved, and the text of each.
SAVED=()
declare -A ORIGINAL=()
PERSISTED=

# What `read_value` read, and why it, or `write_value`, could not.
VALUE=
ERROR=
# Values that could not be read or written.
problems=0
# Values that were written.
changed=0

say() {
    printf '%s: %s\n' "$COMMAND" "$*"
}

warn() {
    printf '%s: %s\n' "$COMMAND" "$*" >&2
}

fail() {
    warn "$@"
    exit "$CANNOT_RUN"
}

problem() {
    warn "$@"
    problems=$((problems + 1))
}

# Refuses to run beside another one on the same directory. The lock ends with the process.
lock() {
    exec {lock}<"$1" || fail "cannot open $1"
    flock --wait "$LOCK_SECONDS_MAX" "$lock" || fail "another $COMMAND is at work: flock on $1 was not to be had within $LOCK_SECONDS_MAX s."
}

# Sets VALUE, or ERROR and returns 1.
read_value() {
    local path
    path=$(path_of "$1")
    if [[ ! -e $path ]]; then
        ERROR="is not there"
        return 1
    fi
    if ! VALUE=$(cat "$path" 2>&1); then
        ERROR="cannot be read: ${VALUE##*: }"
        return 1
    fi
}

# Writes, and looks whether the kernel has taken it as it is. Sets ERROR and returns 1 where not.
write_value() {
    local path
    path=$(path_of "$1")
    if ! ERROR=$({ printf '%s\n' "$2" >"$path"; } 2>&1); then
        ERROR="cannot be set to $2: ${ERROR##*: }"
        return 1
    fi
    read_value "$1" || return 1
    if [[ $(normal "$VALUE") != "$(normal "$2")" ]]; then
        ERROR="was set to $2, and the kernel made $VALUE of it"
        return 1
    fi
}

# Brings a value from one text to another, and shows the difference.
change() {
    local name=$1 from=$2 to=$3
    if write_value "$name" "$to"; then
        show_change "$name" "$from" "$to"
        changed=$((changed + 1))
    else
        problem "$name $(spaced "$ERROR")"
    fi
}

show_change() {
    printf -- '- %s = %s\n+ %s = %s\n' "$1" "$(spaced "$2")" "$1" "$(spaced "$3")"
}

# The kernel separates with tabs, people with spaces.
spaced() {
    printf '%s' "${1//$'\t'/ }"
}

boot() {
    cat "$PROC_ROOT/sys/kernel/random/boot_id" 2>/dev/null || echo unknown
}

# Reads the state file. Returns 1 where it is of an earlier boot: then nothing of what it tells is in force any more.
load_originals() {
    SAVED=()
    ORIGINAL=()
    PERSISTED=
    [[ -e $STATE ]] || return 0
    local line kind rest name of_boot=
    while IFS= read -r line; do
        kind=${line%% *}
        rest=${line#* }
        case "$kind" in
        boot) of_boot=$rest ;;
        persisted) PERSISTED=$rest ;;
        value)
            name=${rest%% *}
            [[ $name =~ ^[a-z0-9_./-]+$ && $name != *..* && $rest == *' '* ]] || fail "$STATE has a line that cannot be read: $line"
            SAVED+=("$name")
            ORIGINAL[$name]=${rest#* }
            ;;
        *) fail "$STATE has a line that cannot be read: $line" ;;
        esac
    done <"$STATE"
    [[ $of_boot == "$(boot)" || -n $PERSISTED ]]
}

# Keeps the first text that is saved of a name.
save_original() {
    if [[ -z ${ORIGINAL[$1]+saved} ]]; then
        SAVED+=("$1")
        ORIGINAL[$1]=$2
        write_state
    fi
}

write_state() {
    local name
    mkdir -p "$(dirname "$STATE")" || fail "cannot keep the originals in $STATE: run as root, or name another file with --state."
    {
        printf 'boot %s\n' "$(boot)"
        if [[ -n $PERSISTED ]]; then
            printf 'persisted %s\n' "$PERSISTED"
        fi
        for name in "${SAVED[@]}"; do
            printf 'value %s %s\n' "$name" "${ORIGINAL[$name]}"
        done
    } | replace "$STATE" || fail "cannot keep the originals in $STATE, so nothing more is changed."
}

# Standard input becomes the content of a file: on the disk, and as a whole or not at all.
replace() {
    cat >"$1.new" && sync "$1.new" && mv -T "$1.new" "$1" && sync "$(dirname "$1")"
}

# Puts all originals back, the last one first.
put_back() {
    local place name
    for ((place = ${#SAVED[@]} - 1; place >= 0; place--)); do
        name=${SAVED[place]}
        if ! read_value "$name"; then
            problem "$name $ERROR"
        elif [[ $VALUE != "${ORIGINAL[$name]}" ]]; then
            change "$name" "$VALUE" "${ORIGINAL[$name]}"
        fi
    done
}

# The whole of `revert`. The state file goes last, and only where nothing is left to put back.
revert() {
    if ! load_originals; then
        say "nothing to put back: $STATE is of an earlier boot, and the reboot undid what it tells."
    elif [[ ! -e $STATE ]]; then
        say "nothing to put back: there is no $STATE."
    else
        put_back
        if ((problems > 0)); then
            warn "$changed put back, $problems not (see above). $STATE is kept: run revert again, or remove it to give up on the rest."
            exit "$PROBLEMS"
        fi
        if [[ -n $PERSISTED ]]; then
            rm -f "$PERSISTED" "$PERSISTED.new" || fail "cannot remove $PERSISTED, so the next boot would apply it. $STATE is kept."
            sync "$(dirname "$PERSISTED")"
        fi
        say "$changed put back, $((${#SAVED[@]} - changed)) were as before."
    fi
    rm -f "$STATE" "$STATE.new"
}

on_interrupt() {
    warn "interrupted. \`apply\` goes on where this ended, \`revert\` puts back what was changed."
    exit 130
}
