"""The peer `websockets`: Python's `websockets` on asyncio, speaking the protocol of ../README.md.

Bound of a receiver that does not read: 4 MiB in its transport's write buffer (BACKLOG_BYTES_MAX). It is looked at
before each message to a connection; the message that finds it exceeded ends the connection.

The choices, and why they are the fastest that a user of this library would write:

* `websockets.asyncio`, the library's current implementation, with its compiled extension for masking.
* A broadcast is the library's own `broadcast()`: it encodes the text once and writes to every member without a task or
  an await for each. It has no backpressure, so the bound above is this program's.
* uvloop: the event loop that its documentation and most deployments use. It gathers the writes of one pass into one
  system call a connection.
* Compression and keepalive are off, as with every peer: a keepalive would be one more task a connection.
* One process and one thread, as the interpreter runs Python on one core at a time.
* uvloop sets TCP_NODELAY. The listen backlog is asked for as the kernel's usual limit; asyncio's own default is 100.
"""

import argparse
import http
import re

import uvloop
from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

BACKLOG_BYTES_MAX = 4 * 1024 * 1024
MESSAGE_BYTES_MAX = 1024 * 1024
LISTEN_BACKLOG = 4096

# `\Z` and not `$`, which would let a newline at the end pass.
NAME = r"[A-Za-z0-9_.-]{1,64}"
COMMAND = re.compile(rf"(?:(login|join) ({NAME})\Z)|(?:(send|direct) ({NAME}) )")


class Rooms:
    """Who is in which room, and which connection is which user's."""

    def __init__(self):
        self.members = {}
        self.users = {}

    def login(self, connection, name):
        self.logout(connection)
        connection.user = name
        self.users[name] = connection

    def logout(self, connection):
        """Frees the connection's name unless another one has taken it since."""
        if self.users.get(connection.user) is connection:
            del self.users[connection.user]

    def join(self, connection, room):
        self.members.setdefault(room, set()).add(connection)
        connection.rooms.add(room)

    def leave_all(self, connection):
        self.logout(connection)
        for room in connection.rooms:
            members = self.members[room]
            members.discard(connection)
            if not members:
                del self.members[room]

    def send(self, room, message):
        deliver(self.members.get(room, ()), message)

    def direct(self, name, message):
        receiver = self.users.get(name)
        if receiver is not None:
            deliver((receiver,), message)

    def obey(self, connection, message):
        """Carries out one command and says whether it was one."""
        command = COMMAND.match(message)
        if command is None:
            return False
        alone, argument, action, target = command.groups()
        if action == "send":
            self.send(target, message)
        elif action == "direct":
            self.direct(target, message)
        else:
            if alone == "login":
                self.login(connection, argument)
            else:
                self.join(connection, argument)
            deliver((connection,), message)
        return True


def deliver(receivers, message):
    """Writes the message to all receivers and ends the connections of those that are too far behind."""
    for receiver in receivers:
        if receiver.transport.get_write_buffer_size() > BACKLOG_BYTES_MAX:
            receiver.transport.abort()
    broadcast(receivers, message)


async def serve_echo(connection):
    async for message in connection:
        await connection.send(message)


async def serve_rooms(rooms, connection):
    connection.user = None
    connection.rooms = set()
    try:
        async for message in connection:
            if isinstance(message, bytes) or not rooms.obey(connection, message):
                await connection.close(CloseCode.UNSUPPORTED_DATA)
    finally:
        rooms.leave_all(connection)


async def run(host, port):
    rooms = Rooms()

    async def handle(connection):
        try:
            if connection.request.path == "/echo":
                await serve_echo(connection)
            else:
                await serve_rooms(rooms, connection)
        except ConnectionClosed:
            pass  # It went without saying goodbye.

    def route(connection, request):
        if request.path not in ("/echo", "/rooms"):
            return connection.respond(http.HTTPStatus.NOT_FOUND, "no such path\n")
        return None

    async with serve(
        handle,
        host,
        port,
        process_request=route,
        compression=None,
        ping_interval=None,
        max_size=MESSAGE_BYTES_MAX,
        backlog=LISTEN_BACKLOG,
    ) as server:
        print(f"listening on ws://{host}:{port}", flush=True)
        await server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description="The peer `websockets`.")
    parser.add_argument("--listen", default="127.0.0.1:9001", help="address and port to listen on")
    host, _, port = parser.parse_args().listen.rpartition(":")
    uvloop.run(run(host, int(port)))


if __name__ == "__main__":
    main()
