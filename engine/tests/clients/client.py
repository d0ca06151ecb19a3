"""The JSON protocol as Python's `websockets` sees it.

Usage: client.py SCENARIO URL, where SCENARIO is `engine`, `compression`, `echo` or `ticker`.
Ends with status 0 where everything was as it should be, and with a traceback otherwise.
"""

import asyncio
import json
import sys
import uuid

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

# Seconds that an answer may take. They tell a hang from an answer, not a fast machine from a slow one.
PATIENCE = 30

# Bytes of a large content: with the fields around it just below the server's 1 MiB.
LARGE = 1024 * 1024 - 4096


class Client:
    """A connection that keeps what was received and not yet asked for."""

    def __init__(self, socket):
        self.socket = socket
        self.unclaimed = []
        self.welcome = None

    @classmethod
    async def open(cls, url, user):
        client = cls(await connect(f"{url}?user={user}", max_size=4 * LARGE))
        client.welcome = await client.expect("welcome")
        assert client.welcome["user"] == user, client.welcome
        return client

    async def send(self, **fields):
        await self.socket.send(json.dumps(fields))

    async def expect(self, kind, **fields):
        """The oldest object of this type with these fields."""

        def fits(candidate):
            return candidate["type"] == kind and all(
                candidate.get(name) == value for name, value in fields.items()
            )

        for index, candidate in enumerate(self.unclaimed):
            if fits(candidate):
                return self.unclaimed.pop(index)
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    candidate = json.loads(await self.socket.recv())
                    if fits(candidate):
                        return candidate
                    self.unclaimed.append(candidate)
        except TimeoutError as error:
            raise AssertionError(
                f"no {kind} with {fields}; last of the others: {self.unclaimed[-5:]}"
            ) from error

    async def join(self, room, **fields):
        await self.send(type="join", room=room, **fields)
        return await self.expect("joined", room=room)

    async def close(self):
        await self.socket.close()


async def open_members(url, room, count):
    members = []
    for index in range(count):
        member = await Client.open(url, f"py-{index}")
        await member.join(room)
        members.append(member)
    return members


async def close_all(clients):
    # All at once: `websockets` stops reading at 16 unread messages, and each `user_left` is one.
    await asyncio.gather(*(client.close() for client in clients))


async def broadcast(url):
    """Every member, on whichever shard, sees the same messages in the same order."""
    members = await open_members(url, "py-broadcast", 20)
    for index, member in enumerate(members):
        await member.send(type="message", room="py-broadcast", content={"from": index})
    orders = []
    for member in members:
        messages = [await member.expect("message") for _ in members]
        assert [message["seq"] for message in messages] == list(range(1, 21)), messages
        orders.append([message["content"] for message in messages])
    assert all(order == orders[0] for order in orders), "members saw different orders"
    await close_all(members)


async def direct(url):
    """Every connection of the user gets a direct message, and nobody else."""
    ada = [await Client.open(url, "py-ada") for _ in range(6)]
    bob = await Client.open(url, "py-bob")
    await bob.send(type="direct", to="py-ada", content="psst")
    for connection in ada:
        message = await connection.expect("direct")
        assert (message["from"], message["content"]) == ("py-bob", "psst"), message
    await bob.send(type="direct", to="py-bob", content="note")
    assert (await bob.expect("direct"))["content"] == "note"
    await close_all([*ada, bob])


async def presence(url):
    """Members are told who comes and goes, and may ask who is there."""
    ada = await Client.open(url, "py-ada")
    assert (await ada.join("py-presence"))["members"] == 1
    bob = await Client.open(url, "py-bob")
    assert (await bob.join("py-presence"))["members"] == 2
    await ada.expect("user_joined", user="py-bob")
    await ada.send(type="presence", room="py-presence")
    answer = await ada.expect("presence", count=2)
    assert sorted(answer["users"]) == ["py-ada", "py-bob"], answer
    await bob.close()
    await ada.expect("user_left", user="py-bob")
    await ada.close()


async def history_and_recovery(url):
    """What was missed while the connection was gone arrives once and in order."""
    room = "py-history"
    ada = await Client.open(url, "py-ada")
    bob = await Client.open(url, "py-bob")
    await ada.join(room)
    epoch = (await bob.join(room))["epoch"]
    for number in range(1, 4):
        await ada.send(type="message", room=room, content=number)
        assert (await bob.expect("message"))["seq"] == number
    bob.socket.transport.abort()
    await ada.expect("user_left", user="py-bob")
    for number in range(4, 9):
        await ada.send(type="message", room=room, content=number)
        await ada.expect("message", seq=number)

    bob = await Client.open(url, "py-bob")
    joined = await bob.join(room, since={"epoch": epoch, "seq": 3})
    assert joined["recovered"] is True, joined
    await ada.send(type="message", room=room, content=9)
    for number in range(4, 10):
        message = await bob.expect("message")
        assert (message["seq"], message["content"]) == (number, number), message

    await bob.send(type="history", room=room, limit=2)
    answer = await bob.expect("history", room=room)
    assert [message["content"] for message in answer["messages"]] == [8, 9], answer
    await bob.send(type="history", room=room, since={"epoch": epoch, "seq": 5}, limit=2)
    answer = await bob.expect("history", room=room)
    assert [message["content"] for message in answer["messages"]] == [6, 7], answer
    await close_all([ada, bob])


