// Numbers as people read them. English, whatever the browser's language: so is the page.

/** A number and what it is of. */
export interface Quantity {
  value: string;
  unit: string;
}

/** What stands where there is no number. */
export const NOTHING = "–";

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const THREE_DIGITS = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const CLOCK = new Intl.DateTimeFormat("en", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});
const MINUTE = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** How many: exact below a million, three digits above. */
export function count(number: number | null): Quantity {
  if (number === null) {
    return { value: NOTHING, unit: "" };
  }
  if (Math.abs(number) >= 1e9) {
    return { value: THREE_DIGITS.format(number / 1e9), unit: "G" };
  }
  if (Math.abs(number) >= 1e6) {
    return { value: THREE_DIGITS.format(number / 1e6), unit: "M" };
  }
  return { value: (Math.abs(number) < 10 ? TENTHS : WHOLE).format(number), unit: "" };
}

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(number: number | null): Quantity {
  if (number === null) {
    return { value: NOTHING, unit: "" };
  }
  let value = number;
  let unit = 0;
  while (value >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const text = unit === 0 ? WHOLE.format(value) : THREE_DIGITS.format(value);
  return { value: text, unit: BYTE_UNITS[unit] as string };
}

/** A time that was measured in microseconds. */
export function microseconds(number: number | null): Quantity {
  if (number === null) {
    return { value: NOTHING, unit: "" };
  }
  if (number < 999.5) {
    return { value: THREE_DIGITS.format(number), unit: "µs" };
  }
  if (number < 999_500) {
    return { value: THREE_DIGITS.format(number / 1e3), unit: "ms" };
  }
  return { value: THREE_DIGITS.format(number / 1e6), unit: "s" };
}

/** A share of 1. */
export function share(number: number | null): Quantity {
  return number === null ? { value: NOTHING, unit: "" } : { value: WHOLE.format(100 * number), unit: "%" };
}

export function text({ value, unit }: Quantity): string {
  return unit === "" ? value : `${value}\u00a0${unit}`;
}

/** For how long: the two largest units. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  const shown = first < 0 ? parts.slice(-1) : parts.slice(first, first + 2);
  return shown.map(([number, unit]) => `${number}\u00a0${unit}`).join(" ");
}

/** The time of day, by the clock of whoever looks. */
export function clock(unixMs: number): string {
  return CLOCK.format(unixMs);
}

export function minute(unixMs: number): string {
  return MINUTE.format(unixMs);
}
