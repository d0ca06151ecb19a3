import { Mock } from "../fixtures/mock.ts";
import { expect, OUTAGE, test } from "../fixtures/site.ts";

test("an engine that is gone is said at once, and found again", async ({ page, mock, expected }) => {
  expected.push(...OUTAGE);
  const site = await mock();
  await page.goto(site.url);
  await expect(page.locator(".tile-value").first()).not.toHaveText("–");
  const { port } = site;
  await site.stop();
  const alert = page.getByRole("alert");
  await expect(alert).toContainText("The engine does not answer.", { timeout: 3000 });
  await expect(alert).toContainText(/What is shown is from \d\d:\d\d:\d\d\./);
  await expect(page.locator("main")).toHaveAttribute("data-stale", "");
  await expect(page.getByText("No answer", { exact: true }).first()).toBeVisible();
  await expect(page.getByText(/^Trying again in \d/)).toBeVisible();
  const again = await Mock.start({ port, before: 1 });
  try {
    await expect(alert).toBeHidden();
    await expect(page.locator("main")).not.toHaveAttribute("data-stale", "");
    await expect(page.getByText("Serving", { exact: true })).toBeVisible();
  } finally {
    await again.stop();
  }
});

test("a page that is opened before the engine is there finds it", async ({ page, mock, expected }) => {
  expected.push(/status of 503/);
  const site = await mock();
  await page.route("**/v1/activity*", (route) =>
    route.fulfill({ status: 503, contentType: "application/problem+json", body: '{"detail":"the shards are busy"}' }),
  );
  await page.goto(site.url);
  await expect(page.getByRole("alert")).toContainText("It answers: the shards are busy.");
  await page.unroute("**/v1/activity*");
  await page.getByRole("button", { name: "Try now" }).click();
  await expect(page.getByRole("alert")).toBeHidden();
});
