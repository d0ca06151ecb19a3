// What is known of a room, and what each event makes of it. No socket and no clock: `session.ts` has those.

import { type Command, contentText, type HistoryMessage, type Place, type ServerEvent } from "./protocol.ts";

export const LINES_MAX = 500;
export const PENDING_MAX = 100;
const HISTORY_MESSAGES_MAX = 50;

export type Line =
  | {
      kind: "message";
      key: string;
      epoch: number;
      seq: number;
      user: string;
      text: string;
      timestamp: number;
      /** How long the acknowledgement of one's own message took. */
      ackMs?: number;
    }
  | { kind: "note"; key: string; text: string };

/** A message of one's own without an acknowledgement. It is sent again after a reconnect, under the same id. */
export interface Pending {
  id: string;
  text: string;
  sentMs: number;
  /** It has come back as a delivery. */
  isDelivered: boolean;
  problem?: string;
}

export interface Conversation {
  room: string;
  /** Oneself, as the server has it. */
  user: string | null;
  isJoined: boolean;
  place: Place | null;
  lines: Line[];
  pending: Pending[];
  users: string[];
  /** How many users are in the room; null where the server does not tell. */
  count: number | null;
  /** Makes the keys of notes. */
  notes: number;
}

export type Step = [Conversation, Command[]];

export function opened(room: string): Conversation {
  return {
    room,
    user: null,
    isJoined: false,
    place: null,
    lines: [],
    pending: [],
    users: [],
    count: null,
    notes: 0,
  };
}

/** The connection is gone. What was not acknowledged waits. */
export function lost(state: Conversation): Conversation {
  return { ...state, isJoined: false, users: [], count: null };
}

/** Something to be said. It is sent at once where one is in the room, and after the next join otherwise. */
export function said(state: Conversation, id: string, text: string, nowMs: number): Step {
  const pending: Pending = { id, text, sentMs: nowMs, isDelivered: false };
  const next = { ...state, pending: [...state.pending, pending].slice(-PENDING_MAX) };
  return [next, state.isJoined ? [publish(state.room, pending)] : []];
}

function publish(room: string, { id, text }: Pending): Command {
  return { type: "message", room, content: text, id };
}

/** What an event of the server makes of it, and what is to be said to the server. */
export function received(state: Conversation, event: ServerEvent, nowMs: number): Step {
  if ("room" in event && event.room !== undefined && event.room !== state.room) {
    return [state, []];
  }
  switch (event.type) {
    case "welcome": {
      const since = state.place === null ? {} : { since: state.place };
      return [{ ...state, user: event.user }, [{ type: "join", room: state.room, ...since }]];
    }
    case "joined":
      return joined(state, event, nowMs);
    case "left":
      return [
        noted(
          { ...state, isJoined: false },
          `You are no longer in the room${event.reason ? `: ${event.reason}` : ""}.`,
        ),
        [],
      ];
    case "message":
      return [delivered(state, event), []];
    case "history":
      return [recalled(state, event.epoch, event.messages, event.complete), []];
    case "reset": {
      const place = { epoch: event.epoch, seq: event.seq };
      const next = noted(
        { ...state, place },
        "The shard of this room was started again. What was under way may be lost.",
      );
      return [next, [{ type: "presence", room: state.room }]];
    }
    case "gap": {
      const place = state.place === null ? null : { ...state.place, seq: Math.max(state.place.seq, event.to) };
      return [noted({ ...state, place }, leftOut(event.to - event.from + 1)), []];
    }
    case "ack":
      return [acknowledged(state, event.id, event.seq, nowMs), []];
    case "error":
      return [refused(state, event.id, `${event.message} (${event.code})`), []];
    case "presence":
      return [{ ...state, count: event.count, users: event.users ?? (event.count === 0 ? [] : state.users) }, []];
    case "user_joined": {
      const users = [...state.users.filter((user) => user !== event.user), event.user];
      return [{ ...state, users, count: Math.max(users.length, state.count ?? 0) }, []];
    }
    case "user_left": {
      const users = state.users.filter((user) => user !== event.user);
      const isNews = users.length < state.users.length;
      return [{ ...state, users, count: state.count === null ? null : state.count - (isNews ? 1 : 0) }, []];
    }
    default:
      return [state, []];
  }
}

type Joined = Extract<ServerEvent, { type: "joined" }>;

