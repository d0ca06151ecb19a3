#!/usr/bin/env python3
"""What settings of the kernel do to the engine: measures the figures of the operator's guide, each as a table.

Everything runs in network namespaces that are made for it and removed after it, so no setting of the host is touched. Variants take turns in rounds,
and a cell holds the median over the rounds (the smallest to the largest). CPU time is the whole machine's, as the kernel's work for a connection is
charged to whoever happens to run: measure on a machine that is otherwise idle.

Needs root, nftables, for `balancers` iptables and haproxy too, and release builds (`cargo build --release -p shardcast -p shardcast-bench`).
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import scene

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# What Linux sets on a machine of 4 GiB or more (tcp(7)).
BUFFERS_DEFAULT = {"net.ipv4.tcp_rmem": "4096 131072 6291456", "net.ipv4.tcp_wmem": "4096 16384 4194304"}
BUFFERS_SMALL = {"net.ipv4.tcp_rmem": "4096 131072 262144", "net.ipv4.tcp_wmem": "4096 16384 262144"}


def machine_cpu_s():
    """CPU time that the machine has been busy: user, nice, system, irq and softirq of /proc/stat (proc(5))."""
    numbers = list(map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]))
    return sum(numbers[0:3] + numbers[5:7]) / TICKS_PER_SECOND


def process_cpu_s(pid):
    """CPU time of all threads of a process, in the kernel's own nanoseconds."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def tcp_counters(pid):
    """The counters of the network namespace of a process that nstat(8) calls TcpExt…."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")]
    return dict(zip(lines[0][1:], map(int, lines[1][1:])))


def wait_until_idle():
    """Waits, five minutes at most, until the machine has been nearly idle for a second."""
    for _ in range(300):
        before = machine_cpu_s()
        time.sleep(1)
        if machine_cpu_s() - before < 0.1:
            return
    print("the machine is not idle: other work is in these figures", file=sys.stderr)


class Sampler:
    """Reads something four times a second while a block runs."""

    def __init__(self, read):
        self.read, self.samples, self.done = read, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.done.wait(0.25):
            self.samples.append((time.monotonic(), self.read()))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def rate(self, seconds):
        """The growth a second over the last so many seconds but one."""
        end = self.samples[-1][0]
        kept = [sample for sample in self.samples if end - seconds <= sample[0] <= end - 1]
        return (kept[-1][1] - kept[0][1]) / (kept[-1][0] - kept[0][0])


class Figure:
    """One figure while it is measured."""

    def __init__(self, rounds, markdown):
        self.rounds_count, self.markdown = rounds, markdown
        self.commands = {}

    def note(self, command):
        self.commands[re.sub(r"--pid \d+", "--pid PID", command)] = None

    @contextlib.contextmanager
    def server(self, namespace, listen, *options, **more):
        with scene.Server(namespace, listen, "--messages-per-second-max", 0, *options, **more) as server:
            self.note(server.command)
            yield server

    def bench(self, namespace, *arguments):
        """Runs the harness; its report."""
        with tempfile.TemporaryDirectory() as directory:
            report = Path(directory, "report.json")
            self.note(" ".join(["shardcast-bench", *map(str, arguments)]))
            done = namespace.run(scene.TARGET / "shardcast-bench", *arguments, "--quiet", "--json", report, check=False)
            if not report.exists():
                raise RuntimeError(f"the harness left no report:\n{done.stdout}{done.stderr}")
            return json.loads(report.read_text())

    def echo(self, namespace, target, connections, rate, *more, seconds=6):
        """Steady echoes: the harness's report and the machine's CPU time for an echo, in µs."""
        with Sampler(machine_cpu_s) as cpu:
            arguments = ("--target", target, "--connections", connections, "--rate", rate, "--duration", seconds, "--warmup", 2, *more)
            report = self.bench(namespace, "echo", *arguments)
        return report, cpu.rate(seconds) * 1e6 / (report["deliveries"]["received"] / report["measured_s"])

    def density(self, namespace, target, connections, *more):
        """Idle connections: the last step of the report, and the machine's CPU time from opening one to closing it, in µs."""
        before = machine_cpu_s()
        alone = ("--first", 0, "--steps", 1, "--duration", 0, "--hold", 0, "--probe-rooms", 0)
        report = self.bench(namespace, "density", "--target", target, "--connections", connections, *alone, *more)
        return report["density"][-1], (machine_cpu_s() - before) * 1e6 / connections

    def rounds(self, variants, measure):
        """Measures the variants in turn, each round beginning with another; what `measure` says of each, in a list."""
        found = {name: [] for name in variants}
        names = list(variants)
        for number in range(self.rounds_count):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                wait_until_idle()
                found[name].append(measure(variants[name]))
                print(f"  round {number + 1}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
        return found

    def table(self, what, found):
        """Prints the rows, and how they were made."""
        columns = list(next(iter(found.values()))[0])
        rows = [[what, *columns], *([name, *(cell([one[column] for one in runs]) for column in columns)] for name, runs in found.items())]
        if self.markdown:
            rows.insert(1, ["---", *["---:"] * len(columns)])
            print("\n".join("| " + " | ".join(row) + " |" for row in rows))
        else:
            widths = [max(map(len, column)) for column in zip(*rows)]
            print("\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows))
        rounds = f"{self.rounds_count} rounds" if self.rounds_count > 1 else "1 round"
        print(f"\nMeasured on {time.strftime('%Y-%m-%d')}, Linux {os.uname().release}, {rounds}, with")
        print("\n".join(f"  {command}" for command in self.commands), flush=True)


def cell(values):
    """The median of some values and their spread; texts and what could not be measured as they are."""
    if any(not isinstance(value, int | float) for value in values):
        return " / ".join(dict.fromkeys("–" if value is None else str(value) for value in values))
    middle, low, high = map(short, (statistics.median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def short(value):
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def milliseconds(report, quantile, of="delivery"):
    latency = next(one["latency"] for one in report["latencies"] if one["name"].startswith(of))
    return latency["quantiles"][f"{quantile}_us"] / 1000


@contextlib.contextmanager
def two_hosts():
    """A client's and a server's namespace."""
    with scene.Namespace("clients") as clients, scene.Namespace("server") as server:
        clients.join(server, [f"10.78.0.{number}/24" for number in range(2, 5)], ["10.78.0.1/24"])
        yield clients, server


SERVER = "10.78.0.1:9000"
SOURCES = ("--sources", "10.78.0.2-10.78.0.4")


def conntrack(figure):
    """what it costs to track connections, and that NOTRACK avoids it"""
    stateful = "table ip t { chain in { type filter hook input priority 0; ct state established accept; }; }"
    exempt = """table ip raw {
        chain in { type filter hook prerouting priority -300; tcp dport 9000 notrack; }
        chain out { type filter hook output priority -300; tcp sport 9000 notrack; }
    }"""
    rules = {"no rules": [], "a stateful rule": [stateful], "a stateful rule, the port untracked": [stateful, exempt]}

    def measure(loaded):
        with two_hosts() as (clients, host):
            for rule in loaded:
                host.run("nft", rule)
            with figure.server(host, SERVER, "--shards", 1) as server:
                report, echo_us = figure.echo(clients, SERVER, 1000, 8, *SOURCES, "--pid", server.pid)
                step, opened_us = figure.density(clients, SERVER, 10_000, *SOURCES)
                count = int(host.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count").stdout)
        return {
            "CPU from opening to closing, µs": opened_us,
            "CPU an echo, µs": echo_us,
            "of it the server's, µs": report["server_use"]["cpu_per_delivery_us"],
            "kernel memory of both ends, B": step["kernel_bytes_per_connection"],
            "entries after it": count,
        }

    figure.table("conntrack", figure.rounds(rules, measure))


def buffers(figure):
    """what a reader that has stopped may take of the kernel's memory, by the largest send buffer"""
    members, rooms, slow = 20, 2, 2

    def queued(host):
        """Bytes that all sockets of the server hold to be sent: wmem_queued, `w` of skmem (ss(8))."""
        return sum(map(int, re.findall(r"skmem:\(.*?,w(\d+)", host.run("ss", "-Htnm", "sport", "=", ":9000").stdout)))

    def measure(settings):
        with two_hosts() as (clients, host):
            for name, value in settings.items():
                host.setting(name, value)
            for name, value in BUFFERS_DEFAULT.items():
                clients.setting(name, value)
            with figure.server(host, SERVER, "--shards", 1) as server, Sampler(lambda: queued(host)) as memory:
                load = ("--connections", members * rooms, "--room-size", members, "--slow", slow, "--rate", 200, "--payload", 8192)
                report = figure.bench(clients, "slow", "--target", SERVER, *load, "--duration", 12, "--pid", server.pid)
        closed = re.search(r"had closed (\d+)", " ".join(report["notes"])).group(1)
        return {
            "kernel memory a slow reader at most, KiB": max(sample for _, sample in memory.samples) / (rooms * slow) / 1024,
            f"cut off, of {rooms * slow}": int(closed),
            "p99 of the others before, ms": milliseconds(report, "p99", "delivery, all"),
            "p99 of the others meanwhile, ms": milliseconds(report, "p99", "delivery, some"),
        }

    figure.table("largest tcp_wmem", figure.rounds({"4,194,304 (default)": BUFFERS_DEFAULT, "262,144": BUFFERS_SMALL}, measure))


def backlog(figure):
    """a storm of connections against the length of the accept queue"""
    dropped = 15_000

    def measure(most):
        with two_hosts() as (clients, host):
            host.setting("net.core.somaxconn", most)
            with figure.server(host, SERVER, "--shards", 1, "--backlog-max", 65_535, "--presence-individual-max", 0) as server:
                before = tcp_counters(server.pid)
                load = ("--connections", 100, "--dropped", dropped, "--duration", 5, "--warmup", 1)
                report = figure.bench(clients, "storm", "--target", SERVER, *SOURCES, *load)
                after = tcp_counters(server.pid)
        counted = {name: after[name] - before[name] for name in ("ListenOverflows", "ListenDrops", "TCPReqQFullDrop")}
        recovery = report["recovery"]
        return {
            **counted,
            f"until all of {dropped:,} are back, s": recovery["last_s"],
            "failed attempts": recovery["failed_attempts"],
            "p99 of rooms that stay, ms": milliseconds(report, "p99", "delivery, storm"),
        }

    figure.table("somaxconn", figure.rounds({"128": 128, "4,096": 4096, "65,535": 65_535}, measure))


def limits(figure):
    """what a lowered limit leaves: what the server says, and how many connections it then holds"""
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
    mebibyte = 1 << 20
    cases = {
        "1,024 descriptors, 1 shard": (1024, None, 1, ()),
        "4,096 descriptors, 1 shard": (4096, None, 1, ()),
        "4,096 descriptors, 3 shards": (4096, None, 3, ()),
        "4,096 descriptors, 3 shards, 8 MiB locked, no root": (4096, 8 * mebibyte, 3, user),
        "4,096 descriptors, 3 shards, 2 MiB locked, no root": (4096, 2 * mebibyte, 3, user),
        "4,096 descriptors, 3 shards, 64 KiB locked, no root": (4096, 64 * 1024, 3, user),
    }

    def measure(case):
        descriptors, locked, shards, as_user = case
        before = ["prlimit", f"--nofile={descriptors}:{descriptors}", *([f"--memlock={locked}:{locked}"] if locked else []), "--", *as_user]
        figure.note(" ".join([*before, "shardcast serve …"]))
        with scene.Namespace("limits") as host:
            try:
                with figure.server(host, "127.0.0.1:9000", "--shards", shards, before=before) as server:
                    clients = scene.Clients(host)
                    # More than there is room for: the shards do not fill up at the same moment.
                    answers = clients.connect("127.0.0.1:9000", int(descriptors * shards * 1.2), timeout_s=2)
                    alive = clients.alive()
                    clients.close()
                    banner = server.banner
            except RuntimeError as error:
                banner, alive, answers = str(error).splitlines(), 0, {}
        said = [line.strip() for line in banner if re.search(r"^ +(low|FAIL|ok +(connections|locked)|->)", line)]
        print("\n".join(["", *said]), file=sys.stderr)
        promised = re.search(r"up to [\d,]+", "\n".join(banner))
        refusal = next((line for mark in (" +FAIL", "error:") for line in banner if re.match(mark, line)), None)
        return {
            "it says": refusal.strip().partition(". ")[0] if refusal else promised.group(),
            "of locked memory": next((line.split("locked memory", 1)[1].strip() for line in said if "locked memory" in line), "–"),
            "held": alive,
            "refused with 503": answers.get("503", 0),
            "other failures": sum(count for answer, count in answers.items() if answer not in ("101", "503")),
        }

    # Nothing here varies by chance.
    figure.rounds_count = 1
    scene.allow_many_descriptors()
    figure.table("limit", figure.rounds(cases, measure))


def haproxy_configuration(mode):
    return f"""
global
    nbthread 1
    maxconn 9000
defaults
    mode {mode}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
listen shardcast
    bind 10.77.1.1:9000 backlog 4096
    balance roundrobin
    server first 10.77.2.2:9000
    server second 10.77.2.2:9001
"""


def balancers(figure):
    """what stands between clients and two engine processes: latency, CPU time and memory"""
    through, straight, both = "10.77.1.1:9000", "10.77.2.2:9000", ("10.77.2.2:9000", "10.77.2.2:9001")
    script = scene.ROOT / "scripts/loadbalance.sh"

    @contextlib.contextmanager
    def kernel(balancer, tool):
        words = ("--with", tool, "--spread", "turns", "--listen", through, "--backend", both[0], "--backend", both[1])
        balancer.run(script, "apply", *words)
        figure.note(" ".join(["scripts/loadbalance.sh apply", *words]))
        yield None

    @contextlib.contextmanager
    def haproxy(balancer, mode):
        with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
            file.write(haproxy_configuration(mode))
            file.flush()
            process = balancer.start("haproxy", "-db", "-f", file.name)
            time.sleep(1)
            try:
                yield process.pid
            finally:
                process.terminate()
                process.wait()

    variants = {
        "none: one of the processes, forwarded": None,
        "nftables": (kernel, "nftables"),
        "iptables": (kernel, "iptables"),
        "HAProxy, mode tcp": (haproxy, "tcp"),
        "HAProxy, mode http": (haproxy, "http"),
    }

    def measure(variant):
        make, how = variant or (lambda *_: contextlib.nullcontext(), None)
        target = through if variant else straight
        with contextlib.ExitStack() as stack:
            clients, balancer, engines = stack.enter_context(scene.behind_a_balancer([f"10.77.1.{number}" for number in range(2, 5)]))
            for backend in both if variant else (straight,):
                stack.enter_context(figure.server(engines, backend, "--shards", 1))
            pid = stack.enter_context(make(balancer, how))
            sources = ("--sources", "10.77.1.2-10.77.1.4")
            with Sampler(lambda: process_cpu_s(pid) if pid else 0) as own:
                report, echo_us = figure.echo(clients, target, 2000, 3, *sources)
            echoes_per_s = report["deliveries"]["received"] / report["measured_s"]
            step, opened_us = figure.density(clients, target, 5000, *sources, *(["--pid", pid] if pid else []))
        return {
            "p50, ms": milliseconds(report, "p50"),
            "p99, ms": milliseconds(report, "p99"),
            "CPU an echo, µs": echo_us,
            "of it the balancer's process, µs": own.rate(6) * 1e6 / echoes_per_s if pid else "–",
            "CPU from opening to closing, µs": opened_us,
            "kernel memory a connection, all ends, B": step["kernel_bytes_per_connection"],
            "memory of the process a connection, B": step["server_bytes_per_connection"] if pid else "–",
        }

    figure.table("balancer", figure.rounds(variants, measure))


def hash_table(figure):
    """the table of established connections: how long its chains are"""
    listen = "127.0.0.1:9000"

    def measure(entries):
        with scene.Namespace("parent") as parent:
            parent.setting("net.ipv4.tcp_child_ehash_entries", entries)
            with scene.Namespace("child", parent) as host:
                size = int(host.run("cat", "/proc/sys/net/ipv4/tcp_ehash_entries").stdout)
                with figure.server(host, listen, "--shards", 2) as server:
                    report, echo_us = figure.echo(host, listen, 15_000, 0.5, "--pid", server.pid, "--ramp", 5000)
        return {
            "sockets a bucket": 2 * report["connections"]["open"] / size,
            "CPU an echo, µs": echo_us,
            "of it the server's, µs": report["server_use"]["cpu_per_delivery_us"],
            "p99, ms": milliseconds(report, "p99"),
        }

    figure.table("tcp_child_ehash_entries", figure.rounds({f"{2**power:,}": 2**power for power in (8, 12, 19)}, measure))


FIGURES = {"conntrack": conntrack, "buffers": buffers, "backlog": backlog, "limits": limits, "balancers": balancers, "hash": hash_table}


def main():
    listed = "\n".join(f"  {name:<10} {function.__doc__}" for name, function in FIGURES.items())
    parser = argparse.ArgumentParser(description=f"{__doc__}\nfigures:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", choices=FIGURES, help="the figures to measure")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each figure but `limits` [default: 3]")
    parser.add_argument("--markdown", action="store_true", help="print tables of Markdown")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    needed = {"ip": "iproute2", "ss": "iproute2", "nft": "nftables"}
    if "balancers" in options.names:
        needed |= {"iptables-restore": "iptables", "haproxy": "haproxy"}
    for tool, package in needed.items():
        if not shutil.which(tool):
            parser.error(f"{tool} is missing: apt-get install {package}")
    for binary in ("shardcast", "shardcast-bench"):
        if not os.access(scene.TARGET / binary, os.X_OK):
            parser.error(f"{scene.TARGET / binary} is missing: cargo build --release -p shardcast -p shardcast-bench")
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    for name in options.names:
        print(f"{name}: {FIGURES[name].__doc__}\n", flush=True)
        FIGURES[name](Figure(options.rounds, options.markdown))
        print(flush=True)


if __name__ == "__main__":
    main()
