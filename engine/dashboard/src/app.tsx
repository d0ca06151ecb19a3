// The frame around the pages: navigation, state of the node, what is said when the server is gone.

import type { ComponentType } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { link } from "./activity/feed.ts";
import { ChatPage } from "./pages/chat.tsx";
import { OverviewPage } from "./pages/overview.tsx";
import { RoomsPage } from "./pages/rooms.tsx";
import { ShardsPage } from "./pages/shards.tsx";
import { Banner } from "./parts/banner.tsx";
import { Gate } from "./parts/gate.tsx";
import { NodeLine } from "./parts/node-line.tsx";
import { href, type Page, route } from "./route.ts";
import { theme, toggleTheme } from "./theme.ts";

const PAGES: Record<Page, { title: string; content: ComponentType }> = {
  overview: { title: "Overview", content: OverviewPage },
  shards: { title: "Shards", content: ShardsPage },
  rooms: { title: "Rooms", content: RoomsPage },
  chat: { title: "Chat", content: ChatPage },
};

export function App() {
  const main = useRef<HTMLElement>(null);
  const { page } = route.value;
  const { title, content: Content } = PAGES[page];
  const state = link.value;
  const isFirst = useRef(true);

  useEffect(() => {
    document.title = `${title} · Shardcast`;
    // Whoever follows a link by the keyboard or a screen reader is where it leads.
    if (!isFirst.current) {
      main.current?.querySelector<HTMLElement>("h1")?.focus();
    }
    isFirst.current = false;
  }, [page]);

  function skip(event: Event) {
    event.preventDefault();
    main.current?.focus();
  }

  return (
    <>
      {/* biome-ignore lint/a11y/useValidAnchor: it leads to the content; the address stays, as it holds the route. */}
      <a class="skip" href="#main" onClick={skip}>
        Skip to the content
      </a>
      <header class="top">
        <div class="top-inner">
          <a class="brand" href={href("overview")} aria-label="Shardcast, overview">
            <Mark />
            <span>Shardcast</span>
          </a>
          <nav aria-label="Pages">
            <ul>
              {(Object.keys(PAGES) as Page[]).map((name) => (
                <li key={name}>
                  <a href={href(name)} aria-current={name === page ? "page" : undefined}>
                    {PAGES[name].title}
                  </a>
                </li>
              ))}
            </ul>
          </nav>
          <ThemeToggle />
        </div>
      </header>
      <Banner />
      <main id="main" ref={main} tabIndex={-1} data-stale={state.state === "lost" ? "" : undefined}>
        {state.state === "locked" ? <Gate refused={state.refused} /> : <Content />}
      </main>
      <footer class="bottom">
        <NodeLine />
      </footer>
    </>
  );
}

function ThemeToggle() {
  const other = theme.value === "dark" ? "light" : "dark";
  return (
    <button
      type="button"
      class="icon-button"
      aria-label={`Use the ${other} theme`}
      title={`Use the ${other} theme`}
      onClick={toggleTheme}
    >
      <svg viewBox="0 0 20 20" aria-hidden="true">
        <circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" stroke-width="1.6" />
        <path d="M10 3a7 7 0 0 1 0 14z" fill="currentColor" />
      </svg>
    </button>
  );
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M7 13.5 11.5 9v14L7 18.5zM13.75 8.5 18.25 5v22l-4.5-3.5zM20.5 9l4.5 4.5v5L20.5 23z" />
    </svg>
  );
}
