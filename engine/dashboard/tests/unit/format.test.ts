import { describe, expect, it } from "vitest";
import { bytes, count, duration, microseconds, share, text } from "../../src/format.ts";

/** With plain spaces, which can be told apart here. */
const plain = (value: string) => value.replaceAll("\u00a0", " ");

describe("numbers as people read them", () => {
  it.each([
    [0, "0"],
    [0.25, "0.3"],
    [9.5, "9.5"],
    [12.4, "12"],
    [999_999, "999,999"],
    [1_234_567, "1.23 M"],
    [2_000_000_000, "2 G"],
    [null, "–"],
  ])("counts %s as %s", (number, expected) => {
    expect(plain(text(count(number)))).toBe(expected);
  });

  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1023, "1,023 B"],
    [1024, "1 KiB"],
    [65_536, "64 KiB"],
    [14_680_064, "14 MiB"],
    [1.5 * 1024 ** 4, "1.5 TiB"],
    [5000 * 1024 ** 4, "5,000 TiB"],
  ])("says %s bytes as %s", (number, expected) => {
    expect(plain(text(bytes(number)))).toBe(expected);
  });

  it.each([
    [0, "0 µs"],
    [999.4, "999 µs"],
    [999.5, "1 ms"],
    [1234, "1.23 ms"],
    [999_499, "999 ms"],
    [999_500, "1 s"],
    [12_000_000, "12 s"],
    [null, "–"],
  ])("says %s microseconds as %s", (number, expected) => {
    expect(plain(text(microseconds(number)))).toBe(expected);
  });

  it("says shares as percent", () => {
    expect(plain(text(share(0.426)))).toBe("43 %");
  });

  it.each([
    [0, "0 s"],
    [59_999, "59 s"],
    [61_000, "1 min 1 s"],
    [3_600_000, "1 h 0 min"],
    [90_061_000, "1 d 1 h"],
    [-5, "0 s"],
  ])("says %s ms as %s", (ms, expected) => {
    expect(plain(duration(ms))).toBe(expected);
  });
});
