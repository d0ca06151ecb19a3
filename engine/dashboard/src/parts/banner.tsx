// What is said where the server does not answer.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { askNow, link } from "../activity/feed.ts";
import { clock } from "../format.ts";

export function Banner() {
  const state = link.value;
  if (state.state !== "lost") {
    return null;
  }
  return (
    <section class="banner" aria-label="State of the engine">
      <p role="alert">
        <strong>The engine does not answer.</strong> {state.detail}{" "}
        {state.sinceMs === null ? "" : `What is shown is from ${clock(state.sinceMs)}.`}
      </p>
      <Countdown untilMs={state.retryAtMs} />
      <button type="button" onClick={askNow}>
        Try now
      </button>
    </section>
  );
}

/** Outside of the alert, which would be read out again every second. */
function Countdown({ untilMs }: { untilMs: number }) {
  const nowMs = useSignal(Date.now());
  useEffect(() => {
    nowMs.value = Date.now();
    const timer = setInterval(() => {
      nowMs.value = Date.now();
    }, 500);
    return () => clearInterval(timer);
  }, [untilMs]);
  const seconds = Math.max(1, Math.ceil((untilMs - nowMs.value) / 1000));
  return <p class="countdown">{`Trying again in ${seconds}\u00a0s`}</p>;
}
