// The shard map, and one shard in detail.

import type { ShardState } from "../activity/contract.ts";
import { activity } from "../activity/feed.ts";
import { Charts } from "../charts/charts.tsx";
import { bytes, count, text } from "../format.ts";
import { ShardMap } from "../parts/shard-map.tsx";
import { SpanChoice, spanMs } from "../parts/span.tsx";
import { Tiles } from "../parts/tiles.tsx";
import { href, replace, route } from "../route.ts";

export function ShardsPage() {
  const shards = activity.value?.shards ?? [];
  const wanted = Number(route.value.rest || "0");
  const shard = shards.find((shard) => shard.shard === wanted) ?? shards[0];
  const silent = shards.filter(({ answers }) => !answers).length;
  return (
    <>
      <div class="page-head">
        <div>
          <h1 tabIndex={-1}>Shards</h1>
          <p class="lead">One thread a core. Choose a shard to see how it does.</p>
        </div>
        {shards.length > 0 && (
          <span class={`badge ${silent === 0 ? "good" : "bad"}`}>
            {silent === 0 ? "All answer" : `${silent} of ${shards.length} without an answer`}
          </span>
        )}
      </div>
      {shard === undefined ? (
        <p class="empty card">Nothing is known of the shards yet.</p>
      ) : (
        <>
          <ShardMap shards={shards} chosen={shard.shard} onChoose={choose} />
          <Detail state={shard} />
        </>
      )}
    </>
  );
}

function choose(shard: number): void {
  // In place of an entry in the history for each arrow key.
  replace(href("shards", String(shard)));
}

function Detail({ state }: { state: ShardState }) {
  const facts: [string, string][] = [
    ["Core", state.core === null ? "not pinned" : String(state.core)],
    ["Rooms", text(count(state.rooms))],
    ["History", text(bytes(state.history_bytes))],
    ["Outboxes in use", text(count(state.outboxes))],
    ["Outbox bytes", text(bytes(state.outbox_bytes))],
    ["Mailbox depth", text(count(state.mailbox_depth))],
    ["Restarts", text(count(state.restarts))],
  ];
  return (
    <section class="detail" aria-labelledby="shard-title">
      <div class="page-head">
        <h2 id="shard-title">
          Shard {state.shard} {!state.answers && <span class="badge bad">No answer</span>}
        </h2>
        <SpanChoice />
      </div>
      <Tiles scope={state.shard} />
      <Charts scope={state.shard} spanMs={spanMs.value} />
      <dl class="facts card">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
