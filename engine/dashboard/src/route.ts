// Which page is shown. The routes stand behind the `#`, so the server needs to know none of them.

import { signal } from "@preact/signals";

export const PAGES = ["overview", "shards", "rooms", "chat"] as const;
export type Page = (typeof PAGES)[number];

export interface Route {
  page: Page;
  /** What follows the page's name: the shard that was chosen. */
  rest: string;
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [name = "", rest = ""] = path.split("/", 2);
  const page = PAGES.find((page) => page === name) ?? "overview";
  return { page, rest, query: new URLSearchParams(query) };
}

export function href(page: Page, rest = "", query: Record<string, string> = {}): string {
  const path = [page === "overview" ? "" : page, rest].filter((part) => part !== "").join("/");
  const parameters = new URLSearchParams(query).toString();
  return `#/${path}${parameters === "" ? "" : `?${parameters}`}`;
}

export const route = signal<Route>(parse(location.hash));

window.addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});

/** Goes to a page in place of the current one, without an entry in the history. */
export function replace(hash: string): void {
  history.replaceState(null, "", hash);
  route.value = parse(hash);
}
