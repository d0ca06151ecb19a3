import { beforeAll, describe, expect, it, vi } from "vitest";

let routes: typeof import("../../src/route.ts");

beforeAll(async () => {
  vi.stubGlobal("location", { hash: "" });
  vi.stubGlobal("window", new EventTarget());
  routes = await import("../../src/route.ts");
});

describe("routes", () => {
  it.each([
    ["", "overview", ""],
    ["#/", "overview", ""],
    ["#/shards/12", "shards", "12"],
    ["#/rooms", "rooms", ""],
    ["#/nothing", "overview", ""],
  ])("%s is the page %s", (hash, page, rest) => {
    expect(routes.parse(hash)).toMatchObject({ page, rest });
  });

  it("carry names of any text", () => {
    const room = "a/b?c=d&ü #";
    expect(routes.parse(routes.href("chat", "", { room })).query.get("room")).toBe(room);
  });
});
