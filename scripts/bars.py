#!/usr/bin/env python3
"""What Shardcast wants to be measured by: runs shardcast-bench and prints each figure beside its bar.

Ends with 0 where every bar that was asked for is met, with 1 where one is not, with 2 where one could not be measured.
Needs release builds (`cargo build --release -p shardcast -p shardcast-bench`) and, for `cpu` and `capacity`, the peers
`floor` and `tokio-tungstenite` (`bench/peers/build.sh floor tokio-tungstenite`).
"""

import argparse
import http.client
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / "target/release/shardcast"
BENCH = ROOT / "target/release/shardcast-bench"


@dataclass
class Figure:
    """One figure, and what it should be."""

    what: str
    value: float | None
    bar: float
    at_least: bool = False
    note: str = ""

    def met(self):
        if self.value is None:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar

    def __str__(self):
        sign = "≥" if self.at_least else "≤"
        verdict = {True: "met", False: "NOT MET", None: "not measured"}[self.met()]
        value = "–" if self.value is None else f"{self.value:,.2f}"
        note = f"  ({self.note})" if self.note else ""
        return f"  {verdict:<13}{self.what:<66}{value:>10}   bar {sign} {self.bar:,.2f}{note}"


def bench(options, bar, *arguments):
    """Runs the harness; its report as it is in JSON. With `--reports` it stays, and the page beside it."""
    with tempfile.TemporaryDirectory() as directory:
        report = (options.reports or Path(directory)) / f"{bar}.json"
        kept = ["--html", str(report.with_suffix(".html"))] if options.reports else []
        command = [str(BENCH), *map(str, arguments)]
        print("  $", " ".join(["shardcast-bench", *command[1:]]), flush=True)
        command += ["--json", str(report), "--quiet", *kept]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not report.exists():
            sys.exit(f"{done.stdout}\nscripts/bars.py: the harness ended with {done.returncode} and left no report")
        if done.returncode != 0:
            print(done.stdout)
        return json.loads(report.read_text())


class Server:
    """The server, as a process of its own."""

    def __init__(self, *arguments, admin="off", only=None):
        command = [str(SERVER), "serve", "--listen", "127.0.0.1:0", "--admin", admin, "--messages-per-second-max", "0", *arguments]
        if only is not None:
            command = ["taskset", "--cpu-list", only, *command]
        print("  $", " ".join(command).replace(str(SERVER), "shardcast"), flush=True)
        # What it logs of a backend that hangs is read by nobody.
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if found := re.search(r"admin API on http://(\S+)", line):
                self.admin = found.group(1)
            if found := re.search(r"listening on ws://(\S+)/ws", line):
                self.target = found.group(1)
                return
        sys.exit("scripts/bars.py: the server did not start")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=120)

    def options(self):
        return ["--target", self.target, "--pid", self.process.pid]


def p99_us(result, of):
    """The p99 of the first latency whose name begins so."""
    return next(one["latency"]["quantiles"]["p99_us"] for one in result["latencies"] if one["name"].startswith(of))


def by_round(document, workload, figure):
    """A figure by server, in the order of the rounds."""
    found = {}
    for run in document["runs"]:
        if run["workload"] == workload and run["result"]:
            found.setdefault(run["server"], {})[run["round"]] = figure(run)
    return found


def ratio(found, of, to):
    """The median of the ratios, each made within a round."""
    both = found.get(of, {}).keys() & found.get(to, {}).keys()
    ratios = [found[of][one] / found[to][one] for one in both if found[of][one] and found[to][one]]
    return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else (None, 0, 0)


def compare(options, bar, workloads, rounds):
    return bench(
        options, bar,
        "compare", "--servers", "shardcast,floor,tokio-tungstenite", "--workloads", workloads,
        "--rounds", rounds or options.rounds, "--server-cores", options.server_core,
        *(["--duration", options.duration] if options.duration else []),
    )  # fmt: skip


def cpu(options):
    """CPU time of a delivery: next to that of a bare send(), and to tokio-tungstenite's"""
    document = compare(options, "cpu", "rooms-1000,rooms-100", None)
    for workload in ("rooms-1000", "rooms-100"):
        found = by_round(document, workload, lambda run: run["result"]["server_use"]["cpu_per_delivery_us"])
        for peer, bar in (("floor", 1.10), ("tokio-tungstenite", 0.70)):
            value, low, high = ratio(found, "shardcast", peer)
            yield Figure(f"{workload}: CPU a delivery, × {peer}", value, bar, note=f"{low:.2f} to {high:.2f}")


def capacity(options):
    """Deliveries a second at p99 ≤ 50 ms, rooms of 100, 128 B, one core"""
    document = compare(options, "capacity", "capacity", 1)
    found = by_round(
        document,
        "capacity",
        lambda run: max((step["received_per_s"] for step in run["result"]["capacity"] if step["passed"]), default=0),
    )
    value, _, _ = ratio(found, "shardcast", "tokio-tungstenite")
    rates = ", ".join(f"{server} {next(iter(rounds.values())):,.0f}/s" for server, rounds in found.items())
    yield Figure("capacity, × tokio-tungstenite", value, 15, at_least=True, note=rates)


