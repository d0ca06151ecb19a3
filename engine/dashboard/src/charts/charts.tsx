// The four charts of the node, or of a shard.

import type { Scope } from "../activity/samples.ts";
import { count, microseconds } from "../format.ts";
import { Chart, type ChartLine } from "./chart.tsx";

const CONNECTIONS: ChartLine[] = [{ series: "connections", label: "Connections", color: "--accent", filled: true }];
const MESSAGES: ChartLine[] = [{ series: "messages_per_s", label: "Messages", color: "--accent", filled: true }];
const DELIVERIES: ChartLine[] = [{ series: "deliveries_per_s", label: "Deliveries", color: "--accent", filled: true }];
const LATENCY: ChartLine[] = [
  { series: "p50_us", label: "p50", color: "--low" },
  { series: "p99_us", label: "p99", color: "--accent" },
  { series: "p999_us", label: "p99.9", color: "--high", dash: [4, 3] },
];

export function Charts({ scope, spanMs }: { scope: Scope; spanMs: number }) {
  return (
    <div class="charts">
      <Chart title="Connections" lines={CONNECTIONS} format={count} scope={scope} spanMs={spanMs} />
      <Chart title="Messages a second" lines={MESSAGES} format={count} scope={scope} spanMs={spanMs} />
      <Chart title="Deliveries a second" lines={DELIVERIES} format={count} scope={scope} spanMs={spanMs} />
      <Chart title="Delivery latency" lines={LATENCY} scale="log" format={microseconds} scope={scope} spanMs={spanMs} />
    </div>
  );
}
