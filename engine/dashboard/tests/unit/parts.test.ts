import { describe, expect, it } from "vitest";
import { decadeMarks, decades, linearEnd, linearMarks } from "../../src/charts/axis.ts";
import { outline } from "../../src/charts/sparkline.tsx";
import { target } from "../../src/parts/grid-keys.ts";

describe("axes", () => {
  it.each([
    [null, 4],
    [0, 4],
    [1, 4],
    [3.9, 6],
    [96, 100],
    [99, 120],
    [2300, 2400],
    [4293, 6000],
    [9900, 12_000],
  ])("for values up to %s end at %s", (max, expected) => {
    expect(linearEnd(max)).toBe(expected);
  });

  it.each([
    [null, null, [10, 10_000]],
    [238, 5310, [100, 10_000]],
    [1000, 1000, [1000, 100_000]],
    [0, 5, [1, 100]],
  ])("in powers of ten hold %s to %s", (min, max, expected) => {
    const [begin, end] = decades(min, max);
    expect([begin, end]).toEqual(expected);
    expect(decadeMarks(begin, end).at(-1)).toBe(end);
  });

  it("are marked in quarters", () => {
    expect(linearMarks(2000)).toEqual([0, 500, 1000, 1500, 2000]);
  });
});

describe("a sparkline", () => {
  it("ends at the right edge and is broken where there is no value", () => {
    const path = outline([1, 2, null, 4]);
    expect(path.match(/M/g)).toHaveLength(2);
    expect(path).toMatch(/120\.0 1\.5$/);
  });

  it("is flat at the bottom where all is 0, and empty where there is nothing", () => {
    expect(outline([0, 0])).toMatch(/^M\S+ 26\.5L120\.0 26\.5$/);
    expect(outline([])).toBe("");
  });
});

describe("arrow keys", () => {
  const tops = [0, 0, 0, 50, 50];
  it.each([
    ["ArrowRight", 0, 1],
    ["ArrowLeft", 0, null],
    ["ArrowDown", 1, 4],
    ["ArrowDown", 2, null],
    ["ArrowUp", 4, 1],
    ["End", 0, 4],
    ["Home", 4, 0],
    ["Enter", 2, null],
  ])("%s leads from %s to %s", (key, place, expected) => {
    expect(target(key, place, tops)).toBe(expected);
  });
});
