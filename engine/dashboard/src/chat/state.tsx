// How the chat's connection stands.

import type { Session } from "./session.ts";

export function ConnectionState({ session }: { session: Session }) {
  const status = session.status.value;
  const user = session.conversation.value.user ?? session.whom.name;
  return (
    <div class="connection">
      <p role="status">
        {status.state === "open" && <span class="badge good">Connected as {user}</span>}
        {status.state === "opening" && <span class="badge">Connecting</span>}
        {status.state === "waiting" && (
          <span class="badge warn">
            {session.conversation.value.place === null
              ? "No connection yet, trying again"
              : "Connection lost, coming back"}
          </span>
        )}
        {status.state === "ended" && <span class="badge bad">{status.detail}</span>}
      </p>
      {status.state === "waiting" && (
        <button type="button" class="quiet" onClick={() => session.retryNow()}>
          Try now
        </button>
      )}
    </div>
  );
}
