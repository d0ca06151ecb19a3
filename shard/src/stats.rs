//! A shard's numbers: counters, gauges and histograms. The shard writes them, any thread may read them.
//!
//! Each has one writer, so an increment is a load and a store without a lock. A reader sees each
//! number whole, but not all of them at one moment.
//!
//! One table says what there is, under which name of Prometheus (`_total`, `_seconds`, `_bytes`) and which label. Names are for ever: dashboards and alerts rest on
//! them. Counters are written where what they count happens; gauges that are kept elsewhere are copied here where the shard goes to sleep, and ten
//! times a second while it does not (`shard/measuring.rs`).

mod histogram;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::app::{Count, TokenOutcome};

pub use histogram::{BOUNDS_US, Durations, Histogram};

/// How old a gauge of a busy shard gets.
pub(crate) const GAUGES_US: u64 = 100_000;

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; for the shard's own thread.
    pub fn add(&self, count: u64) {
        self.0
            .store(self.value().wrapping_add(count), Ordering::Relaxed);
    }

    /// Subtracts, where the number is a level; for the shard's own thread.
    pub fn subtract(&self, count: u64) {
        self.0
            .store(self.value().wrapping_sub(count), Ordering::Relaxed);
    }

    /// Replaces the number, where it is a level; for the shard's own thread.
    pub fn set(&self, level: u64) {
        self.0.store(level, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It is a level.
    Gauge,
}

/// One number as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its name in the code.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Its name for Prometheus. Rows that differ by a label alone share it.
    pub family: &'static str,
    /// What the family counts.
    pub family_help: &'static str,
    /// What it does.
    pub kind: Kind,
    /// Name and value of what tells it from others of its family.
    pub label: Option<(&'static str, &'static str)>,
    /// The number.
    pub value: u64,
}

/// One histogram as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramReading {
    /// What it counts.
    pub help: &'static str,
    /// Its name for Prometheus.
    pub family: &'static str,
    /// The numbers.
    pub durations: Durations,
}

