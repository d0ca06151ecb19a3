// The dashboard of an engine with 1,000 connections and with 100,000: it must not show them later, or work harder for them.

import { spawn } from "node:child_process";
import type { CDPSession, Page } from "@playwright/test";
import { binary } from "../fixtures/engine.ts";
import { expect, test } from "../fixtures/site.ts";

const FEW = 1_000;
const MANY = 100_000;

/** How long each is looked at, in milliseconds. */
const LOOK_MS = 20_000;

/** Connections of the harness's probe rooms, which are busy all the time. */
const PROBES = 1_000;

/** A page that works for longer than this at a time feels slow (web.dev, "Optimize long tasks"). */
const LONG_TASK_MS = 50;

interface Seen {
  connections: number;
  /** Answers of the engine that were shown. */
  updates: number;
  /** Milliseconds that the engine took to answer, the median and the longest. */
  answerMs: [number, number];
  /** The share of the time that the page's thread worked. */
  busy: number;
  longTasks: number;
}

test("it is as quick beside 100,000 connections as beside 1,000", async ({ page, engine }) => {
  test.setTimeout(600_000);
  const server = await engine(["--shards", "8", "--messages-per-second-max", "0"]);
  const load = ["--connections", MANY, "--first", FEW, "--steps", 1, "--duration", 40, "--hold", 60, "--threads", 8];
  const args = ["density", "--target", new URL(server.url).host, ...load.map(String), "--quiet"];
  const harness = spawn(binary("SHARDCAST_BENCH_BIN"), args, { stdio: "ignore" });
  try {
    await page.goto(server.adminUrl);
    const session = await page.context().newCDPSession(page);
    await session.send("Performance.enable");
    await connections(page, FEW + PROBES);
    const few = await look(page, session);
    await connections(page, MANY + PROBES);
    const many = await look(page, session);
    console.log(`${JSON.stringify(few)}\n${JSON.stringify(many)}`);
    for (const seen of [few, many]) {
      expect(seen.updates).toBeGreaterThan((0.8 * LOOK_MS) / 1000);
      expect(seen.longTasks).toBe(0);
    }
    expect(many.busy).toBeLessThan(1.5 * few.busy);
  } finally {
    harness.kill("SIGKILL");
  }
});

/** Waits until the page shows so many. */
async function connections(page: Page, count: number): Promise<void> {
  await expect(async () => expect(await shown(page)).toBeGreaterThanOrEqual(count)).toPass({ timeout: 300_000 });
}

async function shown(page: Page): Promise<number> {
  const activity = await page.request.get(new URL("v1/activity", page.url()).href);
  const { connections } = (await activity.json()).node as { connections: number };
  // The page has the same number, give or take a second's worth.
  await expect(page.getByText(new Intl.NumberFormat("en").format(connections), { exact: true }).first()).toBeVisible();
  return connections;
}

async function look(page: Page, session: CDPSession): Promise<Seen> {
  const before = await taskSeconds(session);
  const seen = await page.evaluate(
    async ([lookMs, longTaskMs]) => {
      let longTasks = 0;
      const tasks = new PerformanceObserver((list) => {
        longTasks += list.getEntries().filter((entry) => entry.duration > longTaskMs).length;
      });
      tasks.observe({ type: "longtask" });
      performance.clearResourceTimings();
      await new Promise((resolve) => setTimeout(resolve, lookMs));
      tasks.disconnect();
      const answers = performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/v1/activity"));
      const times = answers.map((entry) => entry.duration).sort((one, other) => one - other);
      return { longTasks, times };
    },
    [LOOK_MS, LONG_TASK_MS] as const,
  );
  const busy = (await taskSeconds(session)) - before;
  return {
    connections: await shown(page),
    updates: seen.times.length,
    answerMs: [seen.times[seen.times.length >> 1] ?? Number.NaN, seen.times.at(-1) ?? Number.NaN],
    busy: busy / (LOOK_MS / 1000),
    longTasks: seen.longTasks,
  };
}

/** Seconds that the page's thread has worked. */
async function taskSeconds(session: CDPSession): Promise<number> {
  const { metrics } = await session.send("Performance.getMetrics");
  return metrics.find(({ name }) => name === "TaskDuration")?.value ?? Number.NaN;
}
