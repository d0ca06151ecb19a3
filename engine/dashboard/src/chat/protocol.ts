// The client protocol, version 1, as far as the chat speaks it.

export interface Place {
  epoch: number;
  seq: number;
}

export interface HistoryMessage {
  user: string;
  content: unknown;
  seq: number;
  timestamp: number;
}

/** What the server says. */
export type ServerEvent =
  | { type: "welcome"; user: string; session: string; heartbeat_ms: number }
  | { type: "joined"; room: string; epoch: number; seq: number; members?: number; recovered: boolean }
  | { type: "left"; room: string; reason?: string }
  | { type: "user_joined" | "user_left"; room: string; user: string }
  | ({ type: "message"; room: string } & HistoryMessage)
  | { type: "ack"; id: string; room?: string; to?: string; seq: number; duplicate?: boolean }
  | { type: "presence"; room: string; count: number; users?: string[] }
  | { type: "history"; room: string; epoch: number; seq: number; complete: boolean; messages: HistoryMessage[] }
  | { type: "reset"; room: string; epoch: number; seq: number }
  | { type: "gap"; room: string; from: number; to: number }
  | { type: "error"; code: string; message: string; id?: string; room?: string }
  | { type: "authenticated"; expires?: number }
  | { type: "heartbeat" };

/** What the chat says. */
export type Command =
  | { type: "join"; room: string; since?: Place }
  | { type: "leave"; room: string }
  | { type: "message"; room: string; content: string; id: string }
  | { type: "presence"; room: string }
  | { type: "history"; room: string; limit?: number; since?: Place }
  | { type: "auth"; token: string }
  | { type: "heartbeat" };

/**
 * Where to connect: what the server says, with the page's host where the server listens on every address.
 * A token names the user; without one the address does.
 */
export function endpoint(nodeUrl: string, pageHost: string, user: string | null): string {
  const url = new URL(nodeUrl);
  if (url.hostname === "0.0.0.0" || url.hostname === "[::]") {
    url.hostname = pageHost;
  }
  if (user !== null) {
    url.searchParams.set("user", user);
  }
  return url.href;
}

/** Milliseconds to wait that a closing server asks for in its reason. */
export function askedDelayMs(reason: string): number | null {
  const found = /reconnect in (\d+) ms/.exec(reason);
  return found === null ? null : Number(found[1]);
}

const CONTENT_LENGTH_MAX = 2000;

/** Any content as text: a string as it is, another value as its JSON. */
export function contentText(content: unknown): string {
  const text = typeof content === "string" ? content : JSON.stringify(content);
  return text.length > CONTENT_LENGTH_MAX ? `${text.slice(0, CONTENT_LENGTH_MAX)}…` : text;
}
