// The charts in words and figures: the last samples as a table, for whoever asks.

import { useSignal } from "@preact/signals";
import type { SeriesName } from "../activity/contract.ts";
import { revision, samples } from "../activity/feed.ts";
import type { Scope } from "../activity/samples.ts";
import { clock, count, microseconds, type Quantity, text } from "../format.ts";
import { type Heading, Table } from "./table.tsx";

const ROWS = 10;

const COLUMNS: { heading: string; series: SeriesName; format: (value: number | null) => Quantity }[] = [
  { heading: "Connections", series: "connections", format: count },
  { heading: "Messages/s", series: "messages_per_s", format: count },
  { heading: "Deliveries/s", series: "deliveries_per_s", format: count },
  { heading: "p50", series: "p50_us", format: microseconds },
  { heading: "p99", series: "p99_us", format: microseconds },
  { heading: "p99.9", series: "p999_us", format: microseconds },
];

const HEADINGS: Heading[] = [{ text: "Time" }, ...COLUMNS.map(({ heading }) => ({ text: heading, isNumber: true }))];

export function LatestSamples({ scope }: { scope: Scope }) {
  const isOpen = useSignal(false);
  return (
    <details
      class="latest"
      onToggle={(event) => {
        isOpen.value = event.currentTarget.open;
      }}
    >
      <summary>The last seconds as a table</summary>
      {isOpen.value && <Rows scope={scope} />}
    </details>
  );
}

function Rows({ scope }: { scope: Scope }) {
  void revision.value;
  const times = samples.unixMs.slice(-ROWS);
  const columns = COLUMNS.map(({ series }) => samples.tail(scope, series, ROWS));
  const rows = times.map((time, place) => (
    <tr key={time}>
      <th scope="row">{clock(time)}</th>
      {COLUMNS.map(({ heading, format }, column) => (
        <td class="number" key={heading}>
          {text(format(columns[column]?.[place] ?? null))}
        </td>
      ))}
    </tr>
  ));
  return <Table label="The last seconds" headings={HEADINGS} empty="No samples yet." rows={rows.reverse()} />;
}
