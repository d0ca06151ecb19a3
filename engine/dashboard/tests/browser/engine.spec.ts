// The page against a real engine.

import { mkdir, writeFile } from "node:fs/promises";
import { expect, OUTAGE, test } from "../fixtures/site.ts";

test("what is said in a room is seen on all pages", async ({ page, context, engine, watch }) => {
  const server = await engine();
  const chat = await context.newPage();
  watch(chat);
  await chat.goto(`${server.adminUrl}#/chat?name=ada&room=tea`);
  await expect(chat.getByRole("status")).toHaveText("Connected as ada");
  await page.goto(server.adminUrl);
  await expect(page.getByText("Serving", { exact: true })).toBeVisible();
  const value = (label: string) => page.locator(".tile", { hasText: label }).locator(".tile-value");
  await expect(value("Connections")).toHaveText("1");
  // A few seconds of talk, so that a sample and a look at the rooms fall into it.
  const talk = setInterval(() => {
    void fetch(`${server.adminUrl}v1/rooms/tea/messages`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: '{"content":"steep"}',
    }).catch(() => undefined);
  }, 50);
  try {
    await expect(value("Deliveries")).toHaveText(/^([1-9]|\d{2,})/);
    await expect(value("Latency p99")).toHaveText(/^[\d.,]+$/);
    await expect(page.getByRole("img", { name: /^Chart of delivery latency\. p50: now \d/ })).toBeVisible();
    await expect(page.getByRole("link", { name: "tea" })).toBeVisible();
    await page.getByRole("link", { name: "Shards", exact: true }).click();
    await expect(page.getByText("All answer")).toBeVisible();
    await expect(page.getByRole("radio", { name: /^Shard 1 / })).toBeVisible();
    await page.getByRole("link", { name: "Rooms", exact: true }).click();
    await expect(page.getByRole("row", { name: /tea/ })).toBeVisible();
    await expect(page.getByText("Nobody is slow")).toBeVisible();
  } finally {
    clearInterval(talk);
  }
});

test("an engine that was started again goes on in the same charts, with a gap", async ({ page, engine, expected }) => {
  expected.push(...OUTAGE);
  const first = await engine();
  await page.goto(first.adminUrl);
  await page.getByText("The last seconds as a table").click();
  const rows = page.getByRole("table").last().getByRole("row");
  await expect.poll(() => rows.count()).toBeGreaterThanOrEqual(4);
  const oldest = await rows.last().textContent();
  await first.kill();
  await expect(page.getByRole("alert")).toContainText("The engine does not answer.", { timeout: 3000 });
  await engine([], first);
  await expect(page.getByRole("alert")).toBeHidden();
  await expect(page.locator("main")).not.toHaveAttribute("data-stale", "");
  const before = await rows.count();
  await expect.poll(() => rows.count()).toBeGreaterThan(before);
  // What is from before the crash is still there.
  expect(await rows.last().textContent()).toBe(oldest);
});

test("the token of a real engine opens it", async ({ page, engine, expected }, info) => {
  expected.push(/status of 401/);
  await mkdir(info.outputDir, { recursive: true });
  const path = info.outputPath("token");
  await writeFile(path, "a-token-of-many-bytes\n", { mode: 0o600 });
  const server = await engine(["--admin-token", path]);
  await page.goto(server.adminUrl);
  await page.getByLabel("Token", { exact: true }).fill("a-token-of-many-bytes");
  await page.keyboard.press("Enter");
  await expect(page.getByText("Serving", { exact: true })).toBeVisible();
});
