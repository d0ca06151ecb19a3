// Whether the server wants tokens, as its configuration says: a browser does not tell a page why a handshake was refused.

import { request } from "../activity/api.ts";
import type { Whom } from "./session.ts";

export type Who = "unknown" | "anybody" | "bearers" | "bearers-and-guests";

export interface WhoMayConnect {
  who: Who;
  /** Origins whose pages may connect; empty where all may. */
  origins: string[];
}

export type Answers = Whom;

interface Settings {
  settings: { name: string; value: string }[];
}

export async function askWhoMayConnect(): Promise<WhoMayConnect> {
  try {
    return whoMayConnect(await request<Settings>("v1/config"));
  } catch {
    // Older servers, or none just now: a field too many does no harm.
    return { who: "bearers-and-guests", origins: [] };
  }
}

export function whoMayConnect({ settings }: Settings): WhoMayConnect {
  const value = (name: string) => settings.find((setting) => setting.name === name)?.value ?? "";
  const hasKey = ["auth_key", "auth_jwks"].some((name) => !["", "none", "off"].includes(value(name)));
  const bearers = value("anonymous") === "on" ? "bearers-and-guests" : "bearers";
  const origins = value("origins")
    .split(",")
    .filter((origin) => origin !== "");
  return { who: hasKey ? bearers : "anybody", origins };
}
