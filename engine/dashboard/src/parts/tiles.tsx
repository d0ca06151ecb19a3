// The numbers that are looked at first.

import type { SeriesName } from "../activity/contract.ts";
import { revision, samples } from "../activity/feed.ts";
import type { Scope } from "../activity/samples.ts";
import { SPARKLINE_SAMPLES, Sparkline } from "../charts/sparkline.tsx";
import { bytes, count, microseconds, type Quantity } from "../format.ts";

interface Tile {
  label: string;
  series: SeriesName;
  format: (value: number | null) => Quantity;
  per?: string;
}

const TILES: Tile[] = [
  { label: "Connections", series: "connections", format: count },
  { label: "Messages", series: "messages_per_s", format: count, per: "/s" },
  { label: "Deliveries", series: "deliveries_per_s", format: count, per: "/s" },
  { label: "Latency p99", series: "p99_us", format: microseconds },
  { label: "Sent", series: "sent_bytes_per_s", format: bytes, per: "/s" },
  { label: "Dropped", series: "dropped_per_s", format: count, per: "/s" },
];

export function Tiles({ scope }: { scope: Scope }) {
  // Read, so that the tiles follow the samples.
  void revision.value;
  return (
    <dl class="tiles">
      {TILES.map(({ label, series, format, per = "" }) => {
        const latest = samples.latest(scope, series);
        const { value, unit } = format(latest);
        const isBad = series === "dropped_per_s" && (latest ?? 0) > 0;
        return (
          <div class={`tile ${isBad ? "bad" : ""}`} key={series}>
            <dt>{label}</dt>
            <dd>
              <span class="tile-value">{value}</span>
              {latest !== null && <span class="tile-unit">{`${unit}${per}`}</span>}
            </dd>
            <dd class="tile-shape" aria-hidden="true">
              <Sparkline values={samples.tail(scope, series, SPARKLINE_SAMPLES)} />
            </dd>
          </div>
        );
      })}
    </dl>
  );
}
