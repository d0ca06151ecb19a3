// One chart with its title, the values of its lines, and the same in words.

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import type uPlot from "uplot";
import type { SeriesName } from "../activity/contract.ts";
import { revision, samples } from "../activity/feed.ts";
import type { Scope, View } from "../activity/samples.ts";
import { clock, type Quantity, text } from "../format.ts";
import { theme } from "../theme.ts";
import { type Line, plot, resize } from "./plot.ts";

export interface ChartLine extends Line {
  series: SeriesName;
}

export interface ChartProps {
  title: string;
  lines: ChartLine[];
  scale?: "linear" | "log";
  format: (value: number | null) => Quantity;
  scope: Scope;
  spanMs: number;
}

export function Chart({ title, lines, scale = "linear", format, scope, spanMs }: ChartProps) {
  const host = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const pointed = useSignal<number | null>(null);
  const colors = theme.value;
  const names = lines.map((line) => line.series);
  const view = useMemo(() => samples.view(scope, names, spanMs), [revision.value, scope, spanMs]);

  useEffect(() => {
    const element = host.current;
    if (element === null) {
      return;
    }
    const onPoint = (place: number | null) => {
      pointed.value = place;
    };
    const made = plot(element, { lines, scale, format, onPoint }, view as uPlot.AlignedData);
    chart.current = made;
    const watch = new ResizeObserver(() => resize(made, element.clientWidth));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      chart.current = null;
    };
    // Lines and formats are constants of whoever shows the chart.
  }, [colors]);

  useEffect(() => {
    chart.current?.setData(view as uPlot.AlignedData);
  }, [view]);

  const place = pointed.value !== null && pointed.value < view[0].length ? pointed.value : null;
  return (
    <figure class="card chart">
      <figcaption>
        <h3>{title}</h3>
        <p class="readings" aria-hidden="true">
          {place !== null && <span class="reading-time">{clock((view[0][place] as number) * 1000)}</span>}
          {lines.map((line, index) => (
            <span class="reading" key={line.label}>
              <i class={`key ${line.dash === undefined ? "" : "dashed"}`} style={{ color: `var(${line.color})` }} />
              {lines.length > 1 && <span class="reading-label">{line.label}</span>}
              <b>{text(format(valueAt(view, index, place)))}</b>
            </span>
          ))}
        </p>
      </figcaption>
      <div class="canvas" ref={host} role="img" aria-label={inWords(title, lines, view, format)} />
      {isEmpty(view) && <p class="chart-empty">Nothing in this span yet</p>}
    </figure>
  );
}

function valueAt([times, ...columns]: View, index: number, place: number | null): number | null {
  return columns[index]?.[place ?? times.length - 1] ?? null;
}

function isEmpty([, ...columns]: View): boolean {
  return columns.every((column) => column.every((value) => value === null));
}

function inWords(title: string, lines: ChartLine[], view: View, format: ChartProps["format"]): string {
  const parts = lines.map(({ label }, index) => {
    const values = (view[index + 1] as (number | null)[]).filter((value) => value !== null);
    if (values.length === 0) {
      return `${label}: no values`;
    }
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const now = text(format(valueAt(view, index, null)));
    return `${label}: now ${now}, from ${text(format(least))} to ${text(format(most))}`;
  });
  return `Chart of ${title.toLowerCase()}. ${parts.join(". ")}.`;
}
