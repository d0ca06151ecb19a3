// The socket of a chat: opened, watched, and opened again when it is lost.

import { type Signal, signal } from "@preact/signals";
import { type Conversation, lost, opened, received, type Step, said } from "./conversation.ts";
import { askedDelayMs, type Command, endpoint, type ServerEvent } from "./protocol.ts";

export type Status =
  | { state: "opening" }
  | { state: "open" }
  | { state: "waiting"; retryAtMs: number }
  /** The server does not want this client, or the client has left: nothing is tried again. */
  | { state: "ended"; detail: string };

export interface Whom {
  name: string;
  room: string;
  /** Names the user in place of `name`. */
  token: string | null;
}

/** What a session needs of its surroundings, so that tests can have others. */
export interface Surroundings {
  open: (url: string) => WebSocket;
  /** Where the server takes connections; it may be started again elsewhere. */
  nodeUrl: () => string;
  pageHost: string;
  random: () => number;
}

const RETRY_MS_FIRST = 300;
const RETRY_MS_MAX = 5000;
/** What an answer to a heartbeat may take, and a handshake. */
const ANSWER_MS_MAX = 5000;

/** Codes with which a server says that it does not want this client: unauthorized, forbidden, too many connections. */
const FINAL_CODES = new Set([4401, 4403, 4429]);

export class Session {
  readonly status: Signal<Status> = signal({ state: "opening" });
  readonly conversation: Signal<Conversation>;
  #socket: WebSocket | null = null;
  #failures = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #heartbeat: ReturnType<typeof setInterval> | undefined;
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #messages = 0;
  /** Ids of messages are unique to the session, so that a repeat is recognised and another's is not taken for one. */
  readonly #prefix: string;

  constructor(
    readonly whom: Whom,
    readonly surroundings: Surroundings,
  ) {
    this.conversation = signal(opened(whom.room));
    this.#prefix = Math.floor(surroundings.random() * 2 ** 48).toString(36);
    this.#open();
  }

  say(text: string): void {
    this.#messages += 1;
    this.#apply(said(this.conversation.value, `${this.#prefix}-${this.#messages}`, text, performance.now()));
  }

  /** Tries at once, in place of waiting any longer. */
  retryNow(): void {
    if (this.status.value.state === "waiting") {
      this.#open();
    }
  }

  leave(): void {
    this.#end("You have left.");
  }

  #open(): void {
    this.#forget();
    this.status.value = { state: "opening" };
    const { name, token } = this.whom;
    const { open, nodeUrl, pageHost } = this.surroundings;
    const socket = open(endpoint(nodeUrl(), pageHost, token === null ? name : null));
    this.#socket = socket;
    // A handshake that nobody answers: a browser waits for minutes.
    this.#deadline = setTimeout(() => this.#drop(socket), ANSWER_MS_MAX);
    socket.onopen = () => {
      if (token !== null) {
        this.#send([{ type: "auth", token }]);
      }
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(String(data)) as ServerEvent);
    socket.onclose = ({ code, reason }) => this.#closed(socket, code, reason);
  }

  #receive(event: ServerEvent): void {
    clearTimeout(this.#deadline);
    if (event.type === "welcome") {
      this.#failures = 0;
      this.#beat(event.heartbeat_ms);
    }
    this.#apply(received(this.conversation.value, event, performance.now()));
    if (event.type === "joined") {
      this.status.value = { state: "open" };
    }
  }

  /** Pings of the protocol are answered by the browser, which tells the page nothing of them. */
  #beat(intervalMs: number): void {
    const socket = this.#socket;
    this.#heartbeat = setInterval(() => {
      this.#send([{ type: "heartbeat" }]);
      clearTimeout(this.#deadline);
      this.#deadline = setTimeout(() => socket !== null && this.#drop(socket), ANSWER_MS_MAX);
    }, intervalMs);
  }

  #apply([conversation, commands]: Step): void {
    this.conversation.value = conversation;
    this.#send(commands);
  }

  #send(commands: Command[]): void {
    for (const command of commands) {
      if (this.#socket?.readyState === 1) {
        this.#socket.send(JSON.stringify(command));
      }
    }
  }

  /** Gives up a socket on which nothing is heard, without waiting for its close handshake. */
  #drop(socket: WebSocket): void {
    this.#closed(socket, 1006, "");
  }

  #closed(socket: WebSocket, code: number, reason: string): void {
    if (socket !== this.#socket) {
      return;
    }
    if (FINAL_CODES.has(code)) {
      this.#end(`The server has closed the connection: ${reason || `code ${code}`}.`);
      return;
    }
    this.#forget();
    this.#failures += 1;
    const backoffMs = Math.min(RETRY_MS_FIRST * 2 ** (this.#failures - 1), RETRY_MS_MAX);
    // Spread, so that many pages do not all come back at once.
    const delayMs = (askedDelayMs(reason) ?? 0) + backoffMs * (0.75 + 0.5 * this.surroundings.random());
    this.conversation.value = lost(this.conversation.value);
    this.status.value = { state: "waiting", retryAtMs: Date.now() + delayMs };
    this.#retry = setTimeout(() => this.#open(), delayMs);
  }

  #end(detail: string): void {
    this.#forget();
    this.conversation.value = lost(this.conversation.value);
    this.status.value = { state: "ended", detail };
  }

  #forget(): void {
    clearTimeout(this.#retry);
    clearTimeout(this.#deadline);
    clearInterval(this.#heartbeat);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }
}