function joined(state: Conversation, event: Joined, nowMs: number): Step {
  const before = state.place;
  const now = { epoch: event.epoch, seq: event.seq };
  const room = state.room;
  let next: Conversation = { ...state, isJoined: true, count: event.members ?? null };
  const commands: Command[] = [];
  if (before === null) {
    next.place = now;
    commands.push({ type: "history", room, limit: HISTORY_MESSAGES_MAX });
  } else if (event.recovered) {
    // Everything after `before` follows, as deliveries.
    next = noted(next, "Back again. Nothing was missed.");
  } else if (before.epoch === event.epoch) {
    next.place = now;
    next = noted(next, "Back again. Not everything that was missed is remembered.");
    commands.push({ type: "history", room, since: before, limit: HISTORY_MESSAGES_MAX });
  } else {
    next.place = now;
    next = noted(next, "Back again. The server was started anew, and numbers its messages from 1 again.");
    commands.push({ type: "history", room, limit: HISTORY_MESSAGES_MAX });
  }
  if (event.members !== undefined) {
    commands.push({ type: "presence", room });
  }
  next.pending = next.pending.map((pending) => ({ ...pending, sentMs: nowMs }));
  commands.push(
    ...next.pending.filter(({ problem }) => problem === undefined).map((pending) => publish(room, pending)),
  );
  return [next, commands];
}

function delivered(state: Conversation, message: HistoryMessage): Conversation {
  const place = state.place;
  if (place === null) {
    return state;
  }
  let next = state;
  if (message.seq > place.seq + 1) {
    next = noted(next, leftOut(message.seq - place.seq - 1));
  }
  next = { ...next, place: { ...place, seq: Math.max(place.seq, message.seq) } };
  next = inserted(next, [lineOf(place.epoch, message)]);
  if (message.user !== state.user) {
    return next;
  }
  const own = next.pending.findIndex(({ text, isDelivered }) => !isDelivered && text === message.content);
  const pending = next.pending.map((one, place) => (place === own ? { ...one, isDelivered: true } : one));
  return { ...next, pending };
}

function recalled(state: Conversation, epoch: number, messages: HistoryMessage[], complete: boolean): Conversation {
  if (state.place === null || state.place.epoch !== epoch) {
    return state;
  }
  const lines = messages.map((message) => lineOf(epoch, message));
  const first = state.lines.length === 0 && !complete && lines.length > 0;
  return inserted(first ? noted(state, "What was said before is not shown.") : state, lines);
}

function acknowledged(state: Conversation, id: string, seq: number, nowMs: number): Conversation {
  const pending = state.pending.find((pending) => pending.id === id);
  if (pending === undefined) {
    return state;
  }
  const ackMs = nowMs - pending.sentMs;
  const epoch = state.place?.epoch;
  const lines = state.lines.map((line) =>
    line.kind === "message" && line.epoch === epoch && line.seq === seq ? { ...line, ackMs } : line,
  );
  return { ...state, lines, pending: state.pending.filter((pending) => pending.id !== id) };
}

function refused(state: Conversation, id: string | undefined, problem: string): Conversation {
  if (id === undefined || !state.pending.some((pending) => pending.id === id)) {
    return noted(state, problem);
  }
  const pending = state.pending.map((pending) => (pending.id === id ? { ...pending, problem } : pending));
  return { ...state, pending };
}

function lineOf(epoch: number, { user, content, seq, timestamp }: HistoryMessage): Line {
  return { kind: "message", key: `${epoch}-${seq}`, epoch, seq, user, text: contentText(content), timestamp };
}

/** Puts messages where their numbers want them, each once. They come in order, but history may come after what is newer. */
function inserted(state: Conversation, messages: Line[]): Conversation {
  const lines = [...state.lines];
  const keys = new Set(lines.map((line) => line.key));
  for (const message of messages) {
    if (message.kind !== "message" || keys.has(message.key)) {
      continue;
    }
    keys.add(message.key);
    const after = lines.findIndex(
      (line) => line.kind === "message" && line.epoch === message.epoch && line.seq > message.seq,
    );
    lines.splice(after < 0 ? lines.length : after, 0, message);
  }
  return { ...state, lines: lines.slice(-LINES_MAX) };
}

function noted(state: Conversation, text: string): Conversation {
  const note: Line = { kind: "note", key: `note-${state.notes}`, text };
  return { ...state, lines: [...state.lines, note].slice(-LINES_MAX), notes: state.notes + 1 };
}

function leftOut(messages: number): string {
  return messages === 1 ? "1 message was left out." : `${messages} messages were left out.`;
}
