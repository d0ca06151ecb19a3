import { render } from "preact";
import { run } from "./activity/feed.ts";
import { App } from "./app.tsx";
import "./styles.css";

const host = document.getElementById("app");
if (host !== null) {
  render(<App />, host);
  void run(new AbortController().signal);
}
