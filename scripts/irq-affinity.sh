#!/usr/bin/env bash
# Binds the interrupts and queues of a network card to the cores of the shards, and back: then what comes in on a core is handled by the shard there.
set -euo pipefail

readonly COMMAND=scripts/irq-affinity.sh
HERE=$(dirname "${BASH_SOURCE[0]}")
readonly HERE

# shellcheck source=scripts/originals.sh
source "$HERE/originals.sh"

# Set by the command line.
INTERFACE=
STATE=
PROC_ROOT=/proc
SYS_ROOT=/sys
cores_asked=
rps=no
dry_run=no

CORES=()
# Interrupts of the card in ascending order, and the name of each.
INTERRUPTS=()
declare -A LABEL=()
# The names of all values to set, in this order, and the text that each should have.
PLAN=()
declare -A WANTED=()
# Receive and transmit queues, and queues with an interrupt of their own.
receive=0
transmit=0
queues=0

usage() {
    cat <<'TEXT'
Usage: scripts/irq-affinity.sh show|apply|revert INTERFACE [OPTIONS]

  show    which cores the card's interrupts go to, and which core sends by which queue; `->` where apply would have it otherwise
  apply   binds the interrupt of each queue to one core, the cores in turn, and has each core send by the queue whose interrupt it gets (XPS).
          What belongs to no queue goes to the first core. The originals are saved first, so it can be interrupted and repeated
  revert  puts all back

  --cores LIST     the cores of the shards, such as 0-3,8 (those that the server takes by itself: the first hardware thread of each physical core,
                   those of the card's NUMA node first)
  --rps            also has each receive queue hand its packets to all of these cores, by a hash (RPS): for cards with fewer queues than cores
  --dry-run        apply prints what it would change, and changes nothing
  --state FILE     where the originals are kept (/var/lib/shardcast/irq-affinity-INTERFACE.state)
  --proc-root DIR, --sys-root DIR
                   instead of /proc and /sys

A reboot undoes all of it, and so does a driver that makes its queues anew (ethtool -L): apply again then.

Exit codes: 0, done; 2, a value could not be read or written, each is named with its error; 3, could not run at all.
TEXT
}

path_of() {
    case "$1" in
    irq/*) printf '%s/%s' "$PROC_ROOT" "$1" ;;
    queues/*) printf '%s/class/net/%s/%s' "$SYS_ROOT" "$INTERFACE" "$1" ;;
    esac
}

# Lists of cores are printed as they are written. Masks are padded with zeros, and a comma stands between each 32 bits.
normal() {
    local text=$1
    if [[ $text =~ ^[0-9a-f]+(,[0-9a-f]{8})*$ ]]; then
        text=${text//,/}
        while [[ $text == 0?* ]]; do
            text=${text#0}
        done
    fi
    printf '%s' "$text"
}

# Prints the cores of a list such as 0-3,8, one a line.
expand() {
    local part first last
    for part in ${1//,/ }; do
        [[ $part =~ ^([0-9]{1,4})(-([0-9]{1,4}))?$ ]] || return 1
        first=$((10#${BASH_REMATCH[1]}))
        last=$((10#${BASH_REMATCH[3]:-$first}))
        ((first <= last)) || return 1
        seq "$first" "$last"
    done
}

# Prints the mask of some cores: hexadecimal, a comma between each 32 bits.
mask() {
    local core group groups=() last=0 text
    for core in "$@"; do
        group=$((core / 32))
        groups[group]=$((${groups[group]:-0} | 1 << (core % 32)))
        last=$((group > last ? group : last))
    done
    printf -v text '%x' "${groups[last]:-0}"
    for ((group = last - 1; group >= 0; group--)); do
        printf -v text '%s,%08x' "$text" "${groups[group]:-0}"
    done
    printf '%s' "$text"
}

has() {
    local wanted=$1 one
    shift
    for one in "$@"; do
        [[ $one != "$wanted" ]] || return 0
    done
    return 1
}

# Prints the cores of a list that a file holds; nothing where there is no such file.
cores_in() {
    [[ ! -e $1 ]] || expand "$(<"$1")"
}

# Sets CORES: those that were asked for, or those that the server takes by itself (`Topology::shard_cores`).
choose_cores() {
    local cpus=$SYS_ROOT/devices/system/cpu device=$SYS_ROOT/class/net/$INTERFACE/device
    local online core node=-1 of_node siblings sibling near=() far=()
    mapfile -t online < <(cores_in "$cpus/online")
    ((${#online[@]} > 0)) || fail "cannot read which cores there are: $cpus/online"
    if [[ -n $cores_asked ]]; then
        mapfile -t CORES < <(expand "$cores_asked" || echo "what?")
        for core in "${CORES[@]}"; do
            has "$core" "${online[@]}" || fail "--cores takes a list of cores, such as 0-3,8, of these: $(<"$cpus/online"). It was $cores_asked"
        done
        return
    fi
    if [[ -e $device/numa_node ]]; then
        node=$(<"$device/numa_node")
    fi
    mapfile -t of_node < <(cores_in "$SYS_ROOT/devices/system/node/node$node/cpulist")
    for core in "${online[@]}"; do
        mapfile -t siblings < <(cores_in "$cpus/cpu$core/topology/thread_siblings_list")
        for sibling in "${siblings[@]}"; do
            if ((sibling < core)) && has "$sibling" "${online[@]}"; then
                continue 2
            fi
        done
        if has "$core" "${of_node[@]}"; then
            near+=("$core")
        else
            far+=("$core")
        fi
    done
    CORES=("${near[@]}" "${far[@]}")
}

# Sets INTERRUPTS and LABEL. A card on the PCI bus lists its interrupts; those of others (virtio) are known by their names.
find_interrupts() {
    local device=$SYS_ROOT/class/net/$INTERFACE/device file line number name
    name=$(basename "$(readlink -f "$device" || true)")
    for file in "$device"/msi_irqs/*; do
        [[ ! -e $file ]] || INTERRUPTS+=("${file##*/}")
    done
    while read -r number line; do
        number=${number%:}
        [[ $number =~ ^[0-9]+$ ]] || continue
        if [[ -d $device/msi_irqs ]]; then
            has "$number" "${INTERRUPTS[@]}" || continue
        elif [[ $line =~ [^a-zA-Z0-9_.]("$INTERFACE"|"${name:-$INTERFACE}")([^a-zA-Z0-9_]|$) ]]; then
            INTERRUPTS+=("$number")
        else
            continue
        fi
        LABEL[$number]=${line##* }
    done <"$PROC_ROOT/interrupts"
    if ((${#INTERRUPTS[@]} > 0)); then
        mapfile -t INTERRUPTS < <(printf '%s\n' "${INTERRUPTS[@]}" | sort -n)
    fi
}

# Prints the number of the queue that an interrupt belongs to: the last one of its name, such as eth0-TxRx-3, virtio2-input.0 or mlx5_comp7@pci:0000:17:00.0.
# Nothing where it belongs to none: a change of the link, commands.
queue_of() {
    local label=${LABEL[$1]-}
    label=${label%%@*}
    if [[ $label != "$INTERFACE" && $label != *event* && $label != *async* && $label =~ ([0-9]+)$ ]]; then
        printf '%d' "$((10#${BASH_REMATCH[1]}))"
    fi
}

want() {
    PLAN+=("$1")
    WANTED[$1]=$2
}

# Sets PLAN and WANTED.
plan() {
    local interrupt number numbers=() place directory senders
    local -A queue=() core_of=()
    for interrupt in "${INTERRUPTS[@]}"; do
        queue[$interrupt]=$(queue_of "$interrupt")
        [[ -z ${queue[$interrupt]} ]] || numbers+=("${queue[$interrupt]}")
    done
    # Queues count in the order of their numbers: some cards leave some out. The two directions of a queue have one number.
    for number in $(printf '%s\n' "${numbers[@]}" | sort -nu); do
        core_of[$number]=${CORES[queues % ${#CORES[@]}]}
        queues=$((queues + 1))
    done
    for interrupt in "${INTERRUPTS[@]}"; do
        number=${queue[$interrupt]}
        want "irq/$interrupt/smp_affinity_list" "${core_of[${number:-none}]-${CORES[0]}}"
    done
    for directory in "$SYS_ROOT/class/net/$INTERFACE"/queues/*; do
        case "${directory##*/}" in
        rx-*) receive=$((receive + 1)) ;;
        tx-*) transmit=$((transmit + 1)) ;;
        esac
    done
    # With one queue there is nothing to choose, and the kernel has no such file.
    for ((number = 0; transmit > 1 && number < transmit; number++)); do
        senders=()
        for place in "${!CORES[@]}"; do
            if ((place % transmit == number || number % ${#CORES[@]} == place)); then
                senders+=("${CORES[place]}")
            fi
        done
        want "queues/tx-$number/xps_cpus" "$(mask "${senders[@]}")"
    done
    for ((number = 0; number < receive; number++)); do
        if [[ $rps == yes ]]; then
            want "queues/rx-$number/rps_cpus" "$(mask "${CORES[@]}")"
        fi
    done
}

warn_of_what_disturbs() {
    local file name
    for file in "$PROC_ROOT"/[0-9]*/comm; do
        # Processes come and go meanwhile.
        { read -r name <"$file"; } 2>/dev/null || continue
        if [[ $name == irqbalance ]]; then
            file=${file%/comm}
            warn "irqbalance runs (process ${file##*/}) and will bind the interrupts otherwise: systemctl disable --now irqbalance"
        fi
    done
    if ((queues < ${#CORES[@]})); then
        warn "$INTERFACE has interrupts for fewer queues ($queues) than cores (${#CORES[@]}), so packets come in on some of the cores only: \`ethtool -L\` makes more queues where the card can, --rps hands packets on, or name fewer --cores."
    fi
}

show() {
    local name interrupt wanted
    printf '%s: queues to receive: %d, to transmit: %d, with interrupts: %d; cores %s\n' "$INTERFACE" "$receive" "$transmit" "$queues" "${CORES[*]}"
    for name in "${PLAN[@]}"; do
        if ! read_value "$name"; then
            problem "$name $ERROR"
            continue
        fi
        interrupt=${name#irq/}
        interrupt=${interrupt%%/*}
        wanted=
        if [[ $(normal "$VALUE") != "$(normal "${WANTED[$name]}")" ]]; then
            wanted="-> ${WANTED[$name]}"
        fi
        printf '  %-32s %-12s %-12s %s\n' "$name" "$VALUE" "$wanted" "${LABEL[$interrupt]-}"
    done
}

apply() {
    local name held=0 steering=on
    if ! load_originals; then
        say "$STATE is of an earlier boot, and the reboot undid what it tells: begun anew."
        SAVED=()
        ORIGINAL=()
    fi
    for name in "${PLAN[@]}"; do
        if ! read_value "$name"; then
            problem "$name $ERROR"
        elif [[ $(normal "$VALUE") == "$(normal "${WANTED[$name]}")" ]]; then
            held=$((held + 1))
        elif [[ $dry_run == yes ]]; then
            show_change "$name" "$VALUE" "${WANTED[$name]}"
            changed=$((changed + 1))
        else
            save_original "$name" "$VALUE"
            change "$name" "$VALUE" "${WANTED[$name]}"
        fi
    done
    if [[ $dry_run == yes ]]; then
        say "$changed would change, $held are as wanted, $problems cannot be read."
    else
        say "$changed changed, $held were as wanted, $problems could not be changed."
        # Where packets come in on some of the cores only, the shards on the others would get no connection.
        if ((queues < ${#CORES[@]})) && [[ $rps == no ]]; then
            steering=off
        fi
        say "the server's part: --cores $(IFS=,; printf '%s' "${CORES[*]}") --steering $steering"
    fi
}

main() {
    local mode=${1-}
    case "$mode" in
    show | apply | revert) ;;
    --help | -h)
        usage
        return
        ;;
    *)
        usage >&2
        fail "the first argument is show, apply or revert${mode:+, not $mode}"
        ;;
    esac
    INTERFACE=${2-}
    [[ $INTERFACE =~ ^[^/-][^/]*$ ]] || fail "the second argument is the interface, such as eth0"
    shift 2
    while (($# > 0)); do
        case "$1" in
        --cores | --state | --proc-root | --sys-root)
            [[ -n ${2-} ]] || fail "$1 needs a value"
            case "$1" in
            --cores) cores_asked=$2 ;;
            --state) STATE=$2 ;;
            --proc-root) PROC_ROOT=${2%/} ;;
            --sys-root) SYS_ROOT=${2%/} ;;
            esac
            shift 2
            ;;
        --rps)
            rps=yes
            shift
            ;;
        --dry-run)
            dry_run=yes
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
    [[ $dry_run == no || $mode == apply ]] || fail "--dry-run goes with apply"
    STATE=${STATE:-/var/lib/shardcast/irq-affinity-$INTERFACE.state}
    [[ -d $SYS_ROOT/class/net/$INTERFACE ]] || fail "there is no interface $INTERFACE"

    if [[ $mode == revert ]]; then
        trap on_interrupt INT TERM
        lock "$PROC_ROOT/irq"
        revert
        return
    fi
    choose_cores
    find_interrupts
    plan
    ((${#PLAN[@]} > 0)) || fail "$INTERFACE has neither interrupts of its own nor several queues: there is nothing to bind. --rps spreads the packets of one queue over cores."
    warn_of_what_disturbs
    if [[ $mode == show ]]; then
        show
    else
        trap on_interrupt INT TERM
        lock "$PROC_ROOT/irq"
        apply
    fi
    ((problems == 0)) || exit "$PROBLEMS"
}

main "$@"
