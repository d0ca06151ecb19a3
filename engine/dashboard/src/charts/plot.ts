// The canvas of a chart: uPlot, in the colours of the theme.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock, minute, type Quantity, text } from "../format.ts";
import { decadeMarks, decades, linearEnd, linearMarks } from "./axis.ts";

export interface Line {
  label: string;
  /** The custom property with its colour. */
  color: string;
  dash?: number[];
  filled?: boolean;
}

export interface PlotOptions {
  lines: Line[];
  scale: "linear" | "log";
  format: (value: number | null) => Quantity;
  /** Called with the place of the sample under the pointer, and with null when the pointer leaves. */
  onPoint: (place: number | null) => void;
}

const HEIGHT = 188;
const AXIS_WIDTH = 64;
/** Seconds between two marks of the time. */
const X_STEPS_S = [1, 5, 10, 20, 60, 120, 300, 600];
const FONT = '11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/** A custom property's colour, as a canvas takes it. */
function resolve(host: HTMLElement, property: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${property})`;
  host.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function translucent(color: string, alpha: number): string {
  return color.replace(/^rgb\((.*)\)$/, (_, channels: string) => `rgba(${channels}, ${alpha})`);
}

/** Makes the chart in its host, which it fills in width. */
export function plot(host: HTMLElement, options: PlotOptions, data: uPlot.AlignedData): uPlot {
  const muted = resolve(host, "--muted");
  const grid = { stroke: resolve(host, "--grid"), width: 1 };
  const isLog = options.scale === "log";
  return new uPlot(
    {
      width: Math.max(host.clientWidth, 200),
      height: HEIGHT,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "activity" },
        y: false,
        drag: { x: false, y: false, setScale: false },
        points: { size: 7 },
      },
      scales: {
        x: { time: true },
        y: {
          distr: isLog ? 3 : 1,
          range: (_, min, max) => (isLog ? decades(min, max) : [0, linearEnd(max)]),
        },
      },
      axes: [
        {
          stroke: muted,
          font: FONT,
          size: 28,
          // Seconds make the marks wider.
          space: (self) => ((self.scales.x?.max ?? 0) - (self.scales.x?.min ?? 0) < 200 ? 68 : 48),
          incrs: X_STEPS_S,
          grid: { show: false },
          ticks: { show: false },
          values: (_, marks, __, ___, step) => marks.map((mark) => (step < 60 ? clock : minute)(mark * 1000)),
        },
        {
          stroke: muted,
          font: FONT,
          size: AXIS_WIDTH,
          gap: 8,
          grid,
          ticks: { show: false },
          splits: (_, __, min, max) => (isLog ? decadeMarks(min, max) : linearMarks(max)),
          values: (_, marks) => marks.map((mark) => text(options.format(mark))),
          ...(isLog ? { filter: (_: uPlot, marks: number[]) => marks } : {}),
        },
      ],
      series: [
        {},
        ...options.lines.map(({ label, color, dash, filled }) => {
          const stroke = resolve(host, color);
          return {
            label,
            stroke,
            width: 1.75,
            points: { show: false },
            ...(dash === undefined ? {} : { dash }),
            ...(filled === true ? { fill: translucent(stroke, 0.09) } : {}),
          };
        }),
      ],
      hooks: {
        setCursor: [(self) => options.onPoint(self.cursor.idx ?? null)],
      },
    },
    data,
    host,
  );
}

export function resize(chart: uPlot, width: number): void {
  chart.setSize({ width: Math.max(width, 200), height: HEIGHT });
}
