"""seccomp.json and shardcast.service: the server does all of its work within them, and what they forbid is refused."""

import collections
import contextlib
import http.server
import json
import mmap
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.request
from pathlib import Path

import confined
import tree
import websocket

PROFILE = tree.SCRIPTS / "seccomp.json"
UNIT = tree.SCRIPTS / "shardcast.service"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", tree.SCRIPTS.parent / "target"))
ADMIN = re.compile(r"admin API on http://127\.0\.0\.1:(\d+)")
READY = re.compile(r"listening on ws://127\.0\.0\.1:(\d+)/ws")
# Each takes a process out of its confinement, or reaches into what is outside.
FORBIDDEN = ("unshare", "ptrace", "setns", "mount", "bpf", "keyctl", "init_module", "perf_event_open")


def binary():
    """The server as it was built last."""
    built = [TARGET / profile / "shardcast" for profile in ("debug", "release")]
    built = [file for file in built if file.exists()]
    if not built:
        tree.skip(f"the server within its sandbox: there is none in {TARGET}, `cargo build -p shardcast` makes one")
    return max(built, key=lambda file: file.stat().st_mtime)


def profile():
    return json.loads(PROFILE.read_text(encoding="utf-8"))


def without(allowed, *names):
    """The same profile without some names."""
    rules = [{**rule, "names": [name for name in rule["names"] if name not in names]} for rule in allowed["syscalls"]]
    return {**allowed, "syscalls": [rule for rule in rules if rule["names"]]}


def without_bits(argument, bits):
    """The condition that an argument has none of these bits."""
    return {"index": argument, "op": "SCMP_CMP_MASKED_EQ", "value": bits, "valueTwo": 0}


class Confined(unittest.TestCase):
    def setUp(self):
        if platform.machine() != "x86_64":
            tree.skip(f"seccomp profiles, which are tried on x86_64 only, not on {platform.machine()}")
        try:
            confined.library()
        except OSError as error:
            tree.skip(f"seccomp profiles, which need the Debian package libseccomp2: {error}")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.file = Path(directory.name) / "profile.json"

    def command(self, allowed, *command):
        """The command line that runs another one under a profile; None is no profile."""
        file = "-"
        if allowed is not None:
            file = self.file
            file.write_text(json.dumps(allowed), encoding="utf-8")
        return [sys.executable, "-B", str(tree.SCRIPTS / "tests/confined.py"), str(file), *map(str, command)]

    def attempt(self, allowed, *names):
        """What comes of system calls under a profile, by name."""
        done = subprocess.run(self.command(allowed, "--try", *names), capture_output=True, text=True, timeout=tree.PATIENCE_SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr)
        return dict(line.split() for line in done.stdout.splitlines())

    def serve(self, allowed):
        """Has a server of two shards do what a server does under a profile: rooms, a shard that dies, the admin API, a webhook, an orderly end. Returns what it
        printed."""
        backend = self.enterContext(Backend())
        webhooks = ("--webhook-url", f"http://localhost:{backend.server_port}/", "--webhook-events", "connected")
        command = self.command(allowed, binary(), "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", *webhooks)
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "SHARDCAST_FAULTS": "1", "RUST_BACKTRACE": "0"})
        end = threading.Timer(tree.PATIENCE_SECONDS, server.kill)
        end.start()
        printed, clients = [], []
        try:
            for line in server.stdout:
                printed.append(line)
                ready = READY.search(line)
                if ready:
                    clients = talk(int(ready[1]))
                    admin = ADMIN.search("".join(printed))
                    with urllib.request.urlopen(f"http://127.0.0.1:{admin[1]}/healthz", timeout=tree.PATIENCE_SECONDS) as answer:
                        self.assertTrue(json.load(answer)["ok"])
                    self.assertTrue(backend.told.wait(tree.PATIENCE_SECONDS), "".join(printed))
                    server.send_signal(signal.SIGTERM)
            server.wait()
        finally:
            end.cancel()
            server.kill()
            server.communicate()
            for client in clients:
                client.close()
        output = "".join(printed)
        self.assertEqual(server.returncode, 0, output)
        self.assertIn("stopped: ", output)
        return output


