// Where the axes of a chart begin, end and are marked.

/** Ends of an axis whose quarters are round too. */
const STEPS = [1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10];

/** Of what is counted a quarter of the axis is a whole number at the least. */
const END_MIN = 4;
/** The largest value stays below the end. */
const MARGIN = 1.03;

/** The end of an axis that begins at 0: the next round number above the largest value. */
export function linearEnd(max: number | null): number {
  if (max === null || max * MARGIN <= END_MIN) {
    return END_MIN;
  }
  const power = 10 ** Math.floor(Math.log10(max));
  const step = STEPS.find((step) => step * power >= max * MARGIN) ?? 12;
  return step * power;
}

/** An axis in powers of ten, which holds the values and at least two decades. */
export function decades(min: number | null, max: number | null): [number, number] {
  if (min === null || max === null || max <= 0) {
    return [10, 10_000];
  }
  const low = Math.floor(Math.log10(Math.max(min, 1)));
  const high = Math.max(Math.ceil(Math.log10(max * 1.0001)), low + 2);
  return [10 ** low, 10 ** high];
}

/** Marks of an axis from 0: halves and quarters of it. */
export function linearMarks(end: number): number[] {
  return [0, end / 4, end / 2, (3 * end) / 4, end];
}

/** Marks of an axis in powers of ten: each of them. */
export function decadeMarks(begin: number, end: number): number[] {
  const marks = [];
  for (let mark = begin; mark <= end * 1.0001; mark *= 10) {
    marks.push(mark);
  }
  return marks;
}
