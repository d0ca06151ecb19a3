// The question for the token of the admin API.

import { useEffect, useRef } from "preact/hooks";
import { forgetToken, setToken } from "../activity/api.ts";
import { askNow } from "../activity/feed.ts";

export function Gate({ refused }: { refused: boolean }) {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);

  function bring(event: SubmitEvent) {
    event.preventDefault();
    const value = field.current?.value.trim() ?? "";
    if (value === "") {
      forgetToken();
    } else {
      setToken(value);
    }
    askNow();
  }

  return (
    <section class="gate card" aria-labelledby="gate-title">
      <h1 id="gate-title" tabIndex={-1}>
        A token, please
      </h1>
      <p>
        This server answers only to whoever brings the token of its admin API: the content of the file that its setting{" "}
        <code>admin_token</code> names. It is kept in this tab alone, until it is closed.
      </p>
      <form onSubmit={bring}>
        <label for="token">Token</label>
        <input
          id="token"
          ref={field}
          type="password"
          autocomplete="off"
          spellcheck={false}
          aria-invalid={refused}
          aria-describedby="token-refused"
          required
        />
        <p id="token-refused" class="problem" role="alert">
          {refused ? "The server does not accept this token." : ""}
        </p>
        <button type="submit" class="primary">
          Continue
        </button>
      </form>
    </section>
  );
}
