// Tables that scroll by themselves where they are wider than the screen, by the keyboard too.

import type { ComponentChildren } from "preact";

export interface Heading {
  text: string;
  isNumber?: boolean;
  /** Left out on a phone. */
  isExtra?: boolean;
  isHidden?: boolean;
}

interface TableProps {
  label: string;
  headings: Heading[];
  /** Shown in place of the rows where there are none. */
  empty: string;
  rows: ComponentChildren[];
}

export function Table({ label, headings, empty, rows }: TableProps) {
  if (rows.length === 0) {
    return <p class="empty">{empty}</p>;
  }
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable by the keyboard.
    <section class="table-scroll" aria-label={`Table: ${label}`} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {headings.map(({ text, isNumber, isExtra, isHidden }) => (
              <th scope="col" key={text} class={classes({ number: isNumber, extra: isExtra })}>
                {isHidden === true ? <span class="visually-hidden">{text}</span> : text}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{rows}</tbody>
      </table>
    </section>
  );
}

export function classes(names: Record<string, boolean | undefined>): string {
  return Object.keys(names)
    .filter((name) => names[name] === true)
    .join(" ");
}
