"""A client for the tests: as much of RFC 6455 and of the room protocol as they need, and nothing that has to be installed."""

import json
import os
import socket
import struct

PATIENCE_SECONDS = 20
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
FINAL = MASKED = 0x80


class Client:
    """One connection of a user."""

    def __init__(self, port, user):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.stream = self.socket.makefile("rb")
        request = (
            f"GET /ws?user={user} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.socket.sendall(request.encode())
        status = self.stream.readline()
        if b" 101 " not in status:
            raise ConnectionError(f"the handshake was answered with {status!r}")
        while self.stream.readline() != b"\r\n":
            pass
        self.hear("welcome")

    def say(self, **message):
        """Sends one object, without spaces: the server compares the faults that tests ask for byte by byte."""
        self._send(TEXT, json.dumps(message, separators=(",", ":")).encode())

    def hear(self, kind):
        """Waits for an object of a type, and passes over others. A close ends the wait with ConnectionError."""
        while True:
            opcode, payload = self._receive()
            if opcode == TEXT:
                message = json.loads(payload)
                if message["type"] == kind:
                    return message
                if message["type"] == "error":
                    raise AssertionError(f"waited for {kind} and was answered {message}")
            elif opcode == PING:
                self._send(PONG, payload)
            elif opcode == CLOSE:
                raise ConnectionError(f"closed with {int.from_bytes(payload[:2], 'big')}")

    def close(self):
        """Drops the connection."""
        self.stream.close()
        self.socket.close()

    def _send(self, opcode, payload):
        key = os.urandom(4)
        size = len(payload)
        length = bytes([MASKED | size]) if size < 126 else bytes([MASKED | 126]) + struct.pack("!H", size)
        masked = bytes(byte ^ key[place % 4] for place, byte in enumerate(payload))
        self.socket.sendall(bytes([FINAL | opcode]) + length + key + masked)

    def _receive(self):
        first, second = self._read(2)
        size = second
        if size == 126:
            (size,) = struct.unpack("!H", self._read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._read(8))
        return first & 0x0F, self._read(size)

    def _read(self, size):
        read = self.stream.read(size)
        if len(read) < size:
            raise ConnectionError("the connection ended")
        return read
