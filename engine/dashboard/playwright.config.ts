import { defineConfig } from "@playwright/test";

// The system's Chromium: nothing is downloaded. As root it runs only without its sandbox.
const args = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
args.push("--disable-component-update", "--disable-sync");
if (process.getuid?.() === 0) {
  args.push("--no-sandbox");
}

export default defineConfig({
  testDir: "tests",
  // What a failure leaves behind.
  outputDir: "test-results",
  reporter: process.env.CI === undefined ? "line" : "list",
  // A browser and a server take both cores of a small machine.
  workers: 1,
  fullyParallel: false,
  forbidOnly: true,
  timeout: 60_000,
  expect: { timeout: 15_000 },
  use: {
    browserName: "chromium",
    viewport: { width: 1280, height: 900 },
    launchOptions: { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args },
  },
  projects: [
    { name: "browser", testMatch: "browser/*.spec.ts" },
    { name: "walkthrough", testMatch: "walkthrough/*.spec.ts" },
    { name: "scale", testMatch: "scale/*.spec.ts" },
    { name: "screenshots", testMatch: "screenshots/*.spec.ts" },
  ],
});
