// The shards: a strip of bars, and a map to choose one from.

import { useRef } from "preact/hooks";
import type { ShardState } from "../activity/contract.ts";
import { revision, samples } from "../activity/feed.ts";
import { count, NOTHING, share, text } from "../format.ts";
import { href } from "../route.ts";
import { Bar } from "./bar.tsx";
import { target } from "./grid-keys.ts";

/** Shards in the strip; the map has all. */
const STRIP_MAX = 6;

function busyOf({ shard, answers }: ShardState): number | null {
  return answers ? samples.latest(shard, "busy") : null;
}

export function ShardStrip({ shards }: { shards: ShardState[] }) {
  void revision.value;
  if (shards.length === 0) {
    return <p class="empty">Nothing is known of the shards yet.</p>;
  }
  const rest = shards.length - STRIP_MAX;
  return (
    <ul class="strip">
      {shards.slice(0, STRIP_MAX).map((shard) => {
        const busy = busyOf(shard);
        return (
          <li key={shard.shard}>
            <a href={href("shards", String(shard.shard))}>Shard {shard.shard}</a>
            {shard.answers ? <Bar share={busy ?? 0} /> : <span class="badge bad">No answer</span>}
            <span class="number">{busy === null ? NOTHING : `${text(share(busy))} busy`}</span>
          </li>
        );
      })}
      {rest > 0 && (
        <li class="strip-rest">
          <a href={href("shards")}>{rest} more</a>
        </li>
      )}
    </ul>
  );
}

interface ShardMapProps {
  shards: ShardState[];
  chosen: number;
  onChoose: (shard: number) => void;
}

export function ShardMap({ shards, chosen, onChoose }: ShardMapProps) {
  void revision.value;
  const map = useRef<HTMLDivElement>(null);

  function moved(event: KeyboardEvent) {
    const cells = [...(map.current?.querySelectorAll<HTMLElement>("[role=radio]") ?? [])];
    const place = shards.findIndex(({ shard }) => shard === chosen);
    const next = target(
      event.key,
      place,
      cells.map((cell) => cell.offsetTop),
    );
    const shard = next === null ? undefined : shards[next];
    if (next === null || shard === undefined) {
      return;
    }
    event.preventDefault();
    onChoose(shard.shard);
    cells[next]?.focus();
  }

  return (
    <div class="map" role="radiogroup" aria-label="Shards" ref={map} onKeyDown={moved}>
      {shards.map((shard) => (
        <Cell
          key={shard.shard}
          state={shard}
          isChosen={shard.shard === chosen}
          onChoose={() => onChoose(shard.shard)}
        />
      ))}
    </div>
  );
}

function Cell({ state, isChosen, onChoose }: { state: ShardState; isChosen: boolean; onChoose: () => void }) {
  const busy = busyOf(state);
  const { shard, core, answers, connections, restarts } = state;
  const restarted = restarts === 1 ? "1 restart" : `${text(count(restarts))} restarts`;
  return (
    // biome-ignore lint/a11y/useSemanticElements: a cell of several lines, which an input of type radio cannot hold.
    <button
      type="button"
      role="radio"
      aria-checked={isChosen}
      tabIndex={isChosen ? 0 : -1}
      class={`cell ${answers ? "" : "bad"}`}
      style={{ "--busy": `${(100 * (busy ?? 0)).toFixed(1)}%` }}
      onClick={onChoose}
    >
      <span class="cell-head">
        <b>Shard {shard}</b>
        <span class="cell-core">{core === null ? "no core" : `core ${core}`}</span>
      </span>
      <span class="cell-busy">{answers ? `${text(share(busy))} busy` : "No answer"}</span>
      <span class="cell-bar" aria-hidden="true" />
      <span class="cell-foot">{text(count(connections))} connections</span>
      {restarts > 0 && <span class="cell-foot cell-restarts">{restarted}</span>}
    </button>
  );
}
