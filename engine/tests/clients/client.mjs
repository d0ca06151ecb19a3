// The JSON protocol as npm's `ws` sees it.
//
// Usage: node client.mjs SCENARIO URL, where SCENARIO is `engine`, `compression`, `echo` or `ticker`.
// Ends with status 0 where everything was as it should be, and with a stack trace otherwise.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import WebSocket from "ws";

// Milliseconds that an answer may take. They tell a hang from an answer, not a fast machine from a slow one.
const PATIENCE = 30_000;

// Bytes of a large content: with the fields around it just below the server's 1 MiB.
const LARGE = 1024 * 1024 - 4096;

// The promise's value, or a failure that says what did not come.
function inTime(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what()} within ${PATIENCE} ms`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// A socket that keeps what was received and not yet asked for.
class Client {
  constructor(url, options = {}) {
    this.unclaimed = [];
    this.waiting = [];
    this.pongs = [];
    this.socket = new WebSocket(url, options);
    this.socket.on("message", (bytes, isBinary) => {
      assert.equal(isBinary, false, "a text message");
      this.#receive(bytes.toString());
    });
    this.socket.on("pong", (bytes) => this.pongs.push(bytes.toString()));
    this.closed = new Promise((resolve) => {
      this.socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    this.opened = new Promise((resolve, reject) => {
      this.socket.on("open", resolve);
      this.socket.on("error", reject);
    });
  }

  static async open(url, user, options = {}) {
    const client = new Client(`${url}?user=${user}`, options);
    await inTime(client.opened, () => "handshake");
    client.welcome = await client.expect("welcome");
    assert.equal(client.welcome.user, user);
    return client;
  }

  #receive(text) {
    const index = this.waiting.findIndex(({ fits }) => fits(text));
    if (index < 0) {
      this.unclaimed.push(text);
    } else {
      this.waiting.splice(index, 1)[0].resolve(text);
    }
  }

  // The oldest text that fits, received already or still to come.
  async text(fits, what) {
    const index = this.unclaimed.findIndex(fits);
    if (index >= 0) {
      return this.unclaimed.splice(index, 1)[0];
    }
    const next = new Promise((resolve) => this.waiting.push({ fits, resolve }));
    return inTime(next, () => `${what}; last of the others: ${this.unclaimed.slice(-5)}`);
  }

  // The oldest object of this type with these fields.
  async expect(kind, fields = {}) {
    const fits = (text) => {
      const object = JSON.parse(text);
      return (
        object.type === kind &&
        Object.entries(fields).every(([name, value]) => object[name] === value)
      );
    };
    return JSON.parse(await this.text(fits, `${kind} with ${JSON.stringify(fields)}`));
  }

  send(object) {
    this.socket.send(JSON.stringify(object));
  }

  async join(room, fields = {}) {
    this.send({ type: "join", room, ...fields });
    return this.expect("joined", { room });
  }

  async close() {
    this.socket.close();
    await inTime(this.closed, () => "end of the connection");
  }
}

async function openMembers(url, room, count) {
  const members = [];
  for (let index = 0; index < count; index += 1) {
    const member = await Client.open(url, `js-${index}`);
    await member.join(room);
    members.push(member);
  }
  return members;
}

async function closeAll(clients) {
  await Promise.all(clients.map((client) => client.close()));
}

// Every member, on whichever shard, sees the same messages in the same order.
async function broadcast(url) {
  const room = "js-broadcast";
  const members = await openMembers(url, room, 20);
  members.forEach((member, index) => member.send({ type: "message", room, content: [index] }));
  let order;
  for (const member of members) {
    const contents = [];
    for (let seq = 1; seq <= members.length; seq += 1) {
      const message = await member.expect("message");
      assert.equal(message.seq, seq);
      contents.push(message.content);
    }
    order ??= contents;
    assert.deepEqual(contents, order, "members saw different orders");
  }
  await closeAll(members);
}

// Every connection of the user gets a direct message, and nobody else.
async function direct(url) {
  const ada = [];
  for (let index = 0; index < 6; index += 1) {
    ada.push(await Client.open(url, "js-ada"));
  }
  const bob = await Client.open(url, "js-bob");
  bob.send({ type: "direct", to: "js-ada", content: { text: "psst" } });
  for (const connection of ada) {
    const message = await connection.expect("direct");
    assert.equal(message.from, "js-bob");
    assert.deepEqual(message.content, { text: "psst" });
  }
  bob.send({ type: "direct", to: "js-bob", content: "note" });
  assert.equal((await bob.expect("direct")).content, "note");
  await closeAll([...ada, bob]);
}

// Members are told who comes and goes, and may ask who is there.
async function presence(url) {
  const room = "js-presence";
  const ada = await Client.open(url, "js-ada");
  assert.equal((await ada.join(room)).members, 1);
  const bob = await Client.open(url, "js-bob");
  assert.equal((await bob.join(room)).members, 2);
  await ada.expect("user_joined", { user: "js-bob" });
  ada.send({ type: "presence", room });
  const answer = await ada.expect("presence", { count: 2 });
  assert.deepEqual(answer.users.sort(), ["js-ada", "js-bob"]);
  await bob.close();
  await ada.expect("user_left", { user: "js-bob" });
  await ada.close();
}

// What was missed while the connection was gone arrives once and in order.
async function historyAndRecovery(url) {
  const room = "js-history";
  const ada = await Client.open(url, "js-ada");
  let bob = await Client.open(url, "js-bob");
  await ada.join(room);
  const { epoch } = await bob.join(room);
  for (let number = 1; number <= 3; number += 1) {
    ada.send({ type: "message", room, content: number });
    assert.equal((await bob.expect("message")).seq, number);
  }
  bob.socket.terminate();
  await ada.expect("user_left", { user: "js-bob" });
  for (let number = 4; number <= 8; number += 1) {
    ada.send({ type: "message", room, content: number });
    await ada.expect("message", { seq: number });
  }

  bob = await Client.open(url, "js-bob");
  assert.equal((await bob.join(room, { since: { epoch, seq: 3 } })).recovered, true);
  ada.send({ type: "message", room, content: 9 });
  for (let number = 4; number <= 9; number += 1) {
    const message = await bob.expect("message");
    assert.deepEqual([message.seq, message.content], [number, number]);
  }

  const contents = ({ messages }) => messages.map(({ content }) => content);
  bob.send({ type: "history", room, limit: 2 });
  assert.deepEqual(contents(await bob.expect("history")), [8, 9]);
  bob.send({ type: "history", room, since: { epoch, seq: 5 }, limit: 2 });
  assert.deepEqual(contents(await bob.expect("history")), [6, 7]);
  await closeAll([ada, bob]);
}

// A repeated id is acknowledged with the same number and not delivered again.
async function acknowledgements(url) {
  const room = "js-acks";
  const ada = await Client.open(url, "js-ada");
  const bob = await Client.open(url, "js-bob");
  await ada.join(room);
  await bob.join(room);
  const id = randomUUID();
  ada.send({ type: "message", room, content: "once", id });
  const first = await ada.expect("ack", { id });
  assert.ok(!first.duplicate);
  ada.send({ type: "message", room, content: "once", id });
  const repeat = await ada.expect("ack", { id });
  assert.deepEqual([repeat.duplicate, repeat.seq], [true, first.seq]);
  ada.send({ type: "message", room, content: "last" });
  assert.equal((await bob.expect("message")).content, "once");
  assert.equal((await bob.expect("message")).content, "last");
  ada.send({ type: "message", room: "js-elsewhere", content: "?", id: "refused" });
  await ada.expect("error", { code: "not_joined", id: "refused" });
  await closeAll([ada, bob]);
}

// A message of 1 MiB in odd fragments, with pings in between, arrives whole.
async function fragments(url) {
  const room = "js-fragments";
  const ada = await Client.open(url, "js-ada");
  const bob = await Client.open(url, "js-bob");
  await ada.join(room);
  await bob.join(room);
  const content = "aé€😀".repeat(LARGE / 10);
  const bytes = Buffer.from(JSON.stringify({ type: "message", room, content }));
  const sizes = [1, 7919, 126, 0, 65_537, 40_009, 127];
  const pings = [];
  let start = 0;
  for (let index = 0; start < bytes.length; index += 1) {
    const end = Math.min(start + sizes[index % sizes.length], bytes.length);
    const options = { binary: false, fin: end === bytes.length, compress: false };
    ada.socket.send(bytes.subarray(start, end), options);
    start = end;
    pings.push(`ping ${index}`);
    ada.socket.ping(pings.at(-1));
  }
  assert.ok(pings.length > 10);
  for (const client of [ada, bob]) {
    const message = await client.expect("message");
    assert.ok(message.content === content, "content differs");
  }
  // The answer to a heartbeat comes after every pong. A server may answer only the last of several pings
  // (RFC 6455, section 5.5.3).
  ada.send({ type: "heartbeat" });
  await ada.expect("heartbeat");
  assert.equal(ada.pongs.at(-1), pings.at(-1));
  await closeAll([ada, bob]);
}

// Each connection is closed with 1001 and told how long to wait.
async function expectShutdownNotice(clients) {
  for (const client of clients) {
    const { code, reason } = await inTime(client.closed, () => "close");
    assert.equal(code, 1001, reason);
    assert.match(reason, /\d/);
  }
}

async function engine(url) {
  const scenarios = [
    broadcast,
    direct,
    presence,
    historyAndRecovery,
    acknowledgements,
    fragments,
  ];
  for (const scenario of scenarios) {
    await scenario(url);
    console.log(`npm ws: ${scenario.name} holds`);
  }
  const members = await openMembers(url, "js-shutdown", 10);
  console.log("please shut the server down");
  await expectShutdownNotice(members);
  console.log("npm ws: expectShutdownNotice holds");
}

// Whatever is offered is agreed on, and messages of all sizes reach members with every kind of window.
async function compression(url) {
  const offers = [
    {},
    { clientMaxWindowBits: 9 },
    { serverMaxWindowBits: 9 },
    { serverMaxWindowBits: 12, clientMaxWindowBits: 12 },
    { serverNoContextTakeover: true },
    { clientNoContextTakeover: true },
  ];
  const room = "js-compression";
  const members = [];
  for (const [index, offer] of offers.entries()) {
    // Without a threshold, so that every message is compressed on its way to the server.
    const perMessageDeflate = { threshold: 0, ...offer };
    const member = await Client.open(url, `js-${index}`, { perMessageDeflate });
    assert.match(member.socket.extensions, /permessage-deflate/);
    await member.join(room);
    members.push(member);
  }
  const contents = ["", "tiny", "aé€😀".repeat(100), "alike ".repeat(1000), "x".repeat(500_000), "last"];
  for (const [index, content] of contents.entries()) {
    members[index].send({ type: "message", room, content });
    for (const member of members) {
      const message = await member.expect("message");
      assert.ok(message.content === content, `${content.slice(0, 20)} differs`);
    }
  }
  await closeAll(members);
  console.log("npm ws: compression holds");
}

// Every text comes back as it was sent.
async function echo(url) {
  const client = new Client(url);
  await inTime(client.opened, () => "handshake");
  for (const text of ["hello", "", "é€😀", '{"type":"anything"}', "x".repeat(100_000)]) {
    client.socket.send(text);
    assert.equal(await client.text(() => true, "echo"), text);
  }
  await client.close();
  console.log("npm ws: echo holds");
}

// Messages come although nothing was sent.
async function ticker(url) {
  const clients = [];
  for (const user of ["js-ada", "js-bob"]) {
    const client = await Client.open(url, user);
    const { seq } = await client.join("ticks");
    for (let next = seq + 1; next <= seq + 5; next += 1) {
      const tick = await client.expect("message", { room: "ticks" });
      assert.equal(tick.seq, next);
      assert.equal(tick.user, "ticker");
    }
    clients.push(client);
  }
  await closeAll(clients);
  console.log("npm ws: ticker holds");
}

const [scenario, url] = process.argv.slice(2);
await { engine, compression, echo, ticker }[scenario](url);
