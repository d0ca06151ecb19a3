"""Network namespaces with engine processes and clients in them, for tests and measurements that leave the host's network alone."""

import contextlib
import ctypes
import itertools
import os
import re
import resource
import signal
import socket
import struct
import subprocess
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# `release`, or `debug` where speed does not matter.
PROFILE = os.environ.get("SHARDCAST_PROFILE", "release")
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / PROFILE
CLONE_NEWNET = 0x4000_0000

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: shardcast\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# A ping without a payload, masked with zeros, and its answer (RFC 6455, sections 5.2 and 5.5).
PING = bytes((0x89, 0x80, 0, 0, 0, 0))
PONG = bytes((0x8A, 0))
# Closes with a reset, which leaves no port in TIME-WAIT.
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def build(*packages):
    """Makes the binaries where they are missing or old."""
    if PROFILE == "release":
        chosen = ["--release", *(word for package in packages for word in ("-p", package))]
    else:
        # As `cargo test --workspace` does: a package alone takes other features of its dependencies, and all would be built again.
        chosen = ["--workspace", "--bins", "--examples"]
    subprocess.run(["cargo", "build", "--quiet", *chosen], cwd=ROOT, check=True)


def allow_many_descriptors():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def enter(descriptor):
    """Has this thread be in the network namespace of a descriptor."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Namespace:
    """A network namespace, with loopback up. Made on entry of a `with` block, or by `make`, and removed with all that is in it."""

    def __init__(self, name, parent=None):
        self.name = f"shardcast-{name}-{os.getpid()}"
        self.parent = parent

    def make(self):
        # What a new namespace inherits, it inherits from the one that it is made in.
        with self.parent.entered() if self.parent else contextlib.nullcontext():
            subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def remove(self):
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    def __enter__(self):
        return self.make()

    def __exit__(self, *_):
        self.remove()

    def run(self, *command, check=True, **options):
        """Runs a command there; its output as text."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        done = subprocess.run(["ip", "netns", "exec", self.name, *map(str, command)], **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(self, *command, **options):
        """Starts a command there, under the process id that the caller sees."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *map(str, command)], text=True, **options)

    @contextlib.contextmanager
    def entered(self):
        """Sockets made meanwhile belong to the namespace for as long as they live; so does what is read of /proc."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            enter(there)
            yield
        finally:
            enter(home)
            os.close(there)
            os.close(home)

    def setting(self, name, value):
        """Sets a sysctl of the namespace."""
        with self.entered():
            Path("/proc/sys", name.replace(".", "/")).write_text(str(value))

    def join(self, other, here, there):
        """A pair of virtual cards between two namespaces; addresses with the length of their prefix."""
        mine, theirs = f"to-{other.name[10:13]}", f"to-{self.name[10:13]}"
        self.run("ip", "link", "add", mine, "type", "veth", "peer", "name", theirs, "netns", other.name)
        for namespace, card, addresses in ((self, mine, here), (other, theirs, there)):
            for address in addresses:
                namespace.run("ip", "address", "add", address, "dev", card)
            namespace.run("ip", "link", "set", card, "up")


@contextlib.contextmanager
def behind_a_balancer(sources):
    """Three namespaces in a row: clients with these addresses of 10.77.1.0/24, a balancer (10.77.1.1 and 10.77.2.1) that forwards, and engines
    (10.77.2.2 and 10.77.2.3)."""
    with Namespace("clients") as clients, Namespace("balancer") as balancer, Namespace("engines") as engines:
        clients.join(balancer, [f"{source}/24" for source in sources], ["10.77.1.1/24"])
        balancer.join(engines, ["10.77.2.1/24"], ["10.77.2.2/24", "10.77.2.3/24"])
        clients.run("ip", "route", "add", "default", "via", "10.77.1.1")
        engines.run("ip", "route", "add", "default", "via", "10.77.2.1")
        balancer.setting("net.ipv4.ip_forward", 1)
        yield clients, balancer, engines


class Server:
    """An engine process in a namespace."""

    def __init__(self, namespace, listen, *options, before=()):
        command = [*before, TARGET / "shardcast", "serve", "--listen", listen, "--admin", "off", "--anonymous", "on", *options]
        self.listen = listen
        self.command = " ".join(["shardcast", *map(str, command[len(before) + 1 :])])
        # Nobody reads on after the start, so little may be said then.
        environment = {**os.environ, "SHARDCAST_LOG": "error"}
        self.process = namespace.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        self.pid = self.process.pid
        self.banner = []
        for line in self.process.stdout:
            self.banner.append(line.rstrip())
            if line.startswith("listening on"):
                return
        self.process.wait()
        raise RuntimeError("\n".join(["the server did not start:", *self.banner]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, with_signal=signal.SIGTERM):
        self.process.send_signal(with_signal)
        self.process.communicate(timeout=60)


class Clients:
    """WebSocket connections from a namespace. No port of a source is used twice: conntrack may remember where it led."""

    def __init__(self, namespace, *sources):
        self.namespace = namespace
        self.sources = sources or ("",)
        self.ports = itertools.count(10_000)
        self.sockets = []

    def connect(self, target, count, timeout_s=10):
        """Opens connections one after the other, from each source in turn; how many of them had which answer: 101, 503, `refused`, `timeout`."""
        host, port = target.split(":")
        answers = Counter()
        with self.namespace.entered():
            for number in range(count):
                one = socket.socket()
                one.settimeout(timeout_s)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                one.bind((self.sources[number % len(self.sources)], next(self.ports)))
                answer = self._open(one, (host, int(port)))
                answers[answer] += 1
                if answer == "101":
                    self.sockets.append(one)
                else:
                    one.close()
        return answers

    @staticmethod
    def _open(one, address):
        try:
            one.connect(address)
            one.sendall(HANDSHAKE)
            status = re.match(rb"HTTP/1.1 (\d+)", one.recv(4096))
            return status.group(1).decode() if status else "closed"
        except TimeoutError:
            return "timeout"
        except (ConnectionRefusedError, ConnectionResetError):
            return "refused"

    def alive(self):
        """How many of them answer a ping."""
        for one in self.sockets:
            with contextlib.suppress(OSError):
                one.sendall(PING)
        return sum(map(self._answers, self.sockets))

    @staticmethod
    def _answers(one):
        received = b""
        try:
            while part := one.recv(4096):
                received += part
                if PONG in received:
                    return True
        except OSError:
            pass
        return False

    def close(self):
        for one in self.sockets:
            one.close()
        self.sockets = []
