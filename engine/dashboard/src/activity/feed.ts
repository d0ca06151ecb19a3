// Asks the server for its activity once a second, one request at a time, for as long as somebody looks.

import { signal } from "@preact/signals";
import { Problem, request, token, Unauthorized } from "./api.ts";
import type { Activity } from "./contract.ts";
import { Samples } from "./samples.ts";

/** How the page stands to the server. */
export type Link =
  | { state: "connecting" }
  | { state: "live" }
  /** It does not answer, or not what it should: what is shown is from `sinceMs`. */
  | { state: "lost"; sinceMs: number | null; detail: string; retryAtMs: number }
  /** It wants a token; `refused` where the one that was brought is wrong. */
  | { state: "locked"; refused: boolean };

/** What the server may take to answer. */
const ANSWER_MS_MAX = 4000;
const RETRY_MS_FIRST = 500;
const RETRY_MS_MAX = 5000;

/** How long to wait after so many failures in a row. */
export function retryDelayMs(failures: number): number {
  return Math.min(RETRY_MS_FIRST * 2 ** Math.max(0, failures - 1), RETRY_MS_MAX);
}

export const link = signal<Link>({ state: "connecting" });
/** The newest answer. */
export const activity = signal<Activity | null>(null);
/** All samples. They change in place: `revision` counts the changes. */
export const samples = new Samples();
export const revision = signal(0);

let failures = 0;
let lastAnswerMs: number | null = null;
let wake: (() => void) | null = null;

/** Asks at once, in place of waiting any longer. */
export function askNow(): void {
  wake?.();
}

/** Runs until the signal says otherwise. */
export async function run(stop: AbortSignal): Promise<void> {
  // Whoever comes back to the tab, or to the network, wants to see how it is now.
  const onVisible = () => document.visibilityState === "visible" && askNow();
  document.addEventListener("visibilitychange", onVisible, { signal: stop });
  window.addEventListener("online", askNow, { signal: stop });
  stop.addEventListener("abort", askNow);
  while (!stop.aborted) {
    const begunMs = performance.now();
    if (document.visibilityState === "visible") {
      await ask();
    }
    await pause(delayMs(performance.now() - begunMs));
  }
}

function delayMs(tookMs: number): number | null {
  if (document.visibilityState !== "visible" || link.value.state === "locked") {
    return null;
  }
  if (link.value.state === "lost") {
    return Math.max(0, link.value.retryAtMs - Date.now());
  }
  const intervalMs = activity.value?.interval_ms ?? 1000;
  return Math.max(100, intervalMs - tookMs);
}

async function ask(): Promise<void> {
  const newest = samples.newestUnixMs();
  const path = newest === null ? "v1/activity" : `v1/activity?after=${newest}`;
  try {
    const answer = await request<Activity>(path, { signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    failures = 0;
    lastAnswerMs = Date.now();
    samples.merge(answer);
    activity.value = answer;
    revision.value += 1;
    link.value = { state: "live" };
  } catch (error) {
    failed(error);
  }
}

function failed(error: unknown): void {
  if (error instanceof Unauthorized) {
    link.value = { state: "locked", refused: token() !== null };
    return;
  }
  failures += 1;
  const detail = detailOf(error);
  link.value = { state: "lost", sinceMs: lastAnswerMs, detail, retryAtMs: Date.now() + retryDelayMs(failures) };
}

function detailOf(error: unknown): string {
  if (error instanceof Problem) {
    return `It answers: ${error.message}.`;
  }
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return `It has not answered within ${ANSWER_MS_MAX / 1000} s.`;
  }
  return "Nothing answers at this address.";
}

/** Waits, for ever where it is not said how long, or until somebody asks. */
function pause(ms: number | null): Promise<void> {
  return new Promise((resolve) => {
    const timer = ms === null ? undefined : setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      wake = null;
      resolve();
    }
    wake = done;
  });
}
