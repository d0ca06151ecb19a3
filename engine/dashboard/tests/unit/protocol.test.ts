import { describe, expect, it } from "vitest";
import { askedDelayMs, contentText, endpoint } from "../../src/chat/protocol.ts";
import { whoMayConnect } from "../../src/chat/who.ts";

describe("the protocol", () => {
  it.each([
    ["ws://127.0.0.1:9000/ws", "ada", "ws://127.0.0.1:9000/ws?user=ada"],
    ["ws://0.0.0.0:9000/ws", "ada", "ws://page.example:9000/ws?user=ada"],
    ["wss://[::]:9000/ws", "ü & ö", "wss://page.example:9000/ws?user=%C3%BC+%26+%C3%B6"],
    ["wss://chat.example/ws", null, "wss://chat.example/ws"],
  ])("connects to %s as %s at %s", (url, user, expected) => {
    expect(endpoint(url, "page.example", user)).toBe(expected);
  });

  it("finds in a reason how long to wait", () => {
    expect(askedDelayMs("server is shutting down; reconnect in 1700 ms")).toBe(1700);
    expect(askedDelayMs("")).toBeNull();
  });

  it("shows any content as text", () => {
    expect(contentText("plain")).toBe("plain");
    expect(contentText({ steep: [1, null] })).toBe('{"steep":[1,null]}');
    expect(contentText("x".repeat(5000))).toHaveLength(2001);
  });
});

describe("who may connect", () => {
  const settings = (values: Record<string, string>) => ({
    settings: Object.entries(values).map(([name, value]) => ({ name, value })),
  });

  it.each([
    [{ auth_key: "", auth_jwks: "", anonymous: "auto" }, "anybody"],
    [{ auth_key: "", auth_jwks: "", anonymous: "on" }, "anybody"],
    [{ auth_key: "key.pem", auth_jwks: "", anonymous: "auto" }, "bearers"],
    [{ auth_key: "", auth_jwks: "https://id.example/set", anonymous: "on" }, "bearers-and-guests"],
    [{}, "anybody"],
  ])("follows from %o: %s", (values, expected) => {
    expect(whoMayConnect(settings(values as Record<string, string>))).toEqual({ who: expected, origins: [] });
  });

  it("depends on the origin of the page where the server has a list", () => {
    const { origins } = whoMayConnect(settings({ origins: "https://a.example,https://b.example:1" }));
    expect(origins).toEqual(["https://a.example", "https://b.example:1"]);
  });
});
