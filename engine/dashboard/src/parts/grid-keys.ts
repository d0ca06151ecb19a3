// Arrow keys in cells that are laid out in rows.

/** The place that a key leads to; null where it leads nowhere. `tops` has where each cell's top is, which tells the rows. */
export function target(key: string, place: number, tops: number[]): number | null {
  const columns = Math.max(1, tops.filter((top) => top === tops[0]).length);
  const next = {
    ArrowRight: place + 1,
    ArrowLeft: place - 1,
    ArrowDown: place + columns,
    ArrowUp: place - columns,
    Home: 0,
    End: tops.length - 1,
  }[key];
  return next === undefined || next < 0 || next >= tops.length ? null : next;
}
