import { expect, test } from "../fixtures/site.ts";

test("live data appears, moves, and is told in words", async ({ page, mock }) => {
  const site = await mock();
  await page.goto(site.url);
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("Overview");
  await expect(page.getByText("Serving", { exact: true })).toBeVisible();
  const tile = page.locator(".tile", { hasText: "Deliveries" });
  await expect(tile.locator(".tile-value")).toHaveText(/^\d+,\d{3}$/);
  const latency = page.getByRole("img", { name: /^Chart of delivery latency\. p50: now .+ p99: now .+ p99\.9: now / });
  await expect(latency).toBeVisible();
  const words = await latency.getAttribute("aria-label");
  await expect(latency).not.toHaveAttribute("aria-label", words ?? "");
  await expect(page.getByRole("link", { name: "ticker.eur-usd" })).toBeVisible();
  await page.getByText("The last seconds as a table").click();
  await expect(page.getByRole("table").last().getByRole("row")).toHaveCount(11);
});

test("charts of one shard are chosen", async ({ page, mock }) => {
  const site = await mock({ shards: 3 });
  await page.goto(site.url);
  const connections = page.getByRole("img", { name: /^Chart of connections\./ });
  await expect(connections).toHaveAttribute("aria-label", /now 1,\d{3}|now 2,\d{3}/);
  await page.getByLabel("Charts of").selectOption("Shard 1 · core 1");
  await expect(connections).toHaveAttribute("aria-label", /now \d{3},/);
  await page.getByRole("radio", { name: "1 min" }).check();
  await expect(page.getByRole("radio", { name: "1 min" })).toBeChecked();
});

test("the theme follows the system until one is chosen, and then stays", async ({ page, mock }) => {
  const site = await mock();
  await page.emulateMedia({ colorScheme: "dark" });
  await page.goto(site.url);
  const root = page.locator("html");
  await expect(root).toHaveAttribute("data-theme", "dark");
  await page.getByRole("button", { name: "Use the light theme" }).click();
  await expect(root).toHaveAttribute("data-theme", "light");
  await page.reload();
  await expect(root).toHaveAttribute("data-theme", "light");
});

test("one request is under way at a time, once a second, and none while nobody looks", async ({ page, mock }) => {
  const site = await mock();
  await page.goto(site.url);
  await expect(page.locator(".tile-value").first()).not.toHaveText("–");
  const asked = () => site.requests.filter((path) => path === "/v1/activity").length;
  const begun = asked();
  await page.waitForTimeout(3200);
  expect(asked() - begun).toBeGreaterThanOrEqual(2);
  expect(asked() - begun).toBeLessThanOrEqual(4);
  await page.evaluate(() => {
    Object.defineProperty(document, "visibilityState", { configurable: true, value: "hidden" });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await page.waitForTimeout(1200);
  const hidden = asked();
  await page.waitForTimeout(2500);
  expect(asked()).toBe(hidden);
  await page.evaluate(() => {
    Object.defineProperty(document, "visibilityState", { configurable: true, value: "visible" });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await expect.poll(asked).toBeGreaterThan(hidden);
});

test("a redraw of 64 shards is done within a frame", async ({ page, mock }) => {
  const site = await mock({ shards: 64, before: 300 });
  await page.addInitScript(() => {
    const tasks: number[] = [];
    Object.assign(window, { longTasks: tasks });
    new PerformanceObserver((list) => {
      tasks.push(...list.getEntries().map((entry) => entry.duration));
    }).observe({ type: "longtask" });
  });
  await page.goto(`${site.url}#/shards`);
  await expect(page.getByRole("radio", { name: /^Shard 63/ })).toBeVisible();
  await page.evaluate(() => {
    (window as unknown as { longTasks: number[] }).longTasks.length = 0;
  });
  await page.waitForTimeout(4000);
  const long = await page.evaluate(() => (window as unknown as { longTasks: number[] }).longTasks);
  // The browser calls a task long from 50 ms on; on a busy machine one may be for reasons of its own.
  expect(long.length, `tasks of ${long.join(", ")} ms`).toBeLessThanOrEqual(1);
});
