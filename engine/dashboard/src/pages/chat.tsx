// Try the server: a room in this window, and the same in another.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { activity } from "../activity/feed.ts";
import { Composer, Messages, People } from "../chat/room.tsx";
import { Session } from "../chat/session.ts";
import { ConnectionState } from "../chat/state.tsx";
import { type Answers, askWhoMayConnect, type WhoMayConnect } from "../chat/who.ts";
import { href, replace, route } from "../route.ts";

const NAMES = ["ada", "grace", "edsger", "barbara", "alan", "hedy"];
const NAME_LENGTH_MAX = 255;

/** The chat goes on while another page is looked at. */
const session = signal<Session | null>(null);
const whoMayConnect = signal<WhoMayConnect>({ who: "unknown", origins: [] });
/** The name that was given last, to begin with. */
const lastName = signal<string | null>(null);

export function ChatPage() {
  const isReady = activity.value !== null;
  useEffect(() => {
    if (isReady && whoMayConnect.value.who === "unknown") {
      void askWhoMayConnect().then((who) => {
        whoMayConnect.value = who;
      });
    }
  }, [isReady]);

  const current = session.value;
  return (
    <>
      <div class="page-head">
        <div>
          <h1 tabIndex={-1}>Chat</h1>
          <p class="lead">
            A room over the WebSocket protocol, as any client has it. Open it twice to talk to yourself.
          </p>
        </div>
        {current !== null && <ConnectionState session={current} />}
      </div>
      {current === null ? <Entrance isReady={isReady} /> : <Room session={current} />}
    </>
  );
}

function start(answers: Answers): void {
  lastName.value = answers.name || null;
  session.value = new Session(answers, {
    open: (url) => new WebSocket(url),
    nodeUrl: () => {
      const node = activity.value?.node;
      return node?.url ?? `ws://${node?.listen ?? location.host}/ws`;
    },
    pageHost: location.hostname,
    random: Math.random,
  });
}

function leave(current: Session): void {
  current.leave();
  // An address with a name in it would lead back into the room at once.
  replace(href("chat", "", { room: current.whom.room }));
  session.value = null;
}

function Entrance({ isReady }: { isReady: boolean }) {
  const form = useRef<HTMLFormElement>(null);
  const { query } = route.value;
  const room = query.get("room") ?? "lobby";
  const name = query.get("name");
  const { who, origins } = whoMayConnect.value;

  // A link that says both is one of the chat's own, for a second window.
  useEffect(() => {
    if (isReady && name !== null && query.has("room") && who === "anybody") {
      start({ name, room, token: null });
    }
  }, [isReady, who]);

  function enter(event: SubmitEvent) {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    const field = (key: string) =>
      String(data.get(key) ?? "")
        .trim()
        .normalize("NFC");
    start({ name: field("name"), room: field("room"), token: field("token") || null });
  }

  const isTokenShown = who === "bearers" || who === "bearers-and-guests";
  return (
    <form class="card entrance" ref={form} onSubmit={enter}>
      {who !== "bearers" && (
        <div class="field">
          <label for="chat-name">Your name</label>
          <input
            id="chat-name"
            name="name"
            defaultValue={name ?? lastName.value ?? NAMES[0]}
            maxLength={NAME_LENGTH_MAX}
            autocomplete="off"
            spellcheck={false}
            required
          />
        </div>
      )}
      <div class="field">
        <label for="chat-room">Room</label>
        <input
          id="chat-room"
          name="room"
          defaultValue={room}
          maxLength={NAME_LENGTH_MAX}
          autocomplete="off"
          spellcheck={false}
          required
        />
      </div>
      {isTokenShown && (
        <div class="field wide">
          <label for="chat-token">Token{who === "bearers" ? "" : ", if you have one"}</label>
          <input
            id="chat-token"
            name="token"
            type="password"
            autocomplete="off"
            spellcheck={false}
            required={who === "bearers"}
            aria-describedby="chat-token-hint"
          />
          <p id="chat-token-hint" class="hint">
            This server takes JSON Web Tokens: the token says who you are. It is not kept.
          </p>
        </div>
      )}
      <button type="submit" class="primary" disabled={!isReady}>
        Join
      </button>
      {origins.length > 0 && !origins.includes(location.origin) && (
        <p class="problem wide">
          The server takes connections from pages of {origins.join(", ")} alone, and this page is of {location.origin}:
          add it to <code>origins</code>, or the chat will not get in.
        </p>
      )}
    </form>
  );
}

function Room({ session: current }: { session: Session }) {
  const conversation = current.conversation.value;
  const status = current.status.value;
  const user = conversation.user ?? current.whom.name;
  const other = NAMES.find((name) => name !== user && !conversation.users.includes(name)) ?? "guest";
  return (
    <div class="chat">
      <section class="card room" aria-labelledby="room-title">
        <div class="card-head">
          <h2 id="room-title">{conversation.room}</h2>
          <div class="buttons">
            <a
              href={href("chat", "", { name: other, room: conversation.room })}
              target="_blank"
              rel="noopener"
              aria-label={`Open a second window as ${other}`}
            >
              Open a second window
            </a>
            <button type="button" class="quiet" onClick={() => leave(current)}>
              Leave
            </button>
          </div>
        </div>
        <Messages conversation={conversation} user={user} />
        <Composer isEnded={status.state === "ended"} onSay={(text) => current.say(text)} />
      </section>
      <People conversation={conversation} user={user} />
    </div>
  );
}
