import { createHmac } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { expect, OUTAGE, test } from "../fixtures/site.ts";

test("two windows talk, and each sees who is there", async ({ page, context, engine, watch }) => {
  const server = await engine();
  await page.goto(`${server.adminUrl}#/chat`);
  await page.getByLabel("Your name").fill("ada");
  await page.getByLabel("Room").fill("tea");
  await page.getByRole("button", { name: "Join" }).click();
  await expect(page.getByRole("status")).toHaveText("Connected as ada");
  await page.getByLabel("Message", { exact: true }).fill("is anybody here?");
  await page.keyboard.press("Enter");
  const log = page.getByRole("log");
  await expect(log).toContainText("is anybody here?");
  await expect(log).toContainText(/#1, acknowledged in \d+\.\d\sms/);

  const opening = context.waitForEvent("page");
  await page.getByRole("link", { name: "Open a second window as grace" }).click();
  const other = await opening;
  watch(other);
  await expect(other.getByRole("status")).toHaveText("Connected as grace");
  await expect(other.getByRole("log")).toContainText("is anybody here?");
  for (const window of [page, other]) {
    await expect(window.getByRole("listitem").filter({ hasText: /^ada/ })).toBeVisible();
    await expect(window.getByRole("listitem").filter({ hasText: /^grace/ })).toBeVisible();
  }
  await other.getByLabel("Message", { exact: true }).fill("I am");
  await other.getByRole("button", { name: "Send" }).click();
  await expect(log).toContainText("I am");
  await expect(log).toContainText("#2");

  // The chat goes on while another page is looked at.
  await page.getByRole("link", { name: "Shards", exact: true }).click();
  await other.getByLabel("Message", { exact: true }).fill("are you still there?");
  await other.keyboard.press("Enter");
  await page.getByRole("link", { name: "Chat" }).click();
  await expect(page.getByRole("log")).toContainText("are you still there?");

  await other.getByRole("button", { name: "Leave" }).click();
  await expect(page.getByRole("listitem").filter({ hasText: /^grace/ })).toHaveCount(0);
});

test("a connection that is cut comes back without a gap", async ({ page, context, engine, watch, expected }) => {
  expected.push(...OUTAGE);
  const server = await engine();
  const site = server.adminUrl;
  await page.goto(`${site}#/chat?name=ada&room=tea`);
  await expect(page.getByRole("status")).toHaveText("Connected as ada");
  const other = await context.newPage();
  watch(other);
  await other.goto(`${site}#/chat?name=grace&room=tea`);
  await expect(other.getByRole("status")).toHaveText("Connected as grace");
  const say = async (text: string) => {
    await other.getByLabel("Message", { exact: true }).fill(text);
    await other.keyboard.press("Enter");
    await expect(other.getByRole("log")).toContainText(text);
  };
  await say("first");
  await expect(page.getByRole("log")).toContainText("first");
  const closed = await fetch(`${server.adminUrl}v1/users/ada/disconnect`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: '{"code":4000,"reason":"a test"}',
  });
  expect(closed.status).toBe(200);
  await expect(page.getByRole("status")).toHaveText("Connection lost, coming back");
  await say("second");
  await say("third");
  await expect(page.getByRole("status")).toHaveText("Connected as ada");
  const said = page.locator(".message");
  await expect(said).toHaveCount(3);
  await expect(said.nth(1)).toContainText("second");
  await expect(said.nth(2)).toContainText("#3");
  await expect(page.getByRole("log")).toContainText("Back again. Nothing was missed.");
});

test("a server that is killed and started again is found again, and nothing that was said is lost", async ({
  page,
  context,
  engine,
  watch,
  expected,
}) => {
  expected.push(...OUTAGE);
  const first = await engine();
  const site = first.adminUrl;
  await page.goto(`${site}#/chat?name=ada&room=tea`);
  await expect(page.getByRole("status")).toHaveText("Connected as ada");
  const other = await context.newPage();
  watch(other);
  await other.goto(`${site}#/chat?name=grace&room=tea`);
  await expect(other.getByRole("status")).toHaveText("Connected as grace");
  await page.getByLabel("Message", { exact: true }).fill("before");
  await page.keyboard.press("Enter");
  await expect(other.getByRole("log")).toContainText("before");

  await first.kill();
  await expect(page.getByRole("status")).toHaveText("Connection lost, coming back");
  await page.getByLabel("Message", { exact: true }).fill("meanwhile");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("log")).toContainText("Waits for the server");
  await engine([], first);
  for (const window of [page, other]) {
    await expect(window.getByRole("status")).toHaveText(/^Connected as/);
    await expect(window.getByRole("log")).toContainText("The server was started anew");
    await expect(window.locator(".message", { hasText: "meanwhile" })).toHaveCount(1);
    await expect(window.locator(".message", { hasText: "before" })).toHaveCount(1);
  }
  await expect(page.getByRole("log")).not.toContainText("Waits for the server");
});

/** A JSON Web Token, HS256, that is good for an hour. */
function token(user: string, secret: string): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 3600;
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp })}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

test("where the server wants tokens, the chat asks for one and says why it is refused", async ({
  page,
  engine,
}, info) => {
  const secret = "a secret of more than thirty-two bytes";
  await mkdir(info.outputDir, { recursive: true });
  const key = info.outputPath("key");
  await writeFile(key, secret, { mode: 0o600 });
  const server = await engine(["--auth-key", key]);
  await page.goto(`${server.adminUrl}#/chat`);
  await expect(page.getByLabel("Your name")).toHaveCount(0);
  const enter = async (text: string) => {
    await page.getByLabel("Token").fill(text);
    await page.getByRole("button", { name: "Join" }).click();
  };
  await enter(token("ada", "another secret of more than thirty-two"));
  await expect(page.getByRole("status")).toContainText("The server has closed the connection:");
  await page.getByRole("button", { name: "Leave" }).click();
  await enter(token("ada", secret));
  await expect(page.getByRole("status")).toHaveText("Connected as ada");
});

test("a page whose origin may not connect is told so", async ({ page, engine }) => {
  const server = await engine(["--origins", "https://app.example"]);
  await page.goto(`${server.adminUrl}#/chat`);
  await expect(page.getByText("pages of https://app.example alone")).toBeVisible();
});
