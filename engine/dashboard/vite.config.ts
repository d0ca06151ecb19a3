import { defineConfig } from "vite";

// Built files have stable names and no maps: they are committed, and served by the binary that embeds them.
export default defineConfig({
  // Relative, so that the page works behind a proxy that adds a prefix.
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: "assets/app.js",
        assetFileNames: "assets/app[extname]",
        codeSplitting: false,
      },
    },
  },
  // `npm run dev` shows a server that runs on this machine.
  server: { proxy: { "/v1": process.env.SHARDCAST_ADMIN_URL ?? "http://127.0.0.1:9001" } },
});
