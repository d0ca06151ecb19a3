import { expect, test } from "../fixtures/site.ts";

test("the token is asked for, kept in the tab, and in no other", async ({ page, context, mock, watch, expected }) => {
  expected.push(/status of 401/);
  const site = await mock({ token: "a-token-of-many-bytes" });
  await page.goto(site.url);
  const field = page.getByLabel("Token", { exact: true });
  await expect(field).toBeFocused();
  await field.fill("wrong");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alert")).toHaveText("The server does not accept this token.");
  await field.fill("a-token-of-many-bytes");
  await page.getByRole("button", { name: "Continue" }).click();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("Overview");
  await expect(page.locator(".tile-value").first()).not.toHaveText("–");
  await page.reload();
  await expect(page.locator(".tile-value").first()).not.toHaveText("–");
  const other = await context.newPage();
  watch(other);
  await other.goto(site.url);
  await expect(other.getByLabel("Token", { exact: true })).toBeVisible();
  expect(await page.evaluate(() => [localStorage.length, document.cookie])).toEqual([0, ""]);
});
