// How far back the charts reach. One choice for all pages.

import { signal } from "@preact/signals";

const SPANS = [
  { label: "1 min", ms: 60_000 },
  { label: "5 min", ms: 300_000 },
];

export const spanMs = signal(300_000);

export function SpanChoice() {
  return (
    <fieldset class="choice">
      <legend class="visually-hidden">Span of the charts</legend>
      {SPANS.map(({ label, ms }) => (
        <label key={ms}>
          <input
            type="radio"
            name="span"
            checked={spanMs.value === ms}
            onChange={() => {
              spanMs.value = ms;
            }}
          />
          <span>{label}</span>
        </label>
      ))}
    </fieldset>
  );
}
