// The rooms with most deliveries.

import { activity } from "../activity/feed.ts";
import { count, text } from "../format.ts";
import { href } from "../route.ts";
import { Bar } from "./bar.tsx";
import { type Heading, Table } from "./table.tsx";

const HEADINGS: Heading[] = [
  { text: "Room" },
  { text: "Members", isNumber: true, isExtra: true },
  { text: "Messages/s", isNumber: true },
  { text: "Deliveries/s", isNumber: true },
];

export function BusiestRooms({ rowsMax }: { rowsMax: number }) {
  const rooms = activity.value?.busiest_rooms.slice(0, rowsMax) ?? [];
  const most = rooms[0]?.deliveries_per_s ?? 0;
  return (
    <Table
      label="Busiest rooms"
      headings={HEADINGS}
      empty="No room is busy. Rooms are counted while this page is open."
      rows={rooms.map((room) => (
        <tr key={room.room}>
          <th scope="row">
            <a href={href("chat", "", { room: room.room })} title="Open this room in the chat">
              {room.room}
            </a>
          </th>
          <td class="number extra">{text(count(room.connections))}</td>
          <td class="number">{text(count(room.messages_per_s))}</td>
          <td class="number">
            <Bar share={most === 0 ? 0 : room.deliveries_per_s / most} />
            <span class="figure">{text(count(room.deliveries_per_s))}</span>
          </td>
        </tr>
      ))}
    />
  );
}
