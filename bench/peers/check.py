#!/usr/bin/env python3
"""Checks that peers speak the protocol of README.md.

Usage: websockets/.venv/bin/python check.py [PEER ...]

PEER is the name of a program in bin/; without one, all of them are checked. Each is started on a free port of
127.0.0.1. Prints one line for each peer and check, and ends with status 1 where a check failed.
"""

import argparse
import asyncio
import base64
import contextlib
import os
import pathlib
import secrets
import socket
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

BIN = pathlib.Path(__file__).resolve().parent / "bin"

# Seconds that an answer may take, and a whole check. They tell a hang from an answer, not a fast machine from a slow.
PATIENCE = 10
CHECK_PATIENCE = 60

# Seconds in which nothing must come where nothing is owed.
SILENCE = 0.2

TEXT_BYTES_MAX = 64 * 1024

# What a member that does not read is sent: more messages and more bytes than any peer's bound and the kernel's buffers.
FLOOD_MESSAGES = 40_000
FLOOD_TEXT = "x" * 2048
# How far the sender of the flood runs ahead of the member that reads, in messages: well within every bound.
FLOOD_AHEAD = 500


class Peer:
    """A running peer."""

    def __init__(self, process, port):
        self.process = process
        self.port = port

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, name):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            BIN / name, "--listen", f"127.0.0.1:{port}", stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(PATIENCE):
                line = (await process.stdout.readline()).decode().strip()
            expected = f"listening on ws://127.0.0.1:{port}"
            assert line == expected, f"said {line!r} and not {expected!r} when it was ready"
            yield cls(process, port)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def connect(self, path="/rooms"):
        return connect(f"ws://127.0.0.1:{self.port}{path}", max_size=None, ping_interval=None)

    @contextlib.asynccontextmanager
    async def members(self, count, room):
        """So many connections that have joined the room."""
        async with contextlib.AsyncExitStack() as stack:
            members = [await stack.enter_async_context(self.connect()) for _ in range(count)]
            for member in members:
                await ask(member, f"join {room}")
            yield members


async def receive(connection):
    async with asyncio.timeout(PATIENCE):
        return await connection.recv()


async def expect(connection, message):
    received = await receive(connection)
    assert received == message, f"got {shortened(received)} and not {shortened(message)}"


def shortened(message):
    return repr(message) if len(message) <= 60 else f"{message[:60]!r}… ({len(message)} long)"


async def ask(connection, message):
    """Sends a message that is answered with itself."""
    await connection.send(message)
    await expect(connection, message)


async def expect_nothing(*connections):
    """Nothing comes in a while, nor before the answer to a command that is sent after it."""
    await asyncio.sleep(SILENCE)
    for connection in connections:
        await ask(connection, "login last-word")


async def expect_close(connection, code):
    try:
        received = await receive(connection)
    except ConnectionClosed as closed:
        got = closed.rcvd.code if closed.rcvd else None
        assert got == code, f"closed with {got} and not {code}"
    else:
        raise AssertionError(f"got {shortened(received)} and not a close")