@contextmanager
def rcu_first():
    """The kernel's thread that ends grace periods goes before all others, as `kernel-tuning.md` advises, and afterwards as it was."""
    found = subprocess.run(["pgrep", "-x", "rcu_preempt"], stdout=subprocess.PIPE, text=True).stdout.split()
    if not found:
        sys.exit("scripts/bars.py: there is no thread rcu_preempt; `--rcu-priority 0` goes without")
    pid = int(found[0])
    policy, priority = os.sched_getscheduler(pid), os.sched_getparam(pid)
    print(f"  # chrt --fifo --pid 1 {pid}    (rcu_preempt)", flush=True)
    os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(pid, policy, priority)


def storm(options):
    """100,000 connections drop and return at once, beside rooms that stay"""
    # As many shards as the descriptors of 101,000 need; and members of large rooms are counted, not named.
    pace = ("--accepts-per-second-max", str(4000 // options.shards), "--presence-individual-max", "0")
    with rcu_first() if options.rcu_priority else nullcontext(), Server("--shards", str(options.shards), *pace) as server:
        result = bench(options, "storm", "storm", *server.options(), "--dropped", 100_000, "--warmup", 2)
    quiet, beside = p99_us(result, "delivery, quiet"), p99_us(result, "delivery, storm")
    recovery = result["recovery"]
    came_back = f"{recovery['recovered']:,} of {recovery['dropped']:,} back after {recovery['last_s']:.1f} s"
    lost = result["connections"]["failed"] + result["connections"]["refused"]
    yield Figure("storm of 100,000: refused or timed out", lost, 0, note=came_back)
    note = f"{quiet / 1000:.1f} ms, then {beside / 1000:.1f} ms"
    yield Figure("storm of 100,000: p99 of rooms that stay, × quiet", beside / quiet, 2, note=note)


def flat(options):
    """The latency of busy rooms beside idle connections, against that beside 1,000"""
    shards = options.connections // 16_000 + 2
    buffers = ("--receive-buffers-max", "64", "--receive-buffer-bytes", "4096")
    with Server("--shards", str(shards), *buffers, "--heartbeat-ms", str(options.heartbeat_ms)) as server:
        result = bench(options, "flat", "density", *server.options(), "--connections", options.connections, "--steps", 1, "--hold", 60)
    first, last = result["density"][0], result["density"][-1]
    each = [step["probe"]["quantiles"]["p99_us"] for step in (first, last)]
    note = f"{each[0] / 1000:.1f} ms, then {each[1] / 1000:.1f} ms"
    yield Figure(f"p99 beside {last['connections']:,}, × that beside {first['connections']:,}", each[1] / each[0], 1.25, note=note)


def control(options):
    """The latency of rooms while their node is driven, scraped, and has a backend that hangs, against that while another node is"""
    duration = ("--duration", options.duration or 10)
    if options.control_core == "shared":
        # The servers stay on their core with all their threads; everything else goes to the others.
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {int(options.server_core)})
    # Not in turn: what comes and goes on the machine has periods of its own. The same in every run of this.
    order = random.Random(1)
    for rate in (10, 100):
        rooms = ("rooms", "--connections", 1000, "--room-size", 100, "--rate", rate, "--payload", 128, "--threads", 1, "--warmup", 2)
        p99 = {False: [], True: []}
        for number in range(options.rounds):
            # The operator's own work on the machine is there both times.
            for is_driven in order.sample((False, True), 2):
                with hanging_backend() as backend, node(options, backend) as server, node(options, backend) as other:
                    with Operator(server if is_driven else other) as operator:
                        result = bench(options, "control", *rooms, *duration, *server.options())
                p99[is_driven].append(p99_us(result, "delivery"))
            print(f"  round {number + 1}: {p99[False][-1] / 1000:.2f} ms, driven {p99[True][-1] / 1000:.2f} ms; {operator.note()}", flush=True)
        # Of runs under the same load some end at twice the p99 of others, driven or not; a median would jump from one kind to the other.
        means = {is_driven: statistics.fmean(values) for is_driven, values in p99.items()}
        ratios = [driven / alone for driven, alone in zip(p99[True], p99[False])]
        note = f"means {means[True] / 1000:.2f} and {means[False] / 1000:.2f} ms; rounds {min(ratios):.2f} to {max(ratios):.2f}, their median {statistics.median(ratios):.2f}"
        yield Figure(f"p99 of {rate * 1000:,} deliveries a second while driven, × not driven", means[True] / means[False], 1.10, note=note)


def node(options, backend):
    """A server with an admin API and with webhooks that ask about messages of one room."""
    events = ("--webhook-events", "connected,disconnected,room_occupied,room_vacated,publish", "--webhook-publish-rooms", "asked")
    only = options.server_core if options.control_core == "shared" else None
    return Server("--shards", "1", "--cores", options.server_core, "--webhook-url", backend, *events, admin="127.0.0.1:0", only=only)


@contextmanager
def hanging_backend():
    """Takes requests and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        held, is_over = [], threading.Event()

        def take():
            listener.settimeout(0.1)
            while not is_over.is_set():
                with suppress(TimeoutError):
                    held.append(listener.accept()[0])

        taking = threading.Thread(target=take)
        taking.start()
        yield "http://127.0.0.1:{}/".format(listener.getsockname()[1])
        is_over.set()
        taking.join()
        for connection in held:
            connection.close()


class Operator:
    """Publishes 50 messages a second, ten of them in one request, scrapes once a second, and has clients come, publish what is asked about, and go, 20 a second."""

    PERIODS_S = {"publish": 1 / 40, "publish_many": 1, "scrape": 1, "visit": 1 / 20}

    def __init__(self, server):
        self.server, self.is_over = server, threading.Event()
        self.done = dict.fromkeys(self.PERIODS_S, 0)
        self.failed = 0

    def __enter__(self):
        self.threads = [threading.Thread(target=self.repeat, args=(what,)) for what in self.PERIODS_S]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def note(self):
        done = ", ".join(f"{what} {count}" for what, count in self.done.items())
        return f"{done}, failed {self.failed}"

    def repeat(self, what):
        connection = http.client.HTTPConnection(self.server.admin, timeout=10)
        due = time.monotonic()
        while not self.is_over.wait(max(0, due - time.monotonic())):
            due += self.PERIODS_S[what]
            self.failed += not getattr(self, what)(connection)
            self.done[what] += 1

    def publish(self, connection):
        return self.call(connection, "POST", "/v1/rooms/orders/messages", {"content": "x" * 100})

    def publish_many(self, connection):
        messages = [{"room": f"orders-{number}", "content": number} for number in range(10)]
        return self.call(connection, "POST", "/v1/messages", {"messages": messages})

    def scrape(self, connection):
        return self.call(connection, "GET", "/metrics")

    def call(self, connection, method, path, body=None):
        headers = {"Content-Type": "application/json"} if body else {}
        connection.request(method, path, body=json.dumps(body) if body else None, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status == 200

    def visit(self, _):
        host, port = self.server.target.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=10) as stream:
            key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
            stream.sendall(f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n\r\n".encode())
            is_open = stream.recv(4096).startswith(b"HTTP/1.1 101")
            for command in ({"type": "join", "room": "asked"}, {"type": "message", "room": "asked", "content": 1}):
                text = json.dumps(command).encode()
                # Masked with zeros, which changes nothing (RFC 6455, section 5.3).
                stream.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
            stream.recv(4096)
            return is_open


BARS = {"cpu": cpu, "capacity": capacity, "storm": storm, "flat": flat, "control": control}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bars", nargs="*", metavar="BAR", help=f"{', '.join(BARS)} [default: cpu, capacity, storm]")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of `cpu` and `control`, each in another order [default: 5]")
    parser.add_argument("--duration", type=float, help="seconds measured of each run of `cpu` and `control`")
    parser.add_argument("--server-core", default="0", help="the core of the servers of `cpu`, `capacity` and `control` [default: 0]")
    parser.add_argument("--control-core", choices=["own", "shared"], default="own", help="whether the control thread of `control` has a core besides the shard's [default: own]")
    parser.add_argument("--shards", type=int, default=6, help="shards of `storm` [default: 6]")
    parser.add_argument("--rcu-priority", type=int, choices=[0, 1], default=1, help="of rcu_preempt in `storm` (SCHED_FIFO, as root); 0: as it is [default: 1]")
    parser.add_argument("--connections", type=int, default=1_000_000, help="idle connections of `flat` [default: 1,000,000]")
    parser.add_argument("--heartbeat-ms", type=int, default=120_000, help="their heartbeat [default: 120,000]")
    parser.add_argument("--reports", type=Path, metavar="DIR", help="keep the harness's reports there, one for each bar")
    options = parser.parse_args()
    unknown = [bar for bar in options.bars if bar not in BARS]
    if unknown:
        parser.error(f"there is no bar {', '.join(unknown)}; there are {', '.join(BARS)}")
    for needed in (SERVER, BENCH):
        if not os.access(needed, os.X_OK):
            parser.error(f"{needed} is missing: cargo build --release -p shardcast -p shardcast-bench")
    if options.reports:
        options.reports.mkdir(parents=True, exist_ok=True)
    figures = []
    for bar in options.bars or ["cpu", "capacity", "storm"]:
        print(f"{bar}: {BARS[bar].__doc__}", flush=True)
        for figure in BARS[bar](options):
            print(figure, flush=True)
            figures.append(figure)
    verdicts = {figure.met() for figure in figures}
    sys.exit(2 if None in verdicts else 1 if False in verdicts else 0)


if __name__ == "__main__":
    main()
