"""loadbalance.sh with real engine processes: clients, balancer and engines each in a network namespace of its own."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest
from collections import Counter
from math import sqrt
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import scene

SCRIPT = scene.ROOT / "scripts/loadbalance.sh"
LISTEN = "10.77.1.1:9000"
# Two engines on each of two hosts, as far as the balancer can tell.
BACKENDS = ("10.77.2.2:9000", "10.77.2.2:9001", "10.77.2.3:9000", "10.77.2.3:9001")
# A source for each test, and those of many clients.
SOURCES = tuple(f"10.77.1.{number}" for number in range(2, 34))
MANY_SOURCES = tuple(f"10.77.1.{number}" for number in range(100, 132))
CONNECTIONS = 10_000
# Connections to a backend vary by chance around their mean. Beyond 5.5 standard deviations one of four backends is found in less than one of
# three million runs (normal approximation: 4 × 2 × 1.9e-8).
DEVIATIONS_MAX = 5.5


def what_is_missing():
    if os.geteuid() != 0:
        return "this needs root, for network namespaces"
    for tool, package in (("ip", "iproute2"), ("ss", "iproute2"), ("nft", "nftables"), ("iptables-restore", "iptables")):
        if not shutil.which(tool):
            return f"{tool} is missing (apt-get install {package})"
    if subprocess.run(["unshare", "--net", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        return "no network namespace can be made here"
    return None


def backends(*addresses):
    return [word for address in addresses for word in ("--backend", address)]


class CommandLine(unittest.TestCase):
    """What needs neither root nor a tool."""

    def call(self, *words):
        return subprocess.run([SCRIPT, *words], capture_output=True, text=True)

    def test_a_dry_run_prints_the_rules_of_either_tool(self):
        cases = {
            ("nftables", "random"): "numgen random mod 4 vmap",
            ("nftables", "turns"): "numgen inc mod 4 vmap",
            ("nftables", "source"): "jhash ip saddr mod 4 seed",
            ("iptables", "random"): "--mode random --probability 0.2500000000",
            ("iptables", "turns"): "--mode nth --every 4 --packet 0",
        }
        for (tool, spread), expected in cases.items():
            done = self.call("apply", "--dry-run", "--with", tool, "--spread", spread, "--listen", LISTEN, *backends(*BACKENDS))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(expected, done.stdout)
            for backend in BACKENDS:
                self.assertIn(backend, done.stdout)

    def test_what_cannot_work_is_refused_and_says_why(self):
        good = ("--listen", LISTEN, *backends(*BACKENDS))
        cases = (
            (("apply", "--listen", LISTEN), "needs --backend"),
            (("apply", *backends(*BACKENDS)), "needs --listen"),
            (("apply", *good, *backends(BACKENDS[0])), "given twice"),
            (("apply", *good, "--backend"), "--backend needs a value"),
            (("apply", *good, "--with", "ipvs"), "there are nftables and iptables"),
            (("apply", *good, "--spread", "least"), "there are random, turns and source"),
            (("apply", *good, "--with", "iptables", "--spread", "source"), "not offered with iptables"),
            (("apply", *good, *backends("127.0.0.1:9001")), "not let through to loopback"),
            (("apply", "--listen", "127.0.0.1:9000", *backends("127.0.0.1:9001")), "add --local"),
            (("apply", "--listen", "0.0.0.0:9000"), "name the address itself"),
            (("apply", "--listen", "10.0.0.256:9000"), "at most 255"),
            (("apply", "--listen", "10.0.0.1:65536"), "1 to 65535"),
            (("apply", "--listen", "10.0.0.1"), "write an IPv4 address and a port"),
            (("apply", "--listen", "[::1]:9000"), "IPv6 is not offered"),
            (("apply", *good, "--fast"), "unknown option: --fast"),
            (("balance",), "the first argument"),
        )
        for words, expected in cases:
            done = self.call(*words[:1], "--dry-run", *words[1:])
            self.assertEqual(done.returncode, 1, words)
            self.assertIn(expected, done.stderr)


class Balancing:
    """The properties of both tools. Connections are counted where they end, by the engines' kernel."""

    tool = ""

    @classmethod
    def setUpClass(cls):
        if missing := what_is_missing():
            print(f"SKIPPED: {cls.__name__}: {missing}", file=sys.stderr)
            raise unittest.SkipTest(missing)
        scene.build("shardcast")
        scene.allow_many_descriptors()
        cls.outside, cls.balancer, cls.inside = cls.enterClassContext(scene.behind_a_balancer(SOURCES + MANY_SOURCES))
        cls.sources = iter(SOURCES)
        cls.servers = {}
        cls.addClassCleanup(lambda: [server.stop() for server in cls.servers.values()])
        for backend in BACKENDS:
            cls.start(backend)

    @classmethod
    def start(cls, backend):
        # Connections that nobody reads stay: no heartbeat ends them during a test.
        cls.servers[backend] = scene.Server(cls.inside, backend, "--shards", "1", "--heartbeat-ms", "3600000")

    @classmethod
    def kill(cls, backend):
        cls.servers.pop(backend).stop(signal.SIGKILL)

    def setUp(self):
        # Each test has a source of its own: conntrack may remember connections of the tests before.
        self.source = next(self.sources)
        self.clients = scene.Clients(self.outside, self.source)
        self.addCleanup(self.call, "remove")
        self.addCleanup(self.wait_for, lambda: not self.counts(), "all connections to be gone")
        self.addCleanup(self.clients.close)

    def call(self, command, *words, check=True):
        return self.balancer.run(SCRIPT, command, "--with", self.tool, "--listen", LISTEN, *words, check=check)

    def apply(self, *words, to=BACKENDS):
        return self.call("apply", *backends(*to), *words)

    def rules(self):
        """All rules of the balancer's namespace, as both tools print them, without counters and comments."""
        text = self.balancer.run("nft", "list", "ruleset").stdout + self.balancer.run("iptables-save").stdout
        text = re.sub(r"packets \d+ bytes \d+|\[\d+:\d+\]", "", text)
        return [line for line in text.splitlines() if not line.startswith("#")]

    def counts(self):
        """Open connections by the backend that has them, without the probes of `watch`."""
        return Counter(backend for backend, peer in self.ends() if peer != "10.77.2.1")

    def ends(self):
        """Where each open connection ends, and the address that it comes from, as the engines' kernel knows them."""
        for line in self.inside.run("ss", "-Htn", "state", "established").stdout.splitlines():
            _, _, backend, peer = line.split()
            yield backend, peer.split(":")[0]

    def listed_open(self):
        """Open connections by backend, as `status` lists them."""
        listed = re.findall(r"^  ([\d.:]+) +(\d+) +\d+$", self.call("status").stdout, re.MULTILINE)
        return Counter({backend: int(count) for backend, count in listed})

    def wait_for(self, condition, what, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, f"waited {seconds} s for {what}")
            time.sleep(0.1)

    def open(self, count):
        """Opens connections, all of which must be let in; how many went to each backend."""
        before = self.counts()
        self.assertEqual(self.clients.connect(LISTEN, count), {"101": count})
        return {backend: self.counts()[backend] - before[backend] for backend in BACKENDS}

    def test_ten_thousand_connections_in_turns_are_within_5_percent_of_even(self):
        self.apply("--spread", "turns")
        before = self.listed_open()
        even = CONNECTIONS / len(BACKENDS)
        for backend, count in self.open(CONNECTIONS).items():
            self.assertLessEqual(abs(count - even), 0.05 * even, backend)
        self.assertEqual(self.clients.alive(), CONNECTIONS)
        # conntrack may count some of the tests before that ended with a reset.
        self.assertEqual(self.listed_open() - before, self.counts())

    def test_at_random_each_backend_has_its_share_within_chance(self):
        self.apply("--spread", "random")
        count, share = 4_000, 1 / len(BACKENDS)
        for backend, opened in self.open(count).items():
            self.assertLessEqual(abs(opened - count * share), DEVIATIONS_MAX * sqrt(count * share * (1 - share)), backend)

    def test_the_loss_of_a_backend_is_what_the_help_says(self):
        self.apply("--spread", "turns")
        self.open(800)
        lost, left = BACKENDS[0], BACKENDS[1:]
        self.kill(lost)
        self.addCleanup(self.start, lost)
        self.assertEqual(self.clients.alive(), 600, "connections to the others go on")
        self.assertEqual(self.clients.connect(LISTEN, 400), {"101": 300, "refused": 100}, "one in four new ones is refused")
        self.apply("--spread", "turns", to=left)
        self.assertEqual(self.open(300), {lost: 0, **dict.fromkeys(left, 100)}, "none is once it is taken out")
        self.assertEqual(self.clients.alive(), 1200)

    def test_another_list_of_backends_moves_only_new_connections(self):
        self.apply("--spread", "turns")
        self.open(400)
        self.apply("--spread", "turns", to=BACKENDS[2:])
        self.assertEqual(list(self.open(200).values()), [0, 0, 100, 100])
        self.assertEqual(self.clients.alive(), 600)
        status = self.call("status").stdout
        self.assertRegex(status, rf"{BACKENDS[0]} +100 +taken out")
        self.assertRegex(status, rf"{BACKENDS[2]} +200 +100")

    def test_watch_takes_a_dead_backend_out_and_puts_it_back(self):
        watch = self.balancer.start(
            SCRIPT, "watch", "--with", self.tool, "--listen", LISTEN, *backends(*BACKENDS), "--spread", "turns", stdout=subprocess.PIPE
        )
        self.addCleanup(watch.communicate)
        self.addCleanup(watch.terminate)
        self.assertIn(f"goes to {BACKENDS[0]}", watch.stdout.readline())
        self.open(400)
        dead = BACKENDS[1]
        self.kill(dead)
        killed = time.monotonic()
        self.assertIn(f"{dead} does not answer", watch.stdout.readline())
        self.assertIn("goes to 3 of 4 backends", watch.stdout.readline())
        self.assertLess(time.monotonic() - killed, 5, "1 to 2 s, and time for a busy machine")
        self.assertEqual(list(self.open(300).values()), [100, 0, 100, 100])
        self.start(dead)
        self.assertIn(f"{dead} answers again", watch.stdout.readline())
        self.assertIn("goes to 4 of 4 backends", watch.stdout.readline())
        self.assertEqual(list(self.open(400).values()), [100] * 4)
        self.assertEqual(self.clients.alive(), 300 + 300 + 400)

    def test_watch_keeps_the_rules_when_nothing_answers(self):
        nobody = ("10.77.2.2:9100", "10.77.2.3:9100")
        watch = self.balancer.start(SCRIPT, "watch", "--with", self.tool, "--listen", LISTEN, *backends(*nobody), stdout=subprocess.PIPE)
        self.addCleanup(watch.communicate)
        self.addCleanup(watch.terminate)
        lines = [watch.stdout.readline() for _ in range(4)]
        self.assertIn("no backend answers", lines[3])
        for backend in nobody:
            self.assertIn(backend, self.call("status").stdout)

    def test_it_removes_its_rules_without_a_trace(self):
        for chain in ("PREROUTING", "OUTPUT", "POSTROUTING"):
            # iptables makes its empty chains as it needs them, and keeps them.
            self.balancer.run("iptables", "-t", "nat", "-P", chain, "ACCEPT")
        self.balancer.run("iptables", "-t", "nat", "-A", "PREROUTING", "-d", "10.9.9.9", "-p", "tcp", "--dport", "90", "-j", "DNAT", "--to", "10.9.9.8")
        self.addCleanup(self.balancer.run, "iptables", "-t", "nat", "-F")
        before = self.rules()
        self.apply("--local", "--masquerade")
        self.open(40)
        self.apply("--spread", "turns", "--local", "--masquerade", to=BACKENDS[:2])
        self.clients.close()
        self.assertNotEqual(self.rules(), before)
        self.assertNotIn("nothing to remove", self.call("remove").stdout)
        self.assertEqual(self.rules(), before)
        self.assertIn("nothing to remove", self.call("remove").stdout)
        self.assertEqual(self.call("status", check=False).returncode, 1)

    def test_where_there_were_no_rules_there_are_none_after_it(self):
        address = LISTEN.partition(":")[0]
        with scene.Namespace("bare") as bare:
            bare.run("ip", "address", "add", address, "dev", "lo")
            for port in (9000, 9001):
                bare.run(SCRIPT, "apply", "--with", self.tool, "--listen", f"{address}:{port}", *backends(f"{address}:9100"))
            bare.run(SCRIPT, "remove", "--with", self.tool, "--listen", f"{address}:9000")
            left = bare.run("nft", "list", "ruleset").stdout
            self.assertNotIn("shardcast_0a4d0101_9000", left)
            self.assertIn("shardcast_0a4d0101_9001", left)
            bare.run(SCRIPT, "remove", "--with", self.tool, "--listen", f"{address}:9001")
            self.assertEqual(bare.run("nft", "list", "ruleset").stdout, "")

    def test_removing_the_last_nat_rules_ends_open_connections(self):
        alone = "10.77.2.2:9100"
        with scene.Server(self.inside, alone, "--shards", "1"):
            self.apply(to=[alone])
            self.assertEqual(self.clients.connect(LISTEN, 10), {"101": 10})
            self.assertEqual(self.clients.alive(), 10)
            self.call("remove")
            self.assertEqual(self.clients.alive(), 0)

    def test_applying_again_changes_nothing(self):
        self.apply("--local", "--masquerade")
        once = self.rules()
        self.apply("--local", "--masquerade")
        self.assertEqual(self.rules(), once)

    def test_what_the_tool_does_not_take_changes_nothing(self):
        self.apply()
        before = self.rules()
        done = self.balancer.run(SCRIPT, "apply", "--with", self.tool, "--listen", LISTEN, *backends("10.99.9.9:1"), check=False)
        self.assertIn("there is no route to it", done.stderr)
        self.assertEqual(self.rules(), before)

    def test_one_address_is_balanced_with_one_tool(self):
        self.apply()
        other = {"nftables": "iptables", "iptables": "nftables"}[self.tool]
        done = self.balancer.run(SCRIPT, "apply", "--with", other, "--listen", LISTEN, *backends(*BACKENDS), check=False)
        self.assertIn(f"is balanced with {self.tool} already", done.stderr)

    def test_backends_elsewhere_need_forwarding(self):
        self.balancer.setting("net.ipv4.ip_forward", 0)
        self.addCleanup(self.balancer.setting, "net.ipv4.ip_forward", 1)
        self.assertIn("sysctl -w net.ipv4.ip_forward=1", self.call("apply", *backends(*BACKENDS), check=False).stderr)

    def test_connections_of_this_host_only_where_asked_for(self):
        own = scene.Clients(self.balancer)
        self.addCleanup(own.close)
        self.apply("--spread", "turns")
        self.assertEqual(own.connect(LISTEN, 4), {"refused": 4})
        self.apply("--spread", "turns", "--local")
        self.assertEqual(own.connect(LISTEN, 40), {"101": 40})
        self.assertEqual(self.counts(), dict.fromkeys(BACKENDS, 10))

    def test_masquerading_needs_no_way_back(self):
        self.inside.run("ip", "route", "del", "default")
        self.addCleanup(self.inside.run, "ip", "route", "add", "default", "via", "10.77.2.1")
        self.apply()
        self.assertEqual(self.clients.connect(LISTEN, 1, timeout_s=0.5), {"timeout": 1})
        self.apply("--masquerade")
        self.assertEqual(self.clients.connect(LISTEN, 40), {"101": 40})
        self.assertEqual(Counter(peer for _, peer in self.ends()), {"10.77.2.1": 40})

    def test_connections_from_before_stay_where_they_are(self):
        with scene.Server(self.balancer, LISTEN, "--shards", "1", "--heartbeat-ms", "3600000"):
            before = scene.Clients(self.outside, next(self.sources))
            self.addCleanup(before.close)
            self.assertEqual(before.connect(LISTEN, 20), {"101": 20})
            self.apply("--spread", "turns")
            self.assertEqual(before.alive(), 20)
            self.assertEqual(list(self.open(40).values()), [10] * 4)
            self.assertEqual(before.alive(), 20)

    def test_rules_that_untrack_these_connections_are_found(self):
        nft_rule = ("nft", "add", "rule", "ip", "untracked", "pre")
        iptables_rule = ("iptables", "-t", "raw", "-A", "PREROUTING")
        found = (
            (*nft_rule, "tcp dport 9000 notrack"),
            (*nft_rule, "tcp dport { 80, 8000-9100 } notrack"),
            (*nft_rule, "tcp sport 9001 notrack"),
            (*nft_rule, "meta l4proto tcp notrack"),
            (*nft_rule, "tcp dport != 80 notrack"),
            (*iptables_rule, "-p", "tcp", "--dport", "9000", "-j", "CT", "--notrack"),
            (*iptables_rule, "-p", "tcp", "-m", "multiport", "--dports", "80,8999:9000", "-j", "NOTRACK"),
            (*iptables_rule, "-p", "tcp", "--sport", "9000:9001", "-j", "CT", "--notrack"),
        )
        harmless = (
            (*nft_rule, "tcp dport 9002 notrack"),
            (*nft_rule, "tcp sport 9002 notrack"),
            (*nft_rule, "udp dport 9000 notrack"),
            (*nft_rule, 'iifname "lo" notrack'),
            (*iptables_rule, "-p", "tcp", "--dport", "90", "-j", "CT", "--notrack"),
            (*iptables_rule, "-p", "tcp", "-m", "multiport", "--dports", "80,9001:9100", "-j", "CT", "--notrack"),
        )
        for rule in (*found, *harmless):
            with self.subTest(rule=rule[4:]):
                self.balancer.run("nft", "add table ip untracked; add chain ip untracked pre { type filter hook prerouting priority -300; }")
                self.balancer.run(*rule)
                done = self.call("apply", *backends(*BACKENDS), check=False)
                despite = self.call("apply", "--despite-notrack", *backends(*BACKENDS), check=False)
                self.balancer.run("nft", "delete table ip untracked")
                self.balancer.run("iptables", "-t", "raw", "-F")
                self.assertEqual(done.returncode, 1 if rule in found else 0, done.stderr)
                self.assertEqual("NAT needs the kernel to track" in done.stderr, rule in found, done.stderr)
                self.assertEqual(despite.returncode, 0, despite.stderr)


class Nftables(Balancing, unittest.TestCase):
    tool = "nftables"

    def test_by_source_a_client_keeps_its_backend(self):
        clients = scene.Clients(self.outside, *MANY_SOURCES)
        self.addCleanup(clients.close)
        for _ in range(2):
            self.apply("--spread", "source")
            self.assertEqual(clients.connect(LISTEN, len(MANY_SOURCES) * 10), {"101": len(MANY_SOURCES) * 10})
        seen = {}
        for backend, peer in self.ends():
            seen.setdefault(peer, set()).add(backend)
        self.assertEqual(set(seen), set(MANY_SOURCES))
        self.assertTrue(all(len(one) == 1 for one in seen.values()), seen)
        self.assertEqual(set.union(*seen.values()), set(BACKENDS))


class Iptables(Balancing, unittest.TestCase):
    tool = "iptables"


if __name__ == "__main__":
    unittest.main()
