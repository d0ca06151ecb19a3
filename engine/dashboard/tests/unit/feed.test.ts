// The feed, with a server and a document of the test's.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

type Answer = () => Promise<Response>;

const NOW = 1_790_000_000_000;
let answers: Answer[];
let asked: string[];
let stop: AbortController;

function ok(): Promise<Response> {
  const samples = { unix_ms: [], all: {}, shards: [] };
  return Promise.resolve(Response.json({ now_unix_ms: NOW, interval_ms: 1000, samples_max: 300, samples }));
}

const gone: Answer = () => Promise.reject(new TypeError("Failed to fetch"));

beforeEach(() => {
  vi.resetModules();
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "Date", "performance"] });
  vi.setSystemTime(NOW);
  answers = [];
  asked = [];
  const store = new Map<string, string>();
  vi.stubGlobal("sessionStorage", {
    getItem: (key: string) => store.get(key) ?? null,
    setItem: (key: string, value: string) => store.set(key, value),
    removeItem: (key: string) => store.delete(key),
  });
  vi.stubGlobal("document", Object.assign(new EventTarget(), { visibilityState: "visible" }));
  vi.stubGlobal("window", new EventTarget());
  vi.stubGlobal("fetch", (path: string) => {
    asked.push(path);
    return (answers.shift() ?? ok)();
  });
  stop = new AbortController();
});

afterEach(() => {
  stop.abort();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

async function started() {
  const feed = await import("../../src/activity/feed.ts");
  void feed.run(stop.signal);
  await vi.advanceTimersByTimeAsync(0);
  return feed;
}

describe("the feed", () => {
  it("asks once a second", async () => {
    const feed = await started();
    expect(feed.link.value).toEqual({ state: "live" });
    await vi.advanceTimersByTimeAsync(3000);
    expect(asked).toHaveLength(4);
  });

  it("waits for an answer before it asks again", async () => {
    answers = [() => new Promise(() => undefined)];
    await started();
    await vi.advanceTimersByTimeAsync(3000);
    expect(asked).toHaveLength(1);
  });

  it("says at once that the server is gone, since when, and tries less and less often", async () => {
    const feed = await started();
    answers = [gone, gone, gone, gone, gone];
    await vi.advanceTimersByTimeAsync(1000);
    expect(feed.link.value).toMatchObject({ state: "lost", sinceMs: NOW, retryAtMs: NOW + 1500 });
    await vi.advanceTimersByTimeAsync(500);
    expect(asked).toHaveLength(3);
    await vi.advanceTimersByTimeAsync(999);
    expect(asked).toHaveLength(3);
    await vi.advanceTimersByTimeAsync(1);
    expect(asked).toHaveLength(4);
    expect([1, 2, 3, 4, 5, 9].map(feed.retryDelayMs)).toEqual([500, 1000, 2000, 4000, 5000, 5000]);
  });

  it("is live again with the first answer, which can be asked for", async () => {
    answers = [gone, gone, gone];
    const feed = await started();
    await vi.advanceTimersByTimeAsync(1500);
    expect(feed.link.value.state).toBe("lost");
    feed.askNow();
    await vi.advanceTimersByTimeAsync(0);
    expect(feed.link.value.state).toBe("live");
  });

  it("says what the server answers in place of the activity", async () => {
    answers = [() => Promise.resolve(Response.json({ detail: "the shards are busy" }, { status: 503 }))];
    const feed = await started();
    expect(feed.link.value).toMatchObject({ state: "lost", sinceMs: null, detail: "It answers: the shards are busy." });
  });

  it("stops for a token, and goes on with one", async () => {
    const refused: Answer = () => Promise.resolve(new Response("", { status: 401 }));
    answers = [refused, refused];
    const feed = await started();
    const { setToken } = await import("../../src/activity/api.ts");
    expect(feed.link.value).toEqual({ state: "locked", refused: false });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(asked).toHaveLength(1);
    setToken("wrong");
    feed.askNow();
    await vi.advanceTimersByTimeAsync(0);
    expect(feed.link.value).toEqual({ state: "locked", refused: true });
    setToken("right");
    feed.askNow();
    await vi.advanceTimersByTimeAsync(0);
    expect(feed.link.value).toEqual({ state: "live" });
  });

  it("asks for nothing while nobody looks", async () => {
    await started();
    const page = document as unknown as EventTarget & { visibilityState: string };
    page.visibilityState = "hidden";
    await vi.advanceTimersByTimeAsync(10_000);
    expect(asked).toHaveLength(1);
    page.visibilityState = "visible";
    page.dispatchEvent(new Event("visibilitychange"));
    await vi.advanceTimersByTimeAsync(0);
    expect(asked).toHaveLength(2);
  });
});
