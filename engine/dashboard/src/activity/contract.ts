// What `GET /v1/activity` answers. The document at /openapi.json describes the same.

export const SERIES_NAMES = [
  "connections",
  "accepts_per_s",
  "messages_per_s",
  "deliveries_per_s",
  "received_bytes_per_s",
  "sent_bytes_per_s",
  "dropped_per_s",
  "busy",
  "p50_us",
  "p99_us",
  "p999_us",
] as const;

export type SeriesName = (typeof SERIES_NAMES)[number];

/** One value a sample; null where nothing was delivered in that second, or nothing is known of it. */
export type Column = (number | null)[];
export type Series = Record<SeriesName, Column>;

export interface NodeState {
  version: string;
  phase: "serving" | "draining" | "drained";
  listen: string;
  /** Where clients connect; absent in servers that are older than this page. */
  url?: string;
  shards: number;
  connections: number;
  started_unix_ms: number;
  uptime_ms: number;
}

export interface ShardState {
  shard: number;
  core: number | null;
  answers: boolean;
  restarts: number;
  connections: number;
  rooms: number;
  outboxes: number;
  outbox_bytes: number;
  mailbox_depth: number;
  history_bytes: number;
}

export interface BusyRoom {
  room: string;
  connections: number;
  messages_per_s: number;
  deliveries_per_s: number;
}

export interface SlowConsumer {
  id: string;
  user: string;
  shard: number;
  outbox_bytes: number;
}

export interface Activity {
  now_unix_ms: number;
  interval_ms: number;
  samples_max: number;
  node: NodeState;
  shards: ShardState[];
  samples: { unix_ms: number[]; all: Series; shards: Series[] };
  busiest_rooms: BusyRoom[];
  slow_consumers: SlowConsumer[];
}
