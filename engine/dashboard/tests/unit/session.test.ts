import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Session } from "../../src/chat/session.ts";

/** A socket whose other end is the test. */
class Socket {
  readyState = 0;
  sent: { type: string }[] = [];
  isClosed = false;
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  constructor(readonly url: string) {}
  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.isClosed = true;
  }
  opens() {
    this.readyState = 1;
    this.onopen?.();
  }
  says(event: object) {
    this.onmessage?.({ data: JSON.stringify(event) });
  }
  closes(code: number, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
  welcomes() {
    this.opens();
    this.says({ type: "welcome", user: "ada", session: "s", heartbeat_ms: 25_000 });
    this.says({ type: "joined", room: "tea", epoch: 7, seq: 0, members: 1, recovered: false });
  }
}

let sockets: Socket[];

function session(token: string | null = null): Session {
  return new Session(
    { name: "ada", room: "tea", token },
    {
      open: (url) => {
        const socket = new Socket(url);
        sockets.push(socket);
        return socket as unknown as WebSocket;
      },
      nodeUrl: () => "ws://0.0.0.0:9000/ws",
      pageHost: "host.example",
      random: () => 0.5,
    },
  );
}

beforeEach(() => {
  sockets = [];
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

describe("a session", () => {
  it("connects to the page's host where the server listens on every address", () => {
    session();
    expect(sockets[0]?.url).toBe("ws://host.example:9000/ws?user=ada");
  });

  it("brings a token in the first message, and then no name", () => {
    session("a.b.c");
    expect(sockets[0]?.url).toBe("ws://host.example:9000/ws");
    sockets[0]?.opens();
    expect(sockets[0]?.sent).toEqual([{ type: "auth", token: "a.b.c" }]);
  });

  it("comes back, later each time, until the server answers", () => {
    const chat = session();
    for (const delay of [300, 600, 1200, 2400, 4800, 5000, 5000]) {
      const before = sockets.length;
      sockets.at(-1)?.closes(1006);
      expect(chat.status.value.state).toBe("waiting");
      vi.advanceTimersByTime(delay - 1);
      expect(sockets.length).toBe(before);
      vi.advanceTimersByTime(1);
      expect(sockets.length).toBe(before + 1);
    }
    sockets.at(-1)?.welcomes();
    expect(chat.status.value.state).toBe("open");
    sockets.at(-1)?.closes(1006);
    vi.advanceTimersByTime(300);
    expect(chat.status.value.state).toBe("opening");
  });

  it("waits as long as a server asks that stops", () => {
    session();
    sockets[0]?.welcomes();
    sockets[0]?.closes(1001, "server is shutting down; reconnect in 1700 ms");
    vi.advanceTimersByTime(1999);
    expect(sockets).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(sockets).toHaveLength(2);
  });

  it.each([4401, 4403, 4429])("ends where the server does not want it: %s", (code) => {
    const chat = session();
    sockets[0]?.opens();
    sockets[0]?.closes(code, "the reason");
    expect(chat.status.value).toEqual({ state: "ended", detail: "The server has closed the connection: the reason." });
    vi.advanceTimersByTime(60_000);
    expect(sockets).toHaveLength(1);
  });

  it("gives up a handshake and a heartbeat that nobody answers", () => {
    const chat = session();
    vi.advanceTimersByTime(5000);
    expect([chat.status.value.state, sockets[0]?.isClosed]).toEqual(["waiting", true]);
    vi.advanceTimersByTime(300);
    sockets[1]?.welcomes();
    vi.advanceTimersByTime(25_000);
    expect(sockets[1]?.sent.at(-1)).toEqual({ type: "heartbeat" });
    sockets[1]?.says({ type: "heartbeat" });
    vi.advanceTimersByTime(20_000);
    expect(chat.status.value.state).toBe("open");
    vi.advanceTimersByTime(5000 + 5000);
    expect(chat.status.value.state).toBe("waiting");
    // What the old socket still says counts no more.
    sockets[1]?.closes(4403);
    expect(chat.status.value.state).toBe("waiting");
  });

  it("hears nothing more after it has left", () => {
    const chat = session();
    sockets[0]?.welcomes();
    chat.leave();
    expect(sockets[0]?.isClosed).toBe(true);
    sockets[0]?.closes(1006);
    vi.advanceTimersByTime(60_000);
    expect([chat.status.value.state, sockets.length]).toEqual(["ended", 1]);
  });
});