async def check_echo(peer):
    async with peer.connect("/echo") as connection:
        assert not connection.protocol.extensions, "permessage-deflate was agreed on"
        for size in (0, 1, 125, 126, 1024, TEXT_BYTES_MAX, 200_000):
            await ask(connection, "é" * (size // 2) + "a" * (size % 2))
            await ask(connection, secrets.token_bytes(size))


async def check_echo_of_many(peer):
    messages = [f"message {number}" for number in range(1000)]
    async with peer.connect("/echo") as connection:
        for message in messages:
            await connection.send(message)
        for message in messages:
            await expect(connection, message)


async def check_ping(peer):
    async with peer.connect() as connection:
        async with asyncio.timeout(PATIENCE):
            await (await connection.ping(b"are you there"))


async def check_login_and_join(peer):
    async with peer.connect() as connection:
        await ask(connection, "login Anna.B_c-9")
        await ask(connection, "login " + "n" * 64)
        await ask(connection, "join r")
        await ask(connection, "join " + "R" * 64)


async def check_send(peer):
    async with peer.members(3, "lobby") as members, peer.members(1, "elsewhere") as others, peer.connect() as outsider:
        for text in ("hello", "two  spaces and a trailing one ", "žluťoučký 🐎", "x" * TEXT_BYTES_MAX):
            await members[0].send(f"send lobby {text}")
            for member in members:
                await expect(member, f"send lobby {text}")
        await outsider.send("send lobby from outside")
        for member in members:
            await expect(member, "send lobby from outside")
        await outsider.send("send nobody-is-here hello")
        await expect_nothing(*others, outsider, *members)


async def check_many_rooms(peer):
    async with peer.members(2, "first") as (one, two):
        for number in range(100):
            await ask(one, f"join room-{number}")
        for number in range(100):
            await two.send(f"send room-{number} hello")
        for number in range(100):
            await expect(one, f"send room-{number} hello")
        await expect_nothing(one, two)


async def check_double_join(peer):
    async with peer.members(2, "twice") as members:
        await ask(members[1], "join twice")
        await members[0].send("send twice once")
        for member in members:
            await expect(member, "send twice once")
        await expect_nothing(*members)


async def check_direct(peer):
    async with peer.connect() as anna, peer.connect() as berta, peer.connect() as carla:
        await ask(anna, "login anna")
        await ask(berta, "login berta")
        await carla.send("direct berta hello there")
        await expect(berta, "direct berta hello there")
        await berta.send("direct berta to myself")
        await expect(berta, "direct berta to myself")
        await berta.send("direct nobody hello")
        await expect_nothing(anna, berta, carla)


async def check_order(peer):
    async with peer.members(5, "ordered") as members:
        messages = [f"send ordered {number}" for number in range(1000)]
        for message in messages:
            await members[0].send(message)
        for member in members:
            for message in messages:
                await expect(member, message)


async def check_refusals(peer):
    refused = [
        "",
        "dance",
        "dance lobby",
        "login",
        "login ",
        "login two words",
        "join",
        "join no/slash",
        "join " + "r" * 65,
        "join lobby\n",
        "send lobby",
        "LOGIN anna",
        b"join lobby",
    ]
    for message in refused:
        async with peer.connect() as connection:
            await connection.send(message)
            try:
                await expect_close(connection, 1003)
            except AssertionError as failure:
                raise AssertionError(f"{message!r}: {failure}") from None


async def check_leaving(peer):
    async with peer.members(1, "left") as (stays,):
        for farewell in ("close", "abort"):
            async with peer.members(1, "left") as (goes,):
                await ask(goes, "login goer")
                if farewell == "abort":
                    goes.transport.abort()
                await goes.close()
            await asyncio.sleep(SILENCE)
            await stays.send("send left hello")
            await expect(stays, "send left hello")
            await stays.send("direct goer hello")
            await ask(stays, "join left")


async def open_unread(peer, room):
    """A connection that is in the room and reads no further: a bare socket with a small receive buffer."""
    unread = socket.socket()
    unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    unread.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(unread, ("127.0.0.1", peer.port))
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    request = (
        f"GET /rooms HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await loop.sock_sendall(unread, request.encode())
    await receive_until(unread, b"\r\n\r\n")
    join = f"join {room}".encode()
    # A masked text frame whose mask is nought.
    await loop.sock_sendall(unread, bytes([0x81, 0x80 | len(join)]) + bytes(4) + join)
    await receive_until(unread, join)
    return unread


async def receive_until(bare_socket, ending):
    received = b""
    async with asyncio.timeout(PATIENCE):
        while not received.endswith(ending):
            part = await asyncio.get_running_loop().sock_recv(bare_socket, 4096)
            assert part, f"closed after {shortened(received)}"
            received += part


async def expect_dropped(unread, bytes_owed):
    """What is left in the buffers of the connection ends, and is less than what it was owed."""
    loop = asyncio.get_running_loop()
    left = 0
    try:
        async with asyncio.timeout(PATIENCE):
            while received := await loop.sock_recv(unread, 1 << 20):
                left += len(received)
    except ConnectionResetError:
        pass
    except TimeoutError:
        raise AssertionError(f"the member that does not read is still connected after {left} bytes") from None
    assert left < bytes_owed, "the member that does not read was kept everything for"


async def check_slow_member(peer):
    async with peer.members(2, "slow") as (sender, reader):
        unread = await open_unread(peer, "slow")
        with contextlib.closing(unread):
            messages = [f"send slow {number} {FLOOD_TEXT}" for number in range(FLOOD_MESSAGES)]

            async def read(connection, ahead):
                for message in messages:
                    await expect(connection, message)
                    ahead.release()

            aheads = [asyncio.Semaphore(FLOOD_AHEAD) for _ in range(2)]
            async with asyncio.TaskGroup() as tasks:
                for connection, ahead in zip((sender, reader), aheads):
                    tasks.create_task(read(connection, ahead))
                for message in messages:
                    for ahead in aheads:
                        await ahead.acquire()
                    await sender.send(message)
            await expect_dropped(unread, sum(map(len, messages)))


CHECKS = {
    "echo": check_echo,
    "echo of 1,000 at once": check_echo_of_many,
    "answer to a ping": check_ping,
    "login and join": check_login_and_join,
    "send": check_send,
    "many rooms": check_many_rooms,
    "double join": check_double_join,
    "direct": check_direct,
    "order of 1,000": check_order,
    "refusals": check_refusals,
    "leaving": check_leaving,
    "a member that does not read": check_slow_member,
}


async def run_check(peer_name, check):
    """What is wrong, or nothing."""
    found = None
    try:
        async with asyncio.timeout(CHECK_PATIENCE), Peer.start(peer_name) as peer:
            await check(peer)
            assert peer.process.returncode is None, f"it ended with status {peer.process.returncode}"
    except* (AssertionError, ConnectionClosed, OSError, TimeoutError) as failures:
        found = ", ".join(f"{type(failure).__name__}: {failure}" for failure in leaves(failures))
    return found


def leaves(group):
    for failure in group.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from leaves(failure)
        else:
            yield failure


async def run(peer_names):
    failed = 0
    width = max(map(len, peer_names))
    for peer_name in peer_names:
        for title, check in CHECKS.items():
            started = time.monotonic()
            failure = await run_check(peer_name, check)
            failed += failure is not None
            outcome = "ok" if failure is None else f"FAILED: {failure}"
            print(f"{peer_name:{width}}  {title:27}  {time.monotonic() - started:5.1f} s  {outcome}", flush=True)
    passed = len(peer_names) * len(CHECKS) - failed
    print(f"{passed} passed, {failed} failed")
    return failed == 0


def main():
    built = sorted(path.name for path in BIN.glob("*") if path.suffix != ".version" and os.access(path, os.X_OK))
    parser = argparse.ArgumentParser(description="Checks that peers speak the protocol of README.md.")
    parser.add_argument("peer", nargs="*", help="a peer in bin/; all of them where none is named")
    peer_names = parser.parse_args().peer or built
    missing = [name for name in peer_names if name not in built]
    if missing or not peer_names:
        parser.error(f"not built: {', '.join(missing) or 'any peer'} (see build.sh)")
    sys.exit(0 if asyncio.run(run(peer_names)) else 1)


if __name__ == "__main__":
    main()
