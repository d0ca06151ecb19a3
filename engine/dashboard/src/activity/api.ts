// Requests to the admin API, with the token where there is one.

const TOKEN_KEY = "shardcast-admin-token";

/** The server wants a token, or another one. */
export class Unauthorized extends Error {}

/** The server answers, but not what was asked for. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

/** The token of this tab. */
export function token(): string | null {
  return sessionStorage.getItem(TOKEN_KEY);
}

export function setToken(value: string): void {
  sessionStorage.setItem(TOKEN_KEY, value);
}

export function forgetToken(): void {
  sessionStorage.removeItem(TOKEN_KEY);
}

/** Asks the admin API; the path is relative to the page. */
export async function request<T>(path: string, init: RequestInit = {}): Promise<T> {
  const headers = new Headers(init.headers);
  const bearer = token();
  if (bearer !== null) {
    headers.set("Authorization", `Bearer ${bearer}`);
  }
  const response = await fetch(path, { ...init, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  if (response.status === 401) {
    throw new Unauthorized("the admin API wants a token");
  }
  if (!response.ok) {
    throw new Problem(response.status, await detailOf(response));
  }
  return (await response.json()) as T;
}

/** The `detail` of a problem document (RFC 9457), or the status where the answer is none. */
async function detailOf(response: Response): Promise<string> {
  try {
    const { detail } = (await response.json()) as { detail?: unknown };
    if (typeof detail === "string") {
      return detail;
    }
  } catch {
    // No JSON: something between this page and the server has answered.
  }
  return `status ${response.status}`;
}

/** Has a connection closed. */
export function disconnect(id: string): Promise<unknown> {
  return request(`v1/connections/${encodeURIComponent(id)}/disconnect`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: "{}",
  });
}