class Backend(http.server.ThreadingHTTPServer):
    """A backend that is told of events."""

    def __init__(self):
        self.told = threading.Event()
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *problem):
        self.shutdown()
        super().__exit__(*problem)


class Answer(http.server.BaseHTTPRequestHandler):
    """Thanks for whatever it is told."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.set()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def talk(port):
    """A conversation that takes every path of the server: rooms across shards, history, many connections, and a shard that is started again. Returns connections that are
    still open."""
    clients = [websocket.Client(port, f"user{number}") for number in range(16)]
    for client in clients:
        client.say(type="join", room="lobby")
        client.hear("joined")
    ada, bob = clients[:2]
    # As large as several receive buffers, and more than a socket takes at once.
    for number, size in enumerate((5, 50_000)):
        ada.say(type="message", room="lobby", content="x" * size, id=str(number))
        for client in clients:
            if len(client.hear("message")["content"]) != size:
                raise AssertionError("another message came")
    ada.hear("ack")
    ada.say(type="direct", to="user1", content=1)
    bob.hear("direct")
    for kind in ("presence", "history"):
        bob.say(type=kind, room="lobby")
        bob.hear(kind)
    bob.say(type="heartbeat")
    bob.hear("heartbeat")
    for client in clients[2:8]:
        client.close()
    del clients[2:8]

    ada.say(type="fault", what="panic_shard")
    with contextlib.suppress(ConnectionError):
        ada.hear("never")
    again = websocket.Client(port, "user0")
    again.say(type="join", room="lobby")
    again.hear("joined")
    again.say(type="message", room="lobby", content=2, id="2")
    again.hear("ack")
    return [*clients, again]


class Profile(Confined):
    def test_the_server_works_within(self):
        self.assertIn("the shard is started again", self.serve(profile()))

    def test_the_server_needs_io_uring(self):
        with self.assertRaises(AssertionError) as failed:
            self.serve(without(profile(), "io_uring_setup"))
        self.assertIn("io_uring", str(failed.exception))

    def test_what_is_not_needed_is_refused(self):
        outcomes = self.attempt(profile(), *FORBIDDEN)
        self.assertEqual(outcomes, dict.fromkeys(FORBIDDEN, "EPERM"))

    def test_without_the_profile_it_is_not(self):
        if os.geteuid() != 0:
            tree.skip("that the profile and nothing else refuses system calls, which needs root")
        outcomes = self.attempt(None, *FORBIDDEN)
        self.assertEqual((outcomes["unshare"], outcomes["ptrace"]), ("permitted", "permitted"))

    def test_no_process_starts_in_namespaces_of_its_own(self):
        for flag in (0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x00020000):
            with self.subTest(flag=hex(flag)):
                self.assertEqual(self.attempt(profile(), f"clone:{flag}"), {"clone": "EPERM"})
        # Then the C library uses clone, whose flags a profile can see.
        self.assertEqual(self.attempt(profile(), "clone3"), {"clone3": "ENOSYS"})

    def test_every_name_stands_once_and_in_order(self):
        names = [name for rule in profile()["syscalls"] for name in rule["names"]]
        self.assertEqual([name for name, count in collections.Counter(names).items() if count > 1], [])
        for rule in profile()["syscalls"]:
            self.assertEqual(rule["names"], sorted(rule["names"]))


class Unit(Confined):
    def settings(self):
        """Each setting of the unit with all of its values, in order."""
        found = collections.defaultdict(list)
        for line in UNIT.read_text(encoding="utf-8").splitlines():
            if "=" in line and not line.startswith("#"):
                name, _, value = line.partition("=")
                found[name].append(value)
        return found

    def analyze(self, *arguments):
        if not shutil.which("systemd-analyze"):
            tree.skip("shardcast.service as systemd reads it, which needs the Debian package systemd")
        done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=tree.PATIENCE_SECONDS)
        return done.returncode, done.stdout + done.stderr

    def group(self, name):
        """The system calls of a group such as @system-service, those of the groups in it included."""
        _, listed = self.analyze("syscall-filter", name)
        names = [line.strip() for line in listed.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
        return {call for member in names for call in (self.group(member) if member.startswith("@") else {member})}

    def permitted(self):
        """The system calls that SystemCallFilter= leaves, as systemd applies it: what execution itself takes is always permitted."""
        calls = self.group("@default") | {"execve"}
        for value in self.settings()["SystemCallFilter"]:
            denied = value.startswith("~")
            for name in value.removeprefix("~").split():
                named = self.group(name) if name.startswith("@") else {name}
                calls = calls - named if denied else calls | named
        return calls

    def test_systemd_finds_nothing_wrong(self):
        with tempfile.TemporaryDirectory() as directory:
            text = UNIT.read_text(encoding="utf-8").replace("ExecStart=shardcast", f"ExecStart={shutil.which('true')}")
            copy = Path(directory) / UNIT.name
            copy.write_text(text, encoding="utf-8")
            self.assertEqual(self.analyze("verify", "--man=no", str(copy)), (0, ""))
            copy.write_text(text.replace("TimeoutStopSec=", "TimeoutStop="), encoding="utf-8")
            self.assertIn("TimeoutStop", self.analyze("verify", "--man=no", str(copy))[1])

    def test_the_server_works_with_these_system_calls(self):
        # As filters, what systemd makes filters of: SystemCallFilter=, RestrictAddressFamilies= and MemoryDenyWriteExecute=.
        self.assertEqual(self.settings()["MemoryDenyWriteExecute"], ["yes"])
        conditional = [("mprotect", without_bits(2, mmap.PROT_EXEC)), ("mmap", without_bits(2, mmap.PROT_EXEC)), ("mmap", without_bits(2, mmap.PROT_WRITE))]
        for family in self.settings()["RestrictAddressFamilies"][0].split():
            conditional.append(("socket", {"index": 0, "op": "SCMP_CMP_EQ", "value": getattr(socket, family)}))
        known = [name for name in sorted(self.permitted()) if confined.library().seccomp_syscall_resolve_name(name.encode()) != confined.UNKNOWN]
        unconditional = [name for name in known if name not in dict(conditional)]
        rules = [{"names": unconditional, "action": "SCMP_ACT_ALLOW"}]
        rules += [{"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]} for name, condition in conditional]
        allowed = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
        self.serve(allowed)
        refused = ("ptrace", "mount", "bpf", "socket")
        self.assertEqual(self.attempt(allowed, *refused), dict.fromkeys(refused, "EPERM"))

    def test_the_server_knows_the_flags(self):
        self.assertEqual(self.settings()["ExecStart"], ["shardcast serve --config /etc/shardcast/shardcast.toml --log-format json"])
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            # What the package's file says beside defaults, which it names: comments.
            file.write((tree.SCRIPTS / "debian/shardcast.toml").read_text(encoding="utf-8") + 'listen = "127.0.0.1:9100"\n')
            file.flush()
            command = [binary(), "config", "--config", file.name, "--log-format", "json"]
            done = subprocess.run(command, capture_output=True, text=True, env={}, timeout=tree.PATIENCE_SECONDS)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("127.0.0.1:9100", done.stdout)

    def test_there_is_time_to_stop(self):
        done = subprocess.run([binary(), "config", "--format", "toml"], capture_output=True, text=True, env={}, timeout=tree.PATIENCE_SECONDS)
        stop_ms = int(re.search(r"^#? ?shutdown_ms_max = ([\d_]+)", done.stdout, re.MULTILINE)[1])
        self.assertGreaterEqual(int(self.settings()["TimeoutStopSec"][0]) * 1000, stop_ms + 5000)


if __name__ == "__main__":
    unittest.main()
