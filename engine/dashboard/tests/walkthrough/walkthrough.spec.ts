// The browser's part of the walk-through of the README; scripts/tests/test_walkthrough.py has the others.

import type { Page } from "@playwright/test";
import { expect, test } from "../fixtures/site.ts";

/** How long the steps in the terminal may take. */
const PATIENCE_MS = 120_000;

async function say(window: Page, text: string): Promise<void> {
  await window.getByLabel("Message", { exact: true }).fill(text);
  await window.keyboard.press("Enter");
}

test.setTimeout(2 * PATIENCE_MS);

test("two windows chat with each other, a terminal and a backend", async ({ page, context, watch }) => {
  await page.goto(process.env.SHARDCAST_PAGE ?? "");
  await expect(page.getByRole("heading", { name: "Overview" })).toBeVisible();

  await page.getByRole("link", { name: "Chat" }).click();
  await page.getByLabel("Your name").fill("ada");
  await page.getByLabel("Room").fill("lobby");
  await page.getByRole("button", { name: "Join" }).click();
  await expect(page.getByRole("status")).toHaveText("Connected as ada");
  const opening = context.waitForEvent("page");
  await page.getByRole("link", { name: /^Open a second window/ }).click();
  const other = await opening;
  watch(other);
  await expect(other.getByRole("status")).toHaveText(/^Connected as/);

  await say(page, "hello from the first window");
  await expect(other.getByRole("log")).toContainText("hello from the first window");
  await say(other, "hello from the second window");
  for (const window of [page, other]) {
    for (const text of ["hello from the second window", "hello from the terminal", "The kettle is on", "Two minutes"]) {
      await expect(window.getByRole("log")).toContainText(text, { timeout: PATIENCE_MS });
    }
    await expect(window.getByRole("listitem").filter({ hasText: /^cleo/ })).toBeVisible();
  }

  await other.getByRole("link", { name: "Overview", exact: true }).click();
  await expect(other.getByRole("main")).toContainText("lobby");
  await expect(page.getByRole("log")).toContainText("goodbye", { timeout: PATIENCE_MS });
});
