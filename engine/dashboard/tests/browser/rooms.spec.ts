import { expect, test } from "../fixtures/site.ts";

const SLOW = [
  { id: "0-12-3", user: "ada", shard: 0, outbox_bytes: 65_536 },
  { id: "1-7-1", user: "grace", shard: 1, outbox_bytes: 4096 },
];

test("a slow consumer is disconnected after a question", async ({ page, mock }) => {
  const site = await mock();
  site.slow = [...SLOW];
  await page.goto(`${site.url}#/rooms`);
  await expect(page.getByRole("row", { name: /ada/ })).toContainText("64 KiB");
  const button = page.getByRole("button", { name: "Disconnect ada, 0-12-3" });
  await button.click();
  const dialog = page.getByRole("dialog", { name: "Disconnect ada?" });
  await expect(dialog).toBeVisible();
  await page.keyboard.press("Escape");
  await expect(dialog).toBeHidden();
  await expect(button).toBeFocused();
  expect(site.disconnected).toEqual([]);
  await button.click();
  await dialog.getByRole("button", { name: "Disconnect" }).click();
  await expect(page.getByRole("status")).toHaveText("ada (0-12-3) was disconnected.");
  await expect(page.getByRole("row", { name: /ada/ })).toHaveCount(0);
  expect(site.disconnected).toEqual(["0-12-3"]);
});

test("what the server refuses is said", async ({ page, mock, expected }) => {
  expected.push(/status of 404/);
  const site = await mock();
  site.slow = [...SLOW];
  await page.goto(`${site.url}#/rooms`);
  await page.getByRole("button", { name: "Disconnect grace, 1-7-1" }).click();
  site.slow = [];
  await page.getByRole("dialog").getByRole("button", { name: "Disconnect" }).click();
  await expect(page.getByRole("status")).toContainText("was not disconnected: no open connection has the id `1-7-1`");
});

test("a busy room leads to the chat", async ({ page, mock }) => {
  const site = await mock();
  await page.goto(`${site.url}#/rooms`);
  await page.getByRole("link", { name: "tea" }).click();
  await expect(page.getByLabel("Room")).toHaveValue("tea");
});
