// The node in one line.

import { activity, link } from "../activity/feed.ts";
import { duration } from "../format.ts";

const PHASES = { serving: "Serving", draining: "Draining", drained: "Drained" };

/** Whether the node works, as a word with a dot in front of it. */
export function PhaseBadge() {
  const state = link.value;
  const node = activity.value?.node;
  if (state.state === "lost") {
    return <span class="badge bad">No answer</span>;
  }
  if (node === undefined) {
    return <span class="badge">Connecting</span>;
  }
  return <span class={`badge ${node.phase === "serving" ? "good" : "warn"}`}>{PHASES[node.phase]}</span>;
}

export function NodeLine() {
  const node = activity.value?.node;
  if (node === undefined) {
    return <p>Shardcast</p>;
  }
  return (
    <p>
      Shardcast {node.version} · {node.listen} · {node.shards} {node.shards === 1 ? "shard" : "shards"} · up{" "}
      {duration(node.uptime_ms)}
    </p>
  );
}
