// The peer `ws`: Node.js and the package `ws`, speaking the protocol of ../README.md.
//
// Bound of a receiver that does not read: 4 MiB in its socket's write buffer (BACKLOG_BYTES_MAX). The message that
// exceeds it ends the connection.
//
// The choices, and why they are the fastest that a user of this package would write:
//
// * A broadcast is framed once, with the package's `Sender.frame`, and the same bytes are written to every member.
//   `socket.send` would frame it again for each. What is written to is the net.Socket that the `upgrade` event hands
//   out: the documented way of running `ws` beside one's own HTTP server, not a private field.
// * A socket is corked at its first write in a pass of the event loop and uncorked after the pass (setImmediate), so
//   that all it is owed goes out in one writev. This is what Node's documentation of `cork` is for.
// * `bufferutil` unmasks in native code. Incoming text is checked for UTF-8 (natively, by Node), as any public server
//   must; `clientTracking` is off, since nothing here lists all connections.
// * One process: the comparison gives every peer one core, where the cluster module would only add copies. On more
//   cores this peer uses one, as Node does.
// * `ws` sets TCP_NODELAY. The listen backlog is asked for as the kernel's usual limit; Node's own default is 511.

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import WebSocket, { Sender, WebSocketServer } from "ws";

const BACKLOG_BYTES_MAX = 4 * 1024 * 1024;
const MESSAGE_BYTES_MAX = 1024 * 1024;
const LISTEN_BACKLOG = 4096;
const UNSUPPORTED_DATA = 1003;
const TEXT = { fin: true, opcode: 1, mask: false, readOnly: true };
const SPACE = 0x20;
const NAME = /^[A-Za-z0-9_.-]{1,64}$/;

/** Members by room, and connections by user. */
const rooms = new Map();
const users = new Map();

/** The connections that are corked until this pass of the event loop is over. */
let corked = [];

function uncorkAll() {
  const flushed = corked;
  corked = [];
  for (const connection of flushed) {
    connection.isCorked = false;
    connection.stream.uncork();
  }
}

/** The bytes of a text frame in one buffer. */
function textFrame(payload) {
  return Buffer.concat(Sender.frame(payload, TEXT));
}

/** One WebSocket on /rooms. */
class Connection {
  constructor(socket, stream) {
    this.socket = socket;
    this.stream = stream;
    this.isCorked = false;
    this.name = undefined;
    this.rooms = new Set();
  }

  /** Writes a whole frame, or ends the connection if the receiver is too far behind. */
  write(frame) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    if (this.stream.writableLength + frame.length > BACKLOG_BYTES_MAX) {
      this.socket.terminate();
      return;
    }
    if (!this.isCorked) {
      this.isCorked = true;
      this.stream.cork();
      if (corked.push(this) === 1) setImmediate(uncorkAll);
    }
    this.stream.write(frame);
  }

  login(name) {
    this.logout();
    this.name = name;
    users.set(name, this);
  }

  /** Frees the name unless another connection has taken it since. */
  logout() {
    if (users.get(this.name) === this) users.delete(this.name);
  }

  join(name) {
    let members = rooms.get(name);
    if (members === undefined) {
      members = new Set();
      rooms.set(name, members);
    }
    members.add(this);
    this.rooms.add(name);
  }

  leaveAll() {
    this.logout();
    for (const name of this.rooms) {
      const members = rooms.get(name);
      members.delete(this);
      if (members.size === 0) rooms.delete(name);
    }
    this.rooms.clear();
  }

  /** Carries out one command and says whether it was one. */
  obey(message) {
    const first = message.indexOf(SPACE);
    if (first === -1) return false;
    const second = message.indexOf(SPACE, first + 1);
    const hasText = second !== -1;
    const name = message.latin1Slice(first + 1, hasText ? second : message.length);
    if (!NAME.test(name)) return false;
    switch (message.latin1Slice(0, first)) {
      case "login":
        if (hasText) return false;
        this.login(name);
        this.write(textFrame(message));
        return true;
      case "join":
        if (hasText) return false;
        this.join(name);
        this.write(textFrame(message));
        return true;
      case "send":
        if (!hasText) return false;
        broadcast(rooms.get(name), message);
        return true;
      case "direct":
        if (!hasText) return false;
        users.get(name)?.write(textFrame(message));
        return true;
      default:
        return false;
    }
  }
}

function broadcast(members, message) {
  if (members === undefined) return;
  const frame = textFrame(message);
  for (const member of members) member.write(frame);
}

function serveEcho(socket) {
  socket.on("error", () => socket.terminate());
  socket.on("message", (message, isBinary) => socket.send(message, { binary: isBinary }));
}

function serveRooms(socket, stream) {
  const connection = new Connection(socket, stream);
  socket.on("error", () => socket.terminate());
  socket.on("close", () => connection.leaveAll());
  socket.on("message", (message, isBinary) => {
    if (isBinary || !connection.obey(message)) socket.close(UNSUPPORTED_DATA);
  });
}

const services = new Map([
  ["/echo", serveEcho],
  ["/rooms", serveRooms],
]);

const { values } = parseArgs({ options: { listen: { type: "string", default: "127.0.0.1:9001" } } });
const [, host, port] = values.listen.match(/^(.*):(\d+)$/);
const webSockets = new WebSocketServer({
  noServer: true,
  perMessageDeflate: false,
  clientTracking: false,
  maxPayload: MESSAGE_BYTES_MAX,
});
const server = createServer((request, response) => response.writeHead(426).end());
server.on("upgrade", (request, stream, head) => {
  const serve = services.get(request.url);
  if (serve === undefined) {
    stream.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  webSockets.handleUpgrade(request, stream, head, (socket) => serve(socket, stream));
});
server.listen({ host, port: Number(port), backlog: LISTEN_BACKLOG }, () => {
  console.log(`listening on ws://${host}:${port}`);
});
