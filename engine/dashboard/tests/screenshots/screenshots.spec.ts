// Pictures of the dashboard for its documentation: of a real engine under the load of the harness.

import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Page } from "@playwright/test";
import { binary } from "../fixtures/engine.ts";
import { expect, test } from "../fixtures/site.ts";

const DIRECTORY = fileURLToPath(new URL("../../screenshots/", import.meta.url));

/** Seconds of load before the pictures are taken: the charts show the last minute. */
const LOAD_S = 75;

/** What the harness does, and when it begins: so that the lines have a shape. */
const LOADS: [number, string[]][] = [
  [0, ["rooms", "--connections", "800", "--room-size", "100", "--rate", "2", "--payload", "256", "--ramp", "100"]],
  [20, ["mixed", "--connections", "600", "--room-size", "50", "--rate", "1", "--payload", "512", "--ramp", "25"]],
];

const PICTURES = [
  { name: "desktop-light", viewport: { width: 1280, height: 1200 }, colorScheme: "light", hash: "" },
  { name: "desktop-dark", viewport: { width: 1280, height: 1200 }, colorScheme: "dark", hash: "" },
  { name: "phone-light", viewport: { width: 375, height: 780 }, colorScheme: "light", hash: "" },
  { name: "phone-dark", viewport: { width: 375, height: 780 }, colorScheme: "dark", hash: "#/chat" },
] as const;

test.use({ deviceScaleFactor: 2 });

test("pictures", async ({ page, browser, engine }) => {
  test.setTimeout(300_000);
  const server = await engine();
  const loads: ChildProcess[] = [];
  const timers = LOADS.map(([after_s, args]) => {
    const common = ["--target", new URL(server.url).host, "--threads", "1", "--warmup", "0"];
    const duration = ["--duration", String(LOAD_S + 60 - after_s)];
    const start = () =>
      loads.push(spawn(binary("SHARDCAST_BENCH_BIN"), [...args, ...common, ...duration], { stdio: "ignore" }));
    return setTimeout(start, 1000 * after_s);
  });
  try {
    await page.goto(server.adminUrl);
    await page.waitForTimeout(1000 * LOAD_S);
    for (const { name, viewport, colorScheme, hash } of PICTURES) {
      const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: 2 });
      const shown = await context.newPage();
      await shown.goto(`${server.adminUrl}${hash}`);
      await (hash === "" ? overview(shown) : chat(shown));
      await shown.screenshot({ path: `${DIRECTORY}${name}.png` });
      await context.close();
    }
  } finally {
    timers.forEach(clearTimeout);
    for (const load of loads) {
      load.kill("SIGKILL");
    }
  }
});

async function overview(page: Page): Promise<void> {
  await page.getByRole("radio", { name: "1 min" }).check();
  await page.getByRole("radio", { name: "1 min" }).blur();
  // The busiest rooms are counted from the first look on.
  await expect(page.getByRole("row")).not.toHaveCount(0);
  await page.waitForTimeout(3000);
}

async function chat(page: Page): Promise<void> {
  await page.getByLabel("Room").fill("tea");
  await page.getByRole("button", { name: "Join" }).click();
  await expect(page.getByRole("status")).toHaveText("Connected as ada");
  const other = await page.context().newPage();
  await other.goto(page.url().replace(/#.*/, "#/chat?name=grace&room=tea"));
  const talk: [Page, string][] = [
    [page, "Is the kettle on?"],
    [other, "Since the last release. Two shards, one order."],
    [page, "And if I go through a tunnel?"],
    [other, "You come back to every message you missed, once each."],
  ];
  for (const [speaker, text] of talk) {
    await speaker.getByLabel("Message", { exact: true }).fill(text);
    await speaker.keyboard.press("Enter");
    await expect(page.getByRole("log")).toContainText(text);
  }
  await expect(page.getByRole("log")).toContainText("#4");
  await page.getByLabel("Message", { exact: true }).blur();
}
