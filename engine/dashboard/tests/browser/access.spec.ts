// Whether everybody can use it: by the keyboard alone, on a phone, in both themes.

import AxeBuilder from "@axe-core/playwright";
import type { Page } from "@playwright/test";
import { expect, OUTAGE, test } from "../fixtures/site.ts";

const SLOW = [{ id: "0-12-3", user: "ada", shard: 0, outbox_bytes: 65_536 }];
const SCREENS = { desktop: { width: 1280, height: 900 }, phone: { width: 375, height: 720 } };

async function violations(page: Page): Promise<string[]> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
}

for (const [screen, viewport] of Object.entries(SCREENS)) {
  for (const colorScheme of ["light", "dark"] as const) {
    test(`axe finds nothing on a ${screen}, ${colorScheme}`, async ({ page, mock, engine, expected }) => {
      expected.push(...OUTAGE, /status of 401/);
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      const server = await engine();
      const site = await mock({ shards: 9, nodeUrl: server.url });
      site.slow = SLOW;
      site.silent.add(2);
      site.restarts.set(3, 1);
      const found: Record<string, string[]> = {};
      const look = async (name: string) => {
        found[name] = await violations(page);
        const [content, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
        expect(content, `${name} is as wide as the screen`).toBeLessThanOrEqual(seen ?? 0);
      };
      await page.goto(site.url);
      await expect(page.locator(".tile-value").first()).not.toHaveText("–");
      await page.getByText("The last seconds as a table").click();
      await look("overview");
      await page.goto(`${site.url}#/shards/2`);
      await expect(page.getByRole("heading", { name: "Shard 2" })).toBeVisible();
      await look("shards");
      await page.goto(`${site.url}#/rooms`);
      await expect(page.getByRole("button", { name: /^Disconnect ada/ })).toBeVisible();
      await look("rooms");
      await page.getByRole("button", { name: /^Disconnect ada/ }).click();
      await look("dialog");
      await page.keyboard.press("Escape");
      await page.goto(`${site.url}#/chat`);
      await expect(page.getByRole("button", { name: "Join" })).toBeEnabled();
      await look("entrance of the chat");
      await page.getByRole("button", { name: "Join" }).click();
      await expect(page.getByRole("status")).toHaveText("Connected as ada");
      await page.getByLabel("Message", { exact: true }).fill("hello");
      await page.keyboard.press("Enter");
      await expect(page.getByRole("log")).toContainText("acknowledged in");
      await look("chat");
      await site.stop();
      await expect(page.getByRole("alert")).toBeVisible();
      await look("outage");
      await page.goto((await mock({ token: "a-token-of-many-bytes" })).url);
      await expect(page.getByLabel("Token", { exact: true })).toBeVisible();
      await look("token");
      expect(Object.entries(found).filter(([, list]) => list.length > 0)).toEqual([]);
    });
  }
}

/** What has the focus: its role and name as far as they tell it from others. */
function focused(page: Page): Promise<string> {
  return page.evaluate(() => {
    const element = document.activeElement;
    return element === null || element === document.body
      ? ""
      : (element.getAttribute("aria-label") ?? element.textContent ?? "").trim() || element.id;
  });
}

/** Presses the tabulator until what has the focus fits; that each stop can be seen is part of it. */
async function tabTo(page: Page, wanted: RegExp): Promise<void> {
  for (let presses = 0; presses < 60; presses++) {
    await page.keyboard.press("Tab");
    const outline = await page.evaluate(() => {
      const element = document.activeElement;
      const shown = element?.matches("input[type=radio]") === true ? element.nextElementSibling : element;
      return shown === null || element === document.body ? "none" : getComputedStyle(shown).outlineStyle;
    });
    const name = await focused(page);
    if (name !== "") {
      expect(outline, `the focus on ${name} can be seen`).not.toBe("none");
    }
    if (wanted.test(name)) {
      return;
    }
  }
  throw new Error(`the tabulator does not lead to ${wanted}`);
}

test("all pages are walked by the keyboard alone", async ({ page, mock, engine }) => {
  const server = await engine();
  const site = await mock({ shards: 4, nodeUrl: server.url });
  site.slow = SLOW;
  await page.goto(site.url);
  await expect(page.locator(".tile-value").first()).not.toHaveText("–");
  await tabTo(page, /^Skip to the content$/);
  await page.keyboard.press("Enter");
  await expect(page.locator("main")).toBeFocused();
  await tabTo(page, /^The last seconds as a table$/);
  await page.keyboard.press("Enter");
  await tabTo(page, /^Table: The last seconds$/);

  await page.reload();
  await expect(page.locator(".tile-value").first()).not.toHaveText("–");
  await tabTo(page, /^Shards$/);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Shards" })).toBeFocused();
  await tabTo(page, /^Shard 0/);
  await page.keyboard.press("ArrowRight");
  await expect(page.getByRole("heading", { name: "Shard 1" })).toBeVisible();

  await page.reload();
  await tabTo(page, /^Rooms$/);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Rooms" })).toBeFocused();
  await tabTo(page, /^Disconnect ada/);
  await page.keyboard.press("Enter");
  await tabTo(page, /^Disconnect$/);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("status")).toContainText("was disconnected");

  await page.reload();
  await tabTo(page, /^Chat$/);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { level: 1, name: "Chat" })).toBeFocused();
  await tabTo(page, /^chat-name$/);
  await page.keyboard.press("Control+A");
  await page.keyboard.type("hedy");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("status")).toHaveText("Connected as hedy");
  await page.keyboard.type("by the keyboard alone");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("log")).toContainText("by the keyboard alone");
});
