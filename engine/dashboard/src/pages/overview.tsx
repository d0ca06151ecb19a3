// The node at a glance.

import { signal } from "@preact/signals";
import { activity, link } from "../activity/feed.ts";
import type { Scope } from "../activity/samples.ts";
import { Charts } from "../charts/charts.tsx";
import { duration } from "../format.ts";
import { BusiestRooms } from "../parts/busiest.tsx";
import { LatestSamples } from "../parts/latest.tsx";
import { PhaseBadge } from "../parts/node-line.tsx";
import { ShardStrip } from "../parts/shard-map.tsx";
import { SpanChoice, spanMs } from "../parts/span.tsx";
import { Tiles } from "../parts/tiles.tsx";
import { href } from "../route.ts";

/** Rooms on this page; the page of the rooms has all. */
const ROOMS_MAX = 5;

const chosen = signal<Scope>("all");

export function OverviewPage() {
  const node = activity.value?.node;
  const shards = activity.value?.shards ?? [];
  // A server that was started again may have fewer.
  const scope = chosen.value !== "all" && chosen.value >= shards.length ? "all" : chosen.value;
  return (
    <>
      <div class="page-head">
        <div>
          <h1 tabIndex={-1}>Overview</h1>
          <p class="node-facts">
            <PhaseBadge />
            {node === undefined ? (
              <span>{link.value.state === "lost" ? "No answer yet" : "Asking the engine"}</span>
            ) : (
              <>
                <span>Version {node.version}</span>
                <span>Up {duration(node.uptime_ms)}</span>
                <span class="code">{node.listen}</span>
              </>
            )}
          </p>
        </div>
        <div class="controls">
          <label class="select">
            <span class="visually-hidden">Charts of</span>
            <select
              value={String(scope)}
              onChange={(event) => {
                const { value } = event.currentTarget;
                chosen.value = value === "all" ? "all" : Number(value);
              }}
            >
              <option value="all">Whole node</option>
              {shards.map(({ shard, core }) => (
                <option key={shard} value={String(shard)}>
                  {core === null ? `Shard ${shard}` : `Shard ${shard} · core ${core}`}
                </option>
              ))}
            </select>
          </label>
          <SpanChoice />
        </div>
      </div>
      <Tiles scope={scope} />
      <h2 class="visually-hidden">Charts</h2>
      <Charts scope={scope} spanMs={spanMs.value} />
      <div class="columns">
        <section class="card" aria-labelledby="busiest-title">
          <div class="card-head">
            <h2 id="busiest-title">Busiest rooms</h2>
            <a href={href("rooms")}>All rooms</a>
          </div>
          <BusiestRooms rowsMax={ROOMS_MAX} />
        </section>
        <section class="card" aria-labelledby="shards-title">
          <div class="card-head">
            <h2 id="shards-title">Shards</h2>
            <a href={href("shards")}>Shard map</a>
          </div>
          <ShardStrip shards={shards} />
        </section>
      </div>
      <LatestSamples scope={scope} />
    </>
  );
}
