// Whether the server wants tokens, as its configuration says: a browser does not tell a page why a handshake was refused.

import { request } from "../activity/api.ts";
import type { Whom } from "./session.ts";

export type WhoMayConnect = "unknown" | "anybody" | "bearers" | "bearers-and-guests";
export type Answers = Whom;

interface Settings {
  settings: { name: string; value: string }[];
}

export async function askWhoMayConnect(): Promise<WhoMayConnect> {
  try {
    return whoMayConnect(await request<Settings>("v1/config"));
  } catch {
    // Older servers, or none just now: a field too many does no harm.
    return "bearers-and-guests";
  }
}

export function whoMayConnect({ settings }: Settings): WhoMayConnect {
  const value = (name: string) => settings.find((setting) => setting.name === name)?.value ?? "";
  const hasKey = ["auth_key", "auth_jwks"].some((name) => !["", "none", "off"].includes(value(name)));
  if (!hasKey) {
    return "anybody";
  }
  return value("anonymous") === "on" ? "bearers-and-guests" : "bearers";
}
