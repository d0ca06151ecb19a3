#!/usr/bin/env bash
# Spreads new connections to one address and port over several engine processes, in the kernel: destination NAT with nftables or iptables.
set -euo pipefail

# `watch` takes a backend out after so many failed probes in a row, and puts it back after as many that succeed.
readonly PROBES_TO_CHANGE=2
readonly PROBE_SECONDS_MAX=1
readonly PROBE_PAUSE_SECONDS=1
# Fixed, so that a source keeps its backend when the same rules are applied again.
readonly HASH_SEED=0x5ca1ab1e
# iptables on nftables makes the table nat for its first rule and keeps it after its last one. A rule without a target and with this comment remembers
# that the table was not there before, so that it goes, too.
readonly TABLE_MADE=shardcast_made_nat

# Set by the command line.
COMMAND=
TOOL=nftables
LISTEN=
BACKENDS=()
SPREAD=random
MASQUERADE=false
LOCAL=false
DRY_RUN=false
NOTRACK_CHECKED=true
# The table or chain of this balancer: from its address and port, within the 28 characters of a chain's name.
NAME=

usage() {
    cat <<'TEXT'
Usage: scripts/loadbalance.sh apply  --listen ADDRESS:PORT --backend ADDRESS:PORT … [options]
       scripts/loadbalance.sh watch  --listen ADDRESS:PORT --backend ADDRESS:PORT … [options]
       scripts/loadbalance.sh status --listen ADDRESS:PORT [--with TOOL]
       scripts/loadbalance.sh remove --listen ADDRESS:PORT [--with TOOL] [--dry-run]
       scripts/loadbalance.sh --help

  apply   has new connections to --listen go to the backends; again, with whatever has changed, it replaces the rules in one transaction
  watch   applies, then probes each backend every second, takes out what does not answer and puts it back; runs until it is stopped, and the
          rules stay as they are then
  status  for each backend the connections that it was given since the rules last changed, and those that are open: as conntrack counts them, which
          keeps some that ended with a reset for a while
  remove  takes the rules away; other rules stay as they are

  --listen ADDRESS:PORT   where clients connect: an IPv4 address of this host, not 0.0.0.0
  --backend ADDRESS:PORT  an engine process, here or on another host; once for each
  --with TOOL             nftables (default) or iptables
  --spread HOW            random (default); turns: one after the other, exactly even; source: by a hash of the client's address, the same backend
                          for the same client while the list of backends stays (nftables only: iptables has no such hash for NAT)
  --local                 connections that this host makes itself, too
  --masquerade            backends see this host's address instead of the client's. Needed where a backend's answers would not come back through
                          this host; a bound by address (--address-connections-max) then counts all clients as one
  --despite-notrack       applies although rules were found that may leave these connections untracked
  --dry-run               prints what would be loaded, and loads nothing

Needs root and the package of the tool. Backends on other hosts need net.ipv4.ip_forward=1.

A change of the backends concerns new connections only: conntrack remembers where an open one goes. So to drain a backend, apply without it and wait
until `status` shows no open connections of it.

When a backend is lost, its connections end, and those to the others go on. The kernel does not check backends: until it is taken out, new connections
are still sent to it, one in N with N backends, and are refused (its process is gone) or wait in vain (its host is gone). `watch` takes it out after two
failed probes in a row, 1 to 2 s where they are refused and 2 to 4 s where nothing answers, and puts it back after two that succeed. A probe is a TCP
connection: it does not find a process that hangs with its port open. When no backend answers, the rules stay as they are.

`remove` ends the connections that are still open through the balancer, unless other rules have the kernel go on tracking and translating.
TEXT
}

say() {
    printf '%(%H:%M:%S)T %s\n' -1 "$*"
}

