import { describe, expect, it } from "vitest";
import { type Conversation, LINES_MAX, lost, opened, received, said } from "../../src/chat/conversation.ts";
import type { Command, HistoryMessage, ServerEvent } from "../../src/chat/protocol.ts";

/** A conversation with all that was said to the server in it. */
class Talk {
  state: Conversation = opened("tea");
  commands: Command[] = [];
  nowMs = 0;

  hears(...events: ServerEvent[]): this {
    for (const event of events) {
      this.#step(received(this.state, event, this.nowMs));
    }
    return this;
  }

  says(id: string, text: string): this {
    this.#step(said(this.state, id, text, this.nowMs));
    return this;
  }

  loses(): this {
    this.state = lost(this.state);
    return this;
  }

  /** What was said to the server since this was last asked. */
  taken(): Command[] {
    return this.commands.splice(0);
  }

  lines(): string[] {
    return this.state.lines.map((line) => (line.kind === "note" ? `(${line.text})` : `${line.seq} ${line.text}`));
  }

  #step([state, commands]: [Conversation, Command[]]): void {
    this.state = state;
    this.commands.push(...commands);
  }
}

const welcome: ServerEvent = { type: "welcome", user: "ada", session: "s", heartbeat_ms: 25_000 };

function joined(epoch: number, seq: number, recovered = false): ServerEvent {
  return { type: "joined", room: "tea", epoch, seq, members: 1, recovered };
}

function content(seq: number, text = `m${seq}`, user = "bob"): HistoryMessage {
  return { user, content: text, seq, timestamp: 1000 * seq };
}

function message(seq: number, text?: string, user?: string): ServerEvent {
  return { type: "message", room: "tea", ...content(seq, text, user) };
}

function history(epoch: number, numbers: number[], complete = true): ServerEvent {
  const messages = numbers.map((seq) => content(seq));
  return { type: "history", room: "tea", epoch, seq: numbers.at(-1) ?? 0, complete, messages };
}

function joinedTalk(): Talk {
  const talk = new Talk().hears(welcome, joined(7, 2));
  talk.taken();
  return talk;
}

