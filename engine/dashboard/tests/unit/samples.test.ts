import { describe, expect, it } from "vitest";
import { type Activity, SERIES_NAMES, type Series } from "../../src/activity/contract.ts";
import { Samples } from "../../src/activity/samples.ts";

/** A series that says the time of each sample in seconds, times a factor. */
function series(times: number[], factor: number): Series {
  return Object.fromEntries(SERIES_NAMES.map((name) => [name, times.map((time) => (time / 1000) * factor)])) as Series;
}

function answer(times: number[], shards = 2, samplesMax = 300): Activity {
  const each = Array.from({ length: shards }, (_, shard) => series(times, shard + 1));
  return {
    now_unix_ms: times.at(-1) ?? 0,
    interval_ms: 1000,
    samples_max: samplesMax,
    samples: { unix_ms: times, all: series(times, 10), shards: each },
    shards: [],
    busiest_rooms: [],
    slow_consumers: [],
  } as unknown as Activity;
}

function seconds(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, place) => 1000 * (from + place));
}

describe("samples", () => {
  it("are added once, whatever the server repeats", () => {
    const samples = new Samples();
    samples.merge(answer(seconds(1, 5)));
    samples.merge(answer(seconds(3, 7)));
    samples.merge(answer([]));
    expect(samples.unixMs).toEqual(seconds(1, 7));
    expect(samples.all.connections).toEqual([10, 20, 30, 40, 50, 60, 70]);
    expect(samples.latest(1, "busy")).toBe(14);
    expect(samples.latest(9, "busy")).toBeNull();
    expect(samples.newestUnixMs()).toBe(7000);
  });

  it("are as many as the server keeps", () => {
    const samples = new Samples();
    samples.merge(answer(seconds(1, 8), 2, 5));
    samples.merge(answer(seconds(9, 10), 2, 5));
    expect(samples.unixMs).toEqual(seconds(6, 10));
    expect(samples.shards[0]?.p99_us).toEqual([6, 7, 8, 9, 10]);
  });

  it("have a gap where none came, and no more than one empty sample for it", () => {
    const samples = new Samples();
    samples.merge(answer(seconds(1, 2)));
    samples.merge(answer(seconds(30, 31)));
    expect(samples.view("all", ["connections"], 60_000)).toEqual([
      [1, 2, 3, 30, 31],
      [10, 20, null, 300, 310],
    ]);
    expect(samples.view("all", ["connections"], 2000)).toEqual([
      [30, 31],
      [300, 310],
    ]);
  });

  it("of shards that come and go stay beside their times", () => {
    const samples = new Samples();
    samples.merge(answer(seconds(1, 2), 1));
    samples.merge(answer(seconds(3, 4), 2));
    expect(samples.shards[1]?.connections).toEqual([null, null, 6, 8]);
    samples.merge(answer(seconds(5, 5), 1));
    expect(samples.shards).toHaveLength(1);
    expect(samples.view(1, ["connections"], 60_000)).toEqual([[], []]);
  });

  it("begin anew where the server's clock was set back", () => {
    const samples = new Samples();
    samples.merge(answer(seconds(1000, 1005)));
    samples.merge(answer(seconds(10, 12)));
    expect(samples.unixMs).toEqual(seconds(10, 12));
  });
});