async def acknowledgements(url):
    """A repeated id is acknowledged with the same number and not delivered again."""
    room = "py-acks"
    ada = await Client.open(url, "py-ada")
    bob = await Client.open(url, "py-bob")
    await ada.join(room)
    await bob.join(room)
    name = str(uuid.uuid4())
    await ada.send(type="message", room=room, content="once", id=name)
    first = await ada.expect("ack", id=name)
    assert not first.get("duplicate"), first
    await ada.send(type="message", room=room, content="once", id=name)
    repeat = await ada.expect("ack", id=name)
    assert repeat["duplicate"] is True and repeat["seq"] == first["seq"], repeat
    await ada.send(type="message", room=room, content="last")
    assert [(await bob.expect("message"))["content"] for _ in range(2)] == ["once", "last"]
    await ada.send(type="message", room="py-elsewhere", content="?", id="refused")
    await ada.expect("error", code="not_joined", id="refused")
    await close_all([ada, bob])


async def fragments(url):
    """A message of 1 MiB in odd fragments, with pings in between, arrives whole."""
    room = "py-fragments"
    ada = await Client.open(url, "py-ada")
    bob = await Client.open(url, "py-bob")
    await ada.join(room)
    await bob.join(room)
    content = ("aé€😀" * (LARGE // 10 + 1)).encode()[:LARGE].decode(errors="ignore")
    text = json.dumps({"type": "message", "room": room, "content": content}, ensure_ascii=False)
    pongs = []

    async def pieces():
        sizes = [1, 7919, 126, 65_537, 40_009, 127]
        start, index = 0, 0
        while start < len(text):
            size = sizes[index % len(sizes)]
            yield text[start : start + size]
            start, index = start + size, index + 1
            pongs.append(await ada.socket.ping())

    await ada.socket.send(pieces())
    for client in (ada, bob):
        assert (await client.expect("message"))["content"] == content, "content differs"
    assert len(pongs) > 10
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*pongs)
    await close_all([ada, bob])


async def expect_shutdown_notice(clients):
    """Each connection is closed with 1001 and told how long to wait."""
    for client in clients:
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    await client.socket.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "dropped without a close frame"
            assert closed.rcvd.code == 1001, closed.rcvd
            assert any(map(str.isdigit, closed.rcvd.reason)), closed.rcvd


async def engine(url):
    for scenario in (
        broadcast,
        direct,
        presence,
        history_and_recovery,
        acknowledgements,
        fragments,
    ):
        await scenario(url)
        print(f"python websockets: {scenario.__name__} holds", flush=True)
    members = await open_members(url, "py-shutdown", 10)
    print("please shut the server down", flush=True)
    await expect_shutdown_notice(members)
    print("python websockets: expect_shutdown_notice holds", flush=True)


async def compression(url):
    """Whatever is offered is agreed on, and messages of all sizes reach members with every kind of window."""
    offers = [
        {},
        {"client_max_window_bits": True},
        {"client_max_window_bits": 9},
        {"server_max_window_bits": 9},
        {"server_max_window_bits": 15, "client_max_window_bits": 12},
        {"server_no_context_takeover": True},
        {"client_no_context_takeover": True},
        {"server_no_context_takeover": True, "server_max_window_bits": 10},
    ]
    members = []
    for index, offer in enumerate(offers):
        factory = ClientPerMessageDeflateFactory(**offer)
        socket = await connect(
            f"{url}?user=py-{index}", max_size=4 * LARGE, compression=None, extensions=[factory]
        )
        answer = socket.response.headers["Sec-WebSocket-Extensions"]
        assert answer.startswith("permessage-deflate"), answer
        member = Client(socket)
        await member.expect("welcome")
        await member.join("py-compression")
        members.append(member)
    async with connect(f"{url}?user=py-plain", compression=None) as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
    contents = ["", "tiny", "é€😀" * 100, "alike " * 1000, "alike " * 1001, "x" * 500_000, "last"]
    for index, content in enumerate(contents):
        await members[index].send(type="message", room="py-compression", content=content)
        for member in members:
            assert (await member.expect("message"))["content"] == content, f"{content:.20} differs"
    await close_all(members)
    print("python websockets: compression holds", flush=True)


async def echo(url):
    """Every text comes back as it was sent."""
    async with connect(url, max_size=4 * LARGE) as socket:
        async with asyncio.timeout(PATIENCE):
            for text in ("hello", "", "é€😀", '{"type":"anything"}', "x" * 100_000):
                await socket.send(text)
                answer = await socket.recv()
                assert answer == text, f"{text:.50} came back as {answer:.50}"
    print("python websockets: echo holds", flush=True)


async def ticker(url):
    """Members of the room are sent prices that no client published, the same to all of them."""
    first, second = await Client.open(url, "ada"), await Client.open(url, "bob")
    prices = []
    for client in (first, second):
        await client.join("ticks")
    for client in (first, second):
        ticks = [await client.expect("message") for _ in range(5)]
        assert all(tick["user"] == "ticker" for tick in ticks), ticks
        numbers = [tick["seq"] for tick in ticks]
        assert numbers == list(range(numbers[0], numbers[0] + 5)), numbers
        prices.append({tick["seq"]: tick["content"] for tick in ticks})
    common = prices[0].keys() & prices[1].keys()
    assert common and all(prices[0][seq] == prices[1][seq] for seq in common), prices
    for client in (first, second):
        await client.socket.close()
    print("python websockets: ticker holds", flush=True)


SCENARIOS = {"engine": engine, "compression": compression, "echo": echo, "ticker": ticker}

if __name__ == "__main__":
    asyncio.run(SCENARIOS[sys.argv[1]](sys.argv[2]))
