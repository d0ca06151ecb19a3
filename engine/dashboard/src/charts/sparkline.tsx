// The last minute of a number, without axes: only its shape.

import type { Column } from "../activity/contract.ts";

const WIDTH = 120;
const HEIGHT = 28;
export const SPARKLINE_SAMPLES = 60;
const STEP = WIDTH / (SPARKLINE_SAMPLES - 1);

export function Sparkline({ values }: { values: Column }) {
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      <path class="sparkline-area" d={area(values)} />
      <path class="sparkline-line" d={outline(values)} />
    </svg>
  );
}

/** What lies below the line. */
function area(values: Column): string {
  const known = values.map((value) => value ?? 0);
  const begin = WIDTH - STEP * (values.length - 1);
  return values.length < 2 ? "" : `${outline(known)}L${WIDTH} ${HEIGHT}L${begin.toFixed(1)} ${HEIGHT}Z`;
}

/** The path of the values, the newest at the right edge; where there are none the line is broken. */
export function outline(values: Column): string {
  const largest = Math.max(...values.map((value) => value ?? 0), 0);
  const begin = WIDTH - STEP * (values.length - 1);
  let isDrawing = false;
  const parts = values.map((value, place) => {
    if (value === null) {
      isDrawing = false;
      return "";
    }
    const command = isDrawing ? "L" : "M";
    isDrawing = true;
    const height = largest === 0 ? 0 : (value / largest) * (HEIGHT - 3);
    return `${command}${(begin + place * STEP).toFixed(1)} ${(HEIGHT - 1.5 - height).toFixed(1)}`;
  });
  return parts.join("");
}