fail() {
    printf 'scripts/loadbalance.sh: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Prints `$2`, the value of the option `$1`, as an address and a port without leading zeros.
endpoint() {
    local option=$1 text=$2 part
    [[ $text =~ ^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3}):([0-9]{1,5})$ ]] ||
        fail "$option $text: write an IPv4 address and a port, such as 10.0.0.5:9000 (IPv6 is not offered)"
    local -a parts=()
    for part in "${BASH_REMATCH[@]:1}"; do
        parts+=($((10#$part)))
    done
    for part in "${parts[@]:0:4}"; do
        ((part <= 255)) || fail "$option $text: a part of an IPv4 address is at most 255"
    done
    ((parts[4] >= 1 && parts[4] <= 65535)) || fail "$option $text: a port is 1 to 65535"
    ((parts[0] > 0)) || fail "$option $text: name the address itself, such as 10.0.0.5:9000"
    printf '%d.%d.%d.%d:%d\n' "${parts[@]}"
}

parse_options() {
    local value backend
    while (($# > 0)); do
        case "$1" in
        --listen | --backend | --with | --spread)
            (($# > 1)) || fail "$1 needs a value"
            value=$2
            case "$1" in
            --listen)
                LISTEN=$(endpoint "$1" "$value")
                ;;
            --backend)
                value=$(endpoint "$1" "$value")
                for backend in "${BACKENDS[@]}"; do
                    [[ $backend != "$value" ]] || fail "--backend $value is given twice"
                done
                BACKENDS+=("$value")
                ;;
            --with)
                [[ $value == nftables || $value == iptables ]] || fail "--with $value: there are nftables and iptables"
                TOOL=$value
                ;;
            --spread)
                [[ $value == random || $value == turns || $value == source ]] || fail "--spread $value: there are random, turns and source"
                SPREAD=$value
                ;;
            esac
            shift
            ;;
        --local) LOCAL=true ;;
        --masquerade) MASQUERADE=true ;;
        --despite-notrack) NOTRACK_CHECKED=false ;;
        --dry-run) DRY_RUN=true ;;
        *)
            usage >&2
            fail "unknown option: $1"
            ;;
        esac
        shift
    done
    [[ -n $LISTEN ]] || fail "$COMMAND needs --listen ADDRESS:PORT"
    local address=${LISTEN%:*}
    # shellcheck disable=SC2086  # four numbers
    NAME=$(printf 'shardcast_%02x%02x%02x%02x_%d' ${address//./ } "${LISTEN#*:}")
}

# What no machine could do.
check_plan() {
    local backend
    ((${#BACKENDS[@]} > 0)) || fail "$COMMAND needs --backend ADDRESS:PORT, once for each engine process"
    if [[ $TOOL == iptables && $SPREAD == source ]]; then
        fail "--spread source is not offered with iptables, which has no hash to choose a NAT target by: use --with nftables"
    fi
    if [[ $LISTEN == 127.* ]]; then
        $LOCAL || fail "--listen $LISTEN: only this host itself reaches loopback; add --local"
        return
    fi
    for backend in "${BACKENDS[@]}"; do
        [[ $backend != 127.* ]] ||
            fail "--backend $backend: connections from other hosts are not let through to loopback; have the engine listen on an address of this host"
    done
}

check_tools() {
    local tool package=$TOOL
    local -a tools=(nft)
    [[ $TOOL == nftables ]] || tools=(iptables iptables-save iptables-restore)
    ((EUID == 0)) || fail "$COMMAND changes and reads the kernel's rules: run it as root"
    for tool in "${tools[@]}"; do
        have "$tool" || fail "$tool is missing: install the package $package (apt-get install $package)"
    done
    have ip || fail "ip is missing: install the package iproute2 (apt-get install iproute2)"
}

applied() {
    if [[ $TOOL == nftables ]]; then
        nft list table ip "$NAME" >/dev/null 2>&1
    else
        [[ $(iptables-save) == *$'\n':"$NAME "* ]]
    fi
}

# Of two balancers for the same address the kernel follows the one that it comes to first.
check_other_tool() {
    local other=nftables program=nft
    if [[ $TOOL == nftables ]]; then
        other=iptables program=iptables-save
    fi
    if have "$program" && TOOL=$other applied; then
        fail "$LISTEN is balanced with $other already: scripts/loadbalance.sh remove --with $other --listen $LISTEN"
    fi
}

# Backends on other hosts are forwarded to.
check_routes() {
    local backend route
    for backend in "${BACKENDS[@]}"; do
        route=$(ip -4 route get "${backend%:*}" 2>&1) || fail "--backend $backend: there is no route to it ($route)"
        if [[ $route != local* && $(</proc/sys/net/ipv4/ip_forward) == 0 ]]; then
            fail "--backend $backend is on another host, and this one forwards nothing: sysctl -w net.ipv4.ip_forward=1"
        fi
    done
}

# Every rule of either tool that leaves packets untracked. Asking for one table by name would make it where it is not there.
notrack_rules() {
    local save
    {
        if have nft; then
            nft list ruleset
        fi
        for save in iptables-save iptables-legacy-save; do
            if have "$save"; then
                "$save"
            fi
        done
    } 2>/dev/null | grep -iw notrack || true
}

# NAT is a property of a tracked connection. What a rule leaves untracked is not translated, however good the rules here are.
check_notrack() {
    local backend from='' rules
    for backend in "${BACKENDS[@]}"; do
        from+=" ${backend#*:}"
    done
    rules=$(notrack_rules | awk -v to="${LISTEN#*:}" -v from="$from" -v local="$LOCAL" '
        # Whether a condition on ports, of nft ({ 80, 443 }, 80-90) or of iptables (80,443, 80:90), lets one of the ports through. A named set, a
        # concatenation or a negation may.
        function admits(condition, ports,    wanted, items, bounds, i, j) {
            if (condition ~ /[@.!]/) return 1
            gsub(/[{} ]/, "", condition)
            gsub(/:/, "-", condition)
            split(condition, items, ",")
            split(ports, wanted, " ")
            for (i in items) {
                split(items[i] "-" items[i], bounds, "-")
                for (j in wanted) if (wanted[j] + 0 >= bounds[1] + 0 && wanted[j] + 0 <= bounds[2] + 0) return 1
            }
            return 0
        }
        # The condition of the rule on its ports of one end; empty where there is none.
        function condition(rule, end) {
            if (!match(rule, "(! --)?" end "ports? +(!= *)?([{][^}]*[}]|[^ ]+)")) return ""
            rule = substr(rule, RSTART, RLENGTH)
            sub(end "ports? +", "", rule)
            return rule
        }
        {
            if (/udp|icmp/ && !/tcp/) next
            if (local == "false" && /(iif|oif)(name)? "?lo"?|-[io] lo /) next
            destination = condition($0, "d")
            source = condition($0, "s")
            if (source == "" && (destination == "" || admits(destination, to)) ||
                destination == "" && source != "" && admits(source, from)) print
        }')
    [[ -z $rules ]] || fail "these rules leave connections untracked that are to be balanced:
$rules
NAT needs the kernel to track a connection, so they would not be translated. Take the rules away for port ${LISTEN#*:} and the backends' ports (NOTRACK is for hosts \
without NAT), or say --despite-notrack where they concern other addresses."
}

nftables_rules() {
    local count=${#BACKENDS[@]} choice number targets='' output='' postrouting='' chains=''
    local new="ip daddr ${LISTEN%:*} tcp dport ${LISTEN#*:} tcp flags & (fin | syn | rst | ack) == syn"
    case "$SPREAD" in
    random) choice="numgen random mod $count" ;;
    turns) choice="numgen inc mod $count" ;;
    source) choice="jhash ip saddr mod $count seed $HASH_SEED" ;;
    esac
    for number in "${!BACKENDS[@]}"; do
        targets+="${targets:+, }$number : goto backend_$number"
        chains+="
    chain backend_$number {
        meta l4proto tcp counter dnat to ${BACKENDS[number]}
    }"
    done
    if $LOCAL; then
        output="
    chain output {
        type nat hook output priority -100;
        $new goto spread
    }"
    fi
    if $MASQUERADE; then
        postrouting="
    chain postrouting {
        type nat hook postrouting priority 100;
        meta l4proto tcp ct status dnat ct original ip daddr ${LISTEN%:*} ct original proto-dst ${LISTEN#*:} masquerade
    }"
    fi
    # What is not there cannot be deleted, so it is made first. All of it is one transaction.
    cat <<TEXT
add table ip $NAME
delete table ip $NAME
table ip $NAME {$chains
    chain spread {
        $choice vmap { $targets }
    }
    chain prerouting {
        type nat hook prerouting priority -100;
        $new goto spread
    }$output$postrouting
}
TEXT
}

# The rules in chains that are not ours which lead here, as iptables-save prints them.
iptables_references() {
    iptables-save -t nat | grep -E "^-A (PREROUTING|OUTPUT|POSTROUTING) .*\b$NAME\b" || true
}

iptables_rules() {
    local count=${#BACKENDS[@]} number left match before
    local new="-d ${LISTEN%:*} -p tcp --dport ${LISTEN#*:} --syn -j $NAME"
    # The line with the colon makes the chain, or empties it.
    printf '*nat\n:%s - [0:0]\n' "$NAME"
    if ! $DRY_RUN; then
        iptables_references | sed 's/^-A/-D/'
        before=$(iptables-save)
        if [[ $before != *'*nat'* || $before == *$TABLE_MADE* ]]; then
            printf -- '-A %s -m comment --comment %s\n' "$NAME" "$TABLE_MADE"
        fi
    fi
    printf -- '-I PREROUTING %s\n' "$new"
    if $LOCAL; then
        printf -- '-I OUTPUT %s\n' "$new"
    fi
    if $MASQUERADE; then
        printf -- '-I POSTROUTING -p tcp -m conntrack --ctstate DNAT --ctorigdst %s --ctorigdstport %s -m comment --comment %s -j MASQUERADE\n' \
            "${LISTEN%:*}" "${LISTEN#*:}" "$NAME"
    fi
    for number in "${!BACKENDS[@]}"; do
        # Each rule takes its share of what those before it have left; the last one takes the rest.
        left=$((count - number))
        match=
        if ((left > 1)); then
            case "$SPREAD" in
            random) match="-m statistic --mode random --probability $(awk -v n="$left" 'BEGIN { printf "%.10f", 1 / n }') " ;;
            turns) match="-m statistic --mode nth --every $left --packet 0 " ;;
            esac
        fi
        printf -- '-A %s -p tcp %s-j DNAT --to-destination %s\n' "$NAME" "$match" "${BACKENDS[number]}"
    done
    echo COMMIT
}

apply_rules() {
    if [[ $TOOL == nftables ]]; then
        nftables_rules | nft -f -
    else
        iptables_rules | iptables-restore --noflush --wait
    fi || fail "$TOOL did not take the rules, for the reason above; nothing has changed"
}

apply() {
    check_plan
    if $DRY_RUN; then
        "${TOOL}_rules"
        return
    fi
    check_tools
    check_other_tool
    check_routes
    if $NOTRACK_CHECKED; then
        check_notrack
    fi
    apply_rules
    say "$LISTEN goes to ${BACKENDS[*]} ($TOOL, $SPREAD)"
}

# The rules that take the balancer away.
removal() {
    if [[ $TOOL == nftables ]]; then
        echo "delete table ip $NAME"
        return
    fi
    echo '*nat'
    iptables_references | sed 's/^-A/-D/'
    printf -- '-F %s\n-X %s\nCOMMIT\n' "$NAME" "$NAME"
}

remove() {
    local before after
    check_tools
    if ! applied; then
        say "nothing to remove: $LISTEN is not balanced with $TOOL"
        return
    fi
    if $DRY_RUN; then
        removal
        return
    fi
    if [[ $TOOL == nftables ]]; then
        removal | nft -f -
    else
        before=$(iptables-save -t nat)
        removal | iptables-restore --noflush --wait
        after=$(iptables-save -t nat)
        if [[ $before == *$TABLE_MADE* && $(iptables -V) == *nf_tables* && ! $after =~ $'\n'(-A|:[^ ]+ [-D]) ]]; then
            # Takes away the empty chains, and so what makes the kernel look at packets. The empty table is only for nft to take away.
            iptables -t nat -X
            if have nft; then
                nft delete table ip nat
            fi
        fi
    fi
    say "$LISTEN is balanced no longer"
}

# A line for each backend of the rules: its address and port, and the connections that it was given.
given() {
    if [[ $TOOL == nftables ]]; then
        nft list table ip "$NAME" | sed -nE 's/.*counter packets ([0-9]+) bytes [0-9]+ dnat to ([0-9.:]+).*/\2 \1/p'
    else
        iptables-save --counters -t nat | sed -nE "s/^\[([0-9]+):.*-A $NAME .*--to-destination ([0-9.:]+).*/\2 \1/p"
    fi
}

# The kernel's list of tracked connections; fails where neither the kernel nor the tool shows it.
tracked() {
    if [[ -r /proc/net/nf_conntrack ]]; then
        cat /proc/net/nf_conntrack
    elif have conntrack; then
        conntrack -L -p tcp 2>/dev/null
    else
        return 1
    fi
}

# A line for each backend that has open connections of this balancer: its address and port, and how many.
open() {
    awk -v address="${LISTEN%:*}" -v port="${LISTEN#*:}" '
        / ESTABLISHED / {
            # The first address and port of a name are those of the packets of the client, the second those of the answers.
            split("", fields)
            for (i = 1; i <= NF; i++) if (split($i, pair, "=") == 2) fields[pair[1], ++seen[NR, pair[1]]] = pair[2]
            if (fields["dst", 1] == address && fields["dport", 1] == port) count[fields["src", 2] ":" fields["sport", 2]]++
        }
        END { for (backend in count) print backend, count[backend] }'
}

status() {
    check_tools
    applied || fail "$LISTEN is not balanced with $TOOL"
    local -A opened=()
    local backend count known=true all
    if all=$(tracked); then
        while read -r backend count; do
            opened[$backend]=$count
        done < <(open <<<"$all")
    else
        known=false
    fi
    printf '%s with %s\n  %-21s %10s %10s\n' "$LISTEN" "$TOOL" backend open given
    while read -r backend count; do
        if $known; then
            printf '  %-21s %10d %10d\n' "$backend" "${opened[$backend]:-0}" "$count"
        else
            printf '  %-21s %10s %10d\n' "$backend" - "$count"
        fi
        unset "opened[$backend]"
    done < <(given)
    for backend in "${!opened[@]}"; do
        printf '  %-21s %10d %10s\n' "$backend" "${opened[$backend]}" 'taken out'
    done
    if ! $known; then
        echo '  open connections are not known: install the package conntrack'
    fi
    printf 'tracked connections of the host: %d of %d\n' "$(</proc/sys/net/netfilter/nf_conntrack_count)" "$(</proc/sys/net/netfilter/nf_conntrack_max)"
}

# Whether something accepts connections there.
probe() {
    # shellcheck disable=SC2016  # its own arguments
    timeout "$PROBE_SECONDS_MAX" bash -c 'exec 3<>"/dev/tcp/$1/$2"' probe "${1%:*}" "${1#*:}" 2>/dev/null
}

watch() {
    apply
    if $DRY_RUN; then
        return
    fi
    local -a all=("${BACKENDS[@]}") probes
    local -A answers=() against=()
    local backend answer changed number
    for backend in "${all[@]}"; do
        answers[$backend]=true
        against[$backend]=0
    done
    while sleep "$PROBE_PAUSE_SECONDS"; do
        probes=()
        for backend in "${all[@]}"; do
            probe "$backend" &
            probes+=($!)
        done
        changed=false
        for number in "${!all[@]}"; do
            backend=${all[number]}
            answer=true
            wait "${probes[number]}" || answer=false
            if [[ $answer == "${answers[$backend]}" ]]; then
                against[$backend]=0
            elif ((++against[$backend] == PROBES_TO_CHANGE)); then
                answers[$backend]=$answer
                against[$backend]=0
                changed=true
                if $answer; then
                    say "$backend answers again: it is put back"
                else
                    say "$backend does not answer: it is taken out"
                fi
            fi
        done
        if $changed; then
            BACKENDS=()
            for backend in "${all[@]}"; do
                if ${answers[$backend]}; then
                    BACKENDS+=("$backend")
                fi
            done
            if ((${#BACKENDS[@]} == 0)); then
                say "no backend answers: the rules stay as they are"
            else
                apply_rules
                say "$LISTEN goes to ${#BACKENDS[@]} of ${#all[@]} backends: ${BACKENDS[*]}"
            fi
        fi
    done
}

main() {
    case "${1:-}" in
    apply | watch | status | remove)
        COMMAND=$1
        shift
        ;;
    --help | -h)
        usage
        return
        ;;
    *)
        usage >&2
        fail "the first argument is apply, watch, status or remove"
        ;;
    esac
    parse_options "$@"
    "$COMMAND"
}

main "$@"
