// A room: what was said, who is there, what one wants to say.

import { useEffect, useRef } from "preact/hooks";
import { minute } from "../format.ts";
import type { Conversation, Line, Pending } from "./conversation.ts";

const MESSAGE_LENGTH_MAX = 4000;
/** Names in the list; the count is whole. */
const PEOPLE_MAX = 200;
/** Whoever is this close to the end is taken along by new messages. */
const END_PX = 48;

interface MessagesProps {
  conversation: Conversation;
  user: string;
}

export function Messages({ conversation, user }: MessagesProps) {
  const list = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  const { lines, pending } = conversation;
  useEffect(() => {
    const element = list.current;
    if (element !== null && isAtEnd.current) {
      element.scrollTop = element.scrollHeight;
    }
  }, [lines, pending]);
  const waiting = pending.filter(({ isDelivered }) => !isDelivered);
  return (
    <div
      class="messages"
      role="log"
      aria-label={`Messages in ${conversation.room}`}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by the keyboard.
      tabIndex={0}
      ref={list}
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        isAtEnd.current = scrollHeight - scrollTop - clientHeight < END_PX;
      }}
    >
      {lines.length + waiting.length === 0 && <p class="empty">Nothing was said here yet.</p>}
      {lines.map((line, place) => (
        <Entry key={line.key} line={line} before={lines[place - 1]} user={user} />
      ))}
      {waiting.map((message) => (
        <Waiting key={message.id} message={message} />
      ))}
    </div>
  );
}

function Entry({ line, before, user }: { line: Line; before: Line | undefined; user: string }) {
  if (line.kind === "note") {
    return <p class="note">{line.text}</p>;
  }
  const isOwn = line.user === user;
  const follows = before?.kind === "message" && before.user === line.user;
  const ack = line.ackMs === undefined ? "" : `, acknowledged in ${line.ackMs.toFixed(1)}\u00a0ms`;
  return (
    <div class={`message ${isOwn ? "own" : ""} ${follows ? "follows" : ""}`}>
      <p class="who">
        {!follows && <b>{line.user}</b>}
        <span class="meta">
          {minute(line.timestamp)} · #{line.seq}
          {ack}
        </span>
      </p>
      <p class="said">{line.text}</p>
    </div>
  );
}

function Waiting({ message }: { message: Pending }) {
  return (
    <div class="message own waiting">
      <p class="who">
        <span class="meta">
          {message.problem === undefined ? "Waits for the server" : `Not sent: ${message.problem}`}
        </span>
      </p>
      <p class="said">{message.text}</p>
    </div>
  );
}

export function Composer({ isEnded, onSay }: { isEnded: boolean; onSay: (text: string) => void }) {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);

  function say(event: SubmitEvent) {
    event.preventDefault();
    const element = field.current;
    const text = element?.value.trim() ?? "";
    if (element === null || text === "") {
      return;
    }
    onSay(text);
    element.value = "";
  }

  return (
    <form class="composer" onSubmit={say}>
      <label class="visually-hidden" for="chat-message">
        Message
      </label>
      <input
        id="chat-message"
        ref={field}
        placeholder="Write a message"
        maxLength={MESSAGE_LENGTH_MAX}
        autocomplete="off"
        disabled={isEnded}
      />
      <button type="submit" class="primary" disabled={isEnded}>
        Send
      </button>
    </form>
  );
}

export function People({ conversation, user }: { conversation: Conversation; user: string }) {
  const { users, count } = conversation;
  const sorted = [...users].sort((one, other) => one.localeCompare(other)).slice(0, PEOPLE_MAX);
  const rest = (count ?? 0) - sorted.length;
  return (
    <section class="card people" aria-labelledby="people-title">
      <div class="card-head">
        <h2 id="people-title">People</h2>
        <span class="number">{count ?? "–"}</span>
      </div>
      <ul>
        {sorted.map((name) => (
          <li key={name}>
            {name}
            {name === user && <span class="meta"> you</span>}
          </li>
        ))}
      </ul>
      {rest > 0 && <p class="hint">{sorted.length === 0 ? `${rest} here` : `and ${rest} more`}</p>}
    </section>
  );
}