macro_rules! stats {
    (
        numbers {
            $( #[doc = $help:literal] $name:ident: $kind:ident $family:literal $( { $label:ident = $of:literal } )?; )*
        }
        histograms {
            $( #[doc = $times_help:literal] $times:ident: $times_family:literal; )*
        }
    ) => {
        /// The numbers of one shard. They go on when the shard is started again.
        #[derive(Debug, Default)]
        // On cache lines of its own: the neighbours belong to other threads.
        #[repr(align(128))]
        pub struct ShardStats {
            $( #[doc = $help] pub $name: Counter, )*
            $( #[doc = $times_help] pub $times: Histogram, )*
        }

        impl ShardStats {
            /// All counters and gauges, in the order of their declaration. Rows of one family follow each other.
            #[must_use]
            pub fn readings(&self) -> Vec<Reading> {
                vec![ $( Reading {
                    name: stringify!($name),
                    help: $help.trim_ascii(),
                    family: $family,
                    family_help: family_help($family).unwrap_or($help.trim_ascii()),
                    kind: kind!($kind),
                    label: [ $( (stringify!($label), $of) )? ].first().copied(),
                    value: self.$name.value(),
                }, )* ]
            }

            /// All histograms, in the order of their declaration.
            #[must_use]
            pub fn histograms(&self) -> Vec<HistogramReading> {
                vec![ $( HistogramReading {
                    help: $times_help.trim_ascii(),
                    family: $times_family,
                    durations: self.$times.durations(),
                }, )* ]
            }
        }
    };
}

macro_rules! kind {
    (counter) => {
        Kind::Counter
    };
    (gauge) => {
        Kind::Gauge
    };
}

fn family_help(family: &str) -> Option<&'static str> {
    let found = LABELLED.iter().find(|(name, _)| *name == family);
    found.map(|(_, help)| *help)
}

impl ShardStats {
    /// Counts what only the application can see.
    pub(crate) fn count(&self, what: Count) {
        let counter = match what {
            Count::MalformedMessage => &self.malformed_messages,
            Count::BadRequest => &self.bad_requests,
            Count::Token(outcome) => match outcome {
                TokenOutcome::Accepted => &self.tokens_accepted,
                TokenOutcome::TooLarge => &self.tokens_too_large,
                TokenOutcome::Malformed => &self.tokens_malformed,
                TokenOutcome::AlgorithmNone => &self.tokens_algorithm_none,
                TokenOutcome::AlgorithmNotPermitted => &self.tokens_algorithm_not_permitted,
                TokenOutcome::UnknownKey => &self.tokens_unknown_key,
                TokenOutcome::Signature => &self.tokens_signature,
                TokenOutcome::Expired => &self.tokens_expired,
                TokenOutcome::NotYetValid => &self.tokens_not_yet_valid,
                TokenOutcome::Issuer => &self.tokens_issuer,
                TokenOutcome::Audience => &self.tokens_audience,
                TokenOutcome::Claims => &self.tokens_claims,
                TokenOutcome::OtherUser => &self.tokens_other_user,
                TokenOutcome::NoKeys => &self.tokens_no_keys,
            },
        };
        counter.add(1);
    }
}

/// What families say whose rows differ by a label. A family without a label says what its row does.
const LABELLED: &[(&str, &str)] = &[
    (
        "shardcast_handshakes_total",
        "Handshakes of WebSocket, by what became of them.",
    ),
    (
        "shardcast_tls_handshakes_total",
        "Handshakes of TLS that ended well, by what they agreed on.",
    ),
    (
        "shardcast_connections_refused_total",
        "Connections that were turned away, by the bound that was reached.",
    ),
    (
        "shardcast_socket_errors_total",
        "Operations on sockets that failed.",
    ),
    (
        "shardcast_connections_ended_total",
        "Connections that the server ended, by reason.",
    ),
    (
        "shardcast_messages_dropped_total",
        "Messages left out for consumers that were too slow, by policy.",
    ),
    (
        "shardcast_requests_refused_total",
        "Messages of clients that were refused, by reason.",
    ),
    (
        "shardcast_tokens_total",
        "Tokens that were looked at, by what became of them.",
    ),
];

stats! {
    numbers {
        /// Connections accepted.
        connections_accepted: counter "shardcast_connections_accepted_total";
        /// Connections there are now, handshakes and goodbyes included.
        connections_open: gauge "shardcast_connections";
        /// Connections that are gone.
        connections_closed: counter "shardcast_connections_closed_total";
        /// Handshakes that led to an open connection.
        handshakes_accepted: counter "shardcast_handshakes_total" { outcome = "accepted" };
        /// Handshakes that were answered with an error or took too long.
        handshakes_rejected: counter "shardcast_handshakes_total" { outcome = "rejected" };
        /// Handshakes of TLS that ended well, with a signature of the certificate's key.
        tls_handshakes_full: counter "shardcast_tls_handshakes_total" { kind = "full" };
        /// Handshakes of TLS that ended well, with what a former connection had agreed on.
        tls_handshakes_resumed: counter "shardcast_tls_handshakes_total" { kind = "resumed" };
        /// Connections that ended because TLS failed, in the handshake or after it.
        tls_errors: counter "shardcast_tls_errors_total";
        /// Connections turned away with 503.
        refused_full: counter "shardcast_connections_refused_total" { reason = "full" };
        /// Connections turned away with 429.
        refused_address: counter "shardcast_connections_refused_total" { reason = "address" };
        /// Messages received from clients.
        messages_received: counter "shardcast_messages_received_total";
        /// Messages received compressed.
        messages_inflated: counter "shardcast_messages_inflated_total";
        /// Messages compressed: once for all members of a shard whose windows have one size.
        messages_compressed: counter "shardcast_messages_compressed_total";
        /// Connections that agreed on compression.
        compression_agreed: counter "shardcast_compression_agreed_total";
        /// Bytes received, handshakes and frame headers included.
        bytes_received: counter "shardcast_received_bytes_total";
        /// Payloads queued to connections.
        deliveries_sent: counter "shardcast_deliveries_total";
        /// Sends that have ended.
        sends: counter "shardcast_sends_total";
        /// Sends that did not leave at once as a whole: the peer reads too slowly for them, or has gone.
        sends_unfinished: counter "shardcast_sends_unfinished_total";
        /// Passes after which output waited to leave together with more.
        passes_coalesced: counter "shardcast_passes_coalesced_total";
        /// Bytes sent, frame headers included.
        bytes_sent: counter "shardcast_sent_bytes_total";
        /// Sends that failed.
        send_errors: counter "shardcast_socket_errors_total" { operation = "send" };
        /// Receives that failed.
        receive_errors: counter "shardcast_socket_errors_total" { operation = "receive" };
        /// Times that accepting ended with an error.
        accept_errors: counter "shardcast_socket_errors_total" { operation = "accept" };
        /// Receives that ended because every buffer was in use (ENOBUFS; `receive_buffers_max`).
        receive_no_buffers: counter "shardcast_receive_no_buffers_total";
        /// Times that accepting rested because so many came (`accepts_per_second_max`).
        accepts_paced: counter "shardcast_accepts_paced_total";
        /// Connections closed because the peer broke RFC 6455.
        close_protocol: counter "shardcast_connections_ended_total" { reason = "protocol" };
        /// Connections closed because the consumer was too slow.
        close_slow_consumer: counter "shardcast_connections_ended_total" { reason = "slow_consumer" };
        /// Connections closed because their user had too many (`user_connections_max`).
        close_user_connections: counter "shardcast_connections_ended_total" { reason = "user_connections" };
        /// Connections closed because heartbeats were not answered.
        close_heartbeat: counter "shardcast_connections_ended_total" { reason = "heartbeat" };
        /// Connections closed because their handling panicked.
        close_panic: counter "shardcast_connections_ended_total" { reason = "panic" };
        /// Connections closed because the operator wanted it.
        close_ordered: counter "shardcast_connections_ended_total" { reason = "ordered" };
        /// Connections closed because what they were granted has ended.
        close_expired: counter "shardcast_connections_ended_total" { reason = "expired" };
        /// Connections closed because their first message did not say, or not in time, whose they are.
        close_unnamed: counter "shardcast_connections_ended_total" { reason = "unnamed" };
        /// Connections closed because it was decided outside of the server that they may not come in, or not stay.
        close_dismissed: counter "shardcast_connections_ended_total" { reason = "dismissed" };
        /// Connections and messages that nobody has decided about within `decision_ms_max`.
        undecided: counter "shardcast_undecided_total";
        /// Verdicts about connections and messages that did not wait for them any more.
        verdicts_stale: counter "shardcast_verdicts_stale_total";
        /// Joins that recovered nothing because too much of other rooms waited for the connection already.
        recoveries_refused: counter "shardcast_recoveries_refused_total";
        /// Messages dropped for consumers that were too slow.
        dropped_oldest: counter "shardcast_messages_dropped_total" { reason = "oldest" };
        /// Messages that gave way to the next of their room before they had begun to leave.
        conflated: counter "shardcast_messages_dropped_total" { reason = "conflated" };
        /// Times that a connection was told that it sends too much.
        rate_limited: counter "shardcast_rate_limited_total";
        /// Times that a connection was not read for a while.
        reading_paused: counter "shardcast_reading_paused_total";
        /// Messages that were not readable at all.
        malformed_messages: counter "shardcast_requests_refused_total" { reason = "malformed" };
        /// Requests that were refused.
        bad_requests: counter "shardcast_requests_refused_total" { reason = "bad_request" };
        /// Requests of connections whose grant does not permit them.
        forbidden: counter "shardcast_requests_refused_total" { reason = "forbidden" };
        /// Tokens that were good.
        tokens_accepted: counter "shardcast_tokens_total" { outcome = "accepted" };
        /// Tokens refused because they were larger than `token_size_max`.
        tokens_too_large: counter "shardcast_tokens_total" { outcome = "too_large" };
        /// Tokens refused because they were malformed or came twice.
        tokens_malformed: counter "shardcast_tokens_total" { outcome = "malformed" };
        /// Tokens refused because they were not signed (`alg` is `none`).
        tokens_algorithm_none: counter "shardcast_tokens_total" { outcome = "algorithm_none" };
        /// Tokens refused because the key does not permit their algorithm.
        tokens_algorithm_not_permitted: counter "shardcast_tokens_total" { outcome = "algorithm_not_permitted" };
        /// Tokens refused because no key is known for them.
        tokens_unknown_key: counter "shardcast_tokens_total" { outcome = "unknown_key" };
        /// Tokens refused because their signature is wrong.
        tokens_signature: counter "shardcast_tokens_total" { outcome = "signature" };
        /// Tokens refused because they have expired.
        tokens_expired: counter "shardcast_tokens_total" { outcome = "expired" };
        /// Tokens refused because they are not yet valid.
        tokens_not_yet_valid: counter "shardcast_tokens_total" { outcome = "not_yet_valid" };
        /// Tokens refused because somebody else issued them.
        tokens_issuer: counter "shardcast_tokens_total" { outcome = "issuer" };
        /// Tokens refused because they are meant for somebody else.
        tokens_audience: counter "shardcast_tokens_total" { outcome = "audience" };
        /// Tokens refused because of what they say of user, rooms or times.
        tokens_claims: counter "shardcast_tokens_total" { outcome = "claims" };
        /// Tokens refused because they name another user than the connection's.
        tokens_other_user: counter "shardcast_tokens_total" { outcome = "other_user" };
        /// Tokens that could not be checked because there were no keys yet.
        tokens_no_keys: counter "shardcast_tokens_total" { outcome = "no_keys" };
        /// Panics of the application outside of any connection.
        panics: counter "shardcast_panics_total";
        /// Times that this shard was started again.
        restarts: counter "shardcast_shard_restarts_total";
        /// Orders of other threads carried out.
        orders: counter "shardcast_orders_total";
        /// Mails sent to other shards.
        mails_sent: counter "shardcast_mails_sent_total";
        /// Mails received from other shards.
        mails_received: counter "shardcast_mails_received_total";
        /// Times that mail found another shard's mailbox full.
        mailbox_full: counter "shardcast_mailbox_full_total";
        /// Wakes of other shards.
        wakes: counter "shardcast_wakes_total";
        /// Times that this shard slept.
        sleeps: counter "shardcast_sleeps_total";
        /// Passes of the loop.
        passes: counter "shardcast_passes_total";
        /// Deadlines of connections that passed.
        timers_fired: counter "shardcast_timers_fired_total";
        /// Heartbeats sent.
        pings_sent: counter "shardcast_pings_sent_total";
        /// Completions for connections that were gone.
        stale_completions: counter "shardcast_completions_stale_total";
        /// Connections still open when the time to stop was over.
        stop_dropped: counter "shardcast_stop_dropped_total";
        /// Connections that the rooms know of: their handshake is done, and they are not closing.
        members: gauge "shardcast_members";
        /// Rooms whose home this shard is.
        rooms: gauge "shardcast_rooms";
        /// Inboxes whose home this shard is.
        inboxes: gauge "shardcast_inboxes";
        /// Rooms that have members on this shard.
        slices: gauge "shardcast_room_slices";
        /// Bytes of the histories whose home this shard is.
        history_bytes: gauge "shardcast_history_bytes";
        /// Connections that output waits for, or is being sent to.
        outboxes: gauge "shardcast_outboxes";
        /// Bytes that wait for consumers that do not read as fast as they are sent to, or are being sent to them.
        outbox_bytes: gauge "shardcast_outbox_bytes";
        /// Mails of this shard that wait because a mailbox is full. While any does, the shard decodes nothing.
        mails_waiting: gauge "shardcast_mails_waiting";
        /// System calls to submit to the ring or to reap from it.
        ring_enters: counter "shardcast_ring_enters_total";
        /// Times that completions found no room in the ring's queue and were fetched from the kernel (`completions_max`).
        ring_overflows: counter "shardcast_ring_overflows_total";
        /// Submissions that the kernel put off, for want of memory or because completions had to be reaped first.
        ring_busy: counter "shardcast_ring_busy_total";
        /// Entries that found no room in the submission queue and went with the next pass.
        ring_deferred: counter "shardcast_ring_deferred_total";
        /// Wakes that found the other shard down, or its ring unable to take the message.
        wakes_failed: counter "shardcast_wakes_failed_total";
    }
    histograms {
        /// From the beginning of a pass in which there was something to do to the beginning of the next: what it did, and the sends that it left to the kernel.
        pass_time: "shardcast_pass_seconds";
        /// From the pass in which a message of a client was taken in, on whichever shard, to when the kernel had been given it for a member; once for each member.
        delivery_latency: "shardcast_delivery_latency_seconds";
        /// From when another shard rang for this one, which was asleep or about to be, to its pass.
        wake_latency: "shardcast_wake_latency_seconds";
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn readings_name_every_number_once() {
        let stats = ShardStats::default();
        stats.sends.add(3);
        stats.connections_open.add(2);
        stats.connections_open.subtract(1);
        stats.rooms.set(7);
        let readings = stats.readings();
        let value = |name| {
            readings
                .iter()
                .find(|reading| reading.name == name)
                .map(|r| r.value)
        };
        assert_eq!(
            (value("sends"), value("connections_open"), value("rooms")),
            (Some(3), Some(1), Some(7))
        );
        let mut names: Vec<_> = readings.iter().map(|reading| reading.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), readings.len());
        assert!(readings.iter().all(|reading| !reading.help.is_empty()));
    }

    /// Names as Prometheus asks for them, and rows of a family that agree with each other.
    #[test]
    fn families_are_what_prometheus_expects() {
        let stats = ShardStats::default();
        let mut families: BTreeMap<&str, Vec<Reading>> = BTreeMap::new();
        let mut last = "";
        for reading in stats.readings() {
            let family = families.entry(reading.family).or_default();
            assert!(
                family.is_empty() || last == reading.family,
                "rows of {} do not follow each other",
                reading.family
            );
            family.push(reading);
            last = reading.family;
        }
        for (name, rows) in &families {
            assert!(name.starts_with("shardcast_"), "{name}");
            let is_counter = rows[0].kind == Kind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(rows.iter().all(|row| row.kind == rows[0].kind), "{name}");
            assert!(rows[0].family_help.ends_with('.'), "{name}");
            match rows.as_slice() {
                [row] if row.label.is_none() => {
                    assert_eq!(row.family_help, row.help, "{name}");
                }
                rows => {
                    assert!(family_help(name).is_some(), "{name} has no help of its own");
                    let (label, _) = rows[0].label.unwrap();
                    assert!(rows.iter().all(|row| row.label.unwrap().0 == label));
                    let mut values: Vec<_> = rows.iter().map(|row| row.label).collect();
                    values.sort_unstable();
                    values.dedup();
                    assert_eq!(values.len(), rows.len(), "{name}");
                }
            }
        }
        for (name, _) in LABELLED {
            assert!(families.contains_key(name), "{name} has no rows");
        }
        for histogram in stats.histograms() {
            assert!(histogram.family.ends_with("_seconds"));
            assert!(!families.contains_key(histogram.family));
        }
    }
}