describe("a conversation", () => {
  it("begins with a join, history and presence", () => {
    const talk = new Talk().hears(welcome);
    expect(talk.taken()).toEqual([{ type: "join", room: "tea" }]);
    talk.hears(joined(7, 2));
    expect(talk.taken()).toEqual([
      { type: "history", room: "tea", limit: 50 },
      { type: "presence", room: "tea" },
    ]);
    talk.hears(message(3), history(7, [1, 2, 3]));
    expect(talk.lines()).toEqual(["1 m1", "2 m2", "3 m3"]);
  });

  it("recovers what was missed and says from where", () => {
    const talk = joinedTalk().hears(message(3)).loses().hears(welcome);
    expect(talk.taken()).toEqual([{ type: "join", room: "tea", since: { epoch: 7, seq: 3 } }]);
    talk.hears(joined(7, 5, true), message(4), message(5), message(6));
    expect(talk.lines()).toEqual(["3 m3", "(Back again. Nothing was missed.)", "4 m4", "5 m5", "6 m6"]);
    expect(talk.taken()).toEqual([{ type: "presence", room: "tea" }]);
    expect(talk.state.place).toEqual({ epoch: 7, seq: 6 });
  });

  it("asks for history where the server cannot recover", () => {
    const talk = joinedTalk().hears(message(3)).loses().hears(welcome, joined(7, 9));
    expect(talk.taken()).toContainEqual({ type: "history", room: "tea", since: { epoch: 7, seq: 3 }, limit: 50 });
    talk.hears(history(7, [8, 9], false), message(10));
    expect(talk.lines().slice(-3)).toEqual(["8 m8", "9 m9", "10 m10"]);
  });

  it("begins a new epoch after the server was started anew, and says again what nobody acknowledged", () => {
    const talk = joinedTalk().hears(message(3)).says("a-1", "lost?");
    expect(talk.taken()).toEqual([{ type: "message", room: "tea", content: "lost?", id: "a-1" }]);
    talk.loses().says("a-2", "meanwhile");
    expect(talk.taken()).toEqual([]);
    talk.hears(welcome, joined(8, 0));
    expect(talk.taken().filter(({ type }) => type === "message")).toEqual([
      { type: "message", room: "tea", content: "lost?", id: "a-1" },
      { type: "message", room: "tea", content: "meanwhile", id: "a-2" },
    ]);
    // Numbers of the old epoch are no longer ones to compare with.
    talk.hears(message(1, "lost?", "ada"), { type: "ack", id: "a-1", room: "tea", seq: 1 });
    expect(talk.lines().at(-1)).toBe("1 lost?");
    expect(talk.state.pending.map(({ id }) => id)).toEqual(["a-2"]);
  });

  it("shows a message once, however often it comes", () => {
    const talk = joinedTalk().hears(message(3), message(3), history(7, [2, 3]));
    expect(talk.lines()).toEqual(["2 m2", "3 m3"]);
  });

  it("tells how long an acknowledgement took, and shows one's own message once", () => {
    const talk = joinedTalk().says("a-1", "hello");
    talk.nowMs = 3;
    talk.hears(message(3, "hello", "ada"));
    expect(talk.state.pending).toMatchObject([{ id: "a-1", isDelivered: true }]);
    talk.hears({ type: "ack", id: "a-1", room: "tea", seq: 3 });
    expect(talk.state.pending).toEqual([]);
    expect(talk.state.lines).toMatchObject([{ seq: 3, ackMs: 3 }]);
  });

  it("says what is missing, by a gap that is told and by one that is not", () => {
    const talk = joinedTalk().hears({ type: "gap", room: "tea", from: 3, to: 5 }, message(6), message(8));
    expect(talk.lines()).toEqual(["(3 messages were left out.)", "6 m6", "(1 message was left out.)", "8 m8"]);
  });

  it("goes on in the new epoch after a reset", () => {
    const talk = joinedTalk().hears(message(3), { type: "reset", room: "tea", epoch: 9, seq: 0 }, message(1));
    expect(talk.state.place).toEqual({ epoch: 9, seq: 1 });
    expect(talk.lines().at(-1)).toBe("1 m1");
    expect(talk.taken()).toEqual([{ type: "presence", room: "tea" }]);
  });

  it("keeps a refused message with the reason, and does not say it again", () => {
    const talk = joinedTalk().says("a-1", "too much");
    talk.hears({ type: "error", code: "too_large", message: "the content is too large", id: "a-1", room: "tea" });
    expect(talk.state.pending).toMatchObject([{ problem: "the content is too large (too_large)" }]);
    talk.taken();
    talk.loses().hears(welcome, joined(7, 2, true));
    expect(talk.taken().filter(({ type }) => type === "message")).toEqual([]);
  });

  it("knows who is there", () => {
    const talk = joinedTalk().hears(
      { type: "presence", room: "tea", count: 2, users: ["ada", "bob"] },
      { type: "user_joined", room: "tea", user: "cy" },
      { type: "user_left", room: "tea", user: "bob" },
      { type: "user_left", room: "tea", user: "nobody" },
    );
    expect([talk.state.users, talk.state.count]).toEqual([["ada", "cy"], 2]);
    talk.hears({ type: "presence", room: "tea", count: 500 });
    expect(talk.state.count).toBe(500);
  });

  it("hears nothing of other rooms, and keeps a bounded number of lines", () => {
    const talk = joinedTalk().hears({ type: "message", room: "milk", ...content(3) });
    expect(talk.lines()).toEqual([]);
    for (let seq = 3; seq < LINES_MAX + 50; seq++) {
      talk.hears(message(seq));
    }
    expect(talk.state.lines).toHaveLength(LINES_MAX);
    expect(talk.lines().at(-1)).toBe(`${LINES_MAX + 49} m${LINES_MAX + 49}`);
  });
});
