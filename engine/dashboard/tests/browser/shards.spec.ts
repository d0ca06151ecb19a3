import { expect, test } from "../fixtures/site.ts";

test("the map shows every shard, and which does not answer", async ({ page, mock }) => {
  const site = await mock({ shards: 64 });
  site.silent.add(7);
  site.restarts.set(9, 2);
  await page.goto(`${site.url}#/shards`);
  await expect(page.getByRole("radio")).toHaveCount(64 + 2);
  await expect(page.getByText("1 of 64 without an answer")).toBeVisible();
  await expect(page.getByRole("radio", { name: /Shard 7 core 7 No answer/ })).toBeVisible();
  await expect(page.getByRole("radio", { name: /Shard 9 .*2 restarts/ })).toBeVisible();
  await page.getByRole("radio", { name: /Shard 9 / }).click();
  await expect(page.getByRole("heading", { name: "Shard 9" })).toBeVisible();
  await expect(page).toHaveURL(/#\/shards\/9$/);
});

test("arrow keys walk over the map", async ({ page, mock }) => {
  const site = await mock({ shards: 12 });
  await page.goto(`${site.url}#/shards/3`);
  const cell = (shard: number) => page.getByRole("radio", { name: new RegExp(`^Shard ${shard} `) });
  await cell(3).focus();
  await page.keyboard.press("ArrowRight");
  await expect(cell(4)).toBeFocused();
  await expect(cell(4)).toBeChecked();
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Home");
  await expect(cell(0)).toBeFocused();
  await page.keyboard.press("ArrowDown");
  await expect(cell(0)).not.toBeFocused();
  await page.keyboard.press("ArrowUp");
  await expect(cell(0)).toBeFocused();
  await page.keyboard.press("End");
  await expect(cell(11)).toBeFocused();
  await expect(page.getByRole("heading", { name: "Shard 11" })).toBeVisible();
});
