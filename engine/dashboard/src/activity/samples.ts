// The samples that the page keeps: those of the server, in columns, bounded as there.

import { type Activity, type Column, SERIES_NAMES, type Series, type SeriesName } from "./contract.ts";

/** Samples that are kept where a server offers more. */
export const SAMPLES_MAX = 900;

/** Between two samples that are further apart than this many intervals there is a gap. */
const GAP_INTERVALS = 2.5;

/** Of the whole node, or of one shard. */
export type Scope = "all" | number;

/** Columns that begin with the time in seconds, as a chart takes them. */
export type View = [number[], ...Column[]];

function emptySeries(length: number): Series {
  const columns = SERIES_NAMES.map((name) => [name, new Array<number | null>(length).fill(null)]);
  return Object.fromEntries(columns) as Series;
}

export class Samples {
  unixMs: number[] = [];
  all: Series = emptySeries(0);
  shards: Series[] = [];
  #intervalMs = 1000;

  /** The time of the newest sample, to ask for what came after it. */
  newestUnixMs(): number | null {
    return this.unixMs.at(-1) ?? null;
  }

  /** Adds what the server tells that is newer than what is here. */
  merge(activity: Activity): void {
    const { samples, interval_ms, now_unix_ms } = activity;
    this.#intervalMs = interval_ms;
    const newest = this.newestUnixMs();
    // The server's clock was set back: what is here lies in its future, and nothing would ever be newer.
    if (newest !== null && newest > now_unix_ms + 10 * interval_ms) {
      this.#clear();
    }
    const known = this.newestUnixMs() ?? Number.NEGATIVE_INFINITY;
    const first = samples.unix_ms.findIndex((time) => time > known);
    if (first < 0) {
      return;
    }
    const before = this.unixMs.length;
    this.unixMs.push(...samples.unix_ms.slice(first));
    append(this.all, samples.all, first, this.unixMs.length);
    samples.shards.forEach((series, shard) => {
      this.shards[shard] ??= emptySeries(before);
      append(this.shards[shard], series, first, this.unixMs.length);
    });
    // A server that was started again with fewer shards tells nothing of the others.
    this.shards.length = samples.shards.length;
    this.#drop(Math.min(activity.samples_max, SAMPLES_MAX));
  }

  /** The newest value of a series. */
  latest(scope: Scope, name: SeriesName): number | null {
    return this.#series(scope)?.[name].at(-1) ?? null;
  }

  /** The last values of a series, the newest last. */
  tail(scope: Scope, name: SeriesName, count: number): Column {
    return this.#series(scope)?.[name].slice(-count) ?? [];
  }

  /** The samples of the last `spanMs`, with an empty one in each gap so that no line is drawn across it. */
  view(scope: Scope, names: SeriesName[], spanMs: number): View {
    const series = this.#series(scope);
    const newest = this.newestUnixMs();
    const times: number[] = [];
    const columns: Column[] = names.map(() => []);
    if (series === undefined || newest === null) {
      return [times, ...columns];
    }
    let previous: number | null = null;
    for (let place = 0; place < this.unixMs.length; place++) {
      const time = this.unixMs[place] as number;
      if (time <= newest - spanMs) {
        continue;
      }
      if (previous !== null && time - previous > GAP_INTERVALS * this.#intervalMs) {
        times.push((previous + this.#intervalMs) / 1000);
        for (const column of columns) {
          column.push(null);
        }
      }
      times.push(time / 1000);
      names.forEach((name, index) => {
        columns[index]?.push(series[name][place] ?? null);
      });
      previous = time;
    }
    return [times, ...columns];
  }

  #series(scope: Scope): Series | undefined {
    return scope === "all" ? this.all : this.shards[scope];
  }

  #clear(): void {
    this.unixMs = [];
    this.all = emptySeries(0);
    this.shards = [];
  }

  #drop(samplesMax: number): void {
    const surplus = this.unixMs.length - samplesMax;
    if (surplus <= 0) {
      return;
    }
    this.unixMs.splice(0, surplus);
    for (const series of [this.all, ...this.shards]) {
      for (const name of SERIES_NAMES) {
        series[name].splice(0, surplus);
      }
    }
  }
}

/** Appends what `source` has from `first` on, and fills up where it has less than there are times. */
function append(target: Series, source: Series, first: number, length: number): void {
  for (const name of SERIES_NAMES) {
    const column = target[name];
    for (const value of (source[name] ?? []).slice(first)) {
      column.push(value);
    }
    while (column.length < length) {
      column.push(null);
    }
  }
}
