//! A shard's counters. The shard writes them, any thread may read them.
//!
//! Each has one writer, so an increment is a load and a store without a lock. A reader sees each
//! counter whole, but not all of them at one moment.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::app::{Count, TokenOutcome};

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

    /// The number now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One counter as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its name.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The number.
    pub value: u64,
}

macro_rules! counters {
    ($( #[doc = $help:literal] $name:ident; )*) => {
        /// The counters of one shard. They go on when the shard is started again.
        #[derive(Debug, Default)]
        // On cache lines of its own: the neighbours belong to other threads.
        #[repr(align(128))]
        pub struct ShardStats {
            $( #[doc = $help] pub $name: Counter, )*
        }

        impl ShardStats {
            /// All counters, in the order of their declaration.
            #[must_use]
            pub fn readings(&self) -> Vec<Reading> {
                vec![ $( Reading { name: stringify!($name), help: $help.trim_ascii(), value: self.$name.value() }, )* ]
            }
        }
    };
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

counters! {
    /// Connections accepted.
    connections_accepted;
    /// Connections there are now, handshakes and goodbyes included.
    connections_open;
    /// Connections that are gone.
    connections_closed;
    /// Handshakes that led to an open connection.
    handshakes_accepted;
    /// Handshakes that were answered with an error or took too long.
    handshakes_rejected;
    /// Handshakes of TLS that ended well, with a signature of the certificate's key.
    tls_handshakes_full;
    /// Handshakes of TLS that ended well, with what a former connection had agreed on.
    tls_handshakes_resumed;
    /// Connections that ended because TLS failed, in the handshake or after it.
    tls_errors;
    /// Connections turned away with 503.
    refused_full;
    /// Connections turned away with 429.
    refused_address;
    /// Messages received from clients.
    messages_received;
    /// Messages received compressed.
    messages_inflated;
    /// Messages compressed: once for all members of a shard whose windows have one size.
    messages_compressed;
    /// Connections that agreed on compression.
    compression_agreed;
    /// Bytes received, handshakes and frame headers included.
    bytes_received;
    /// Payloads queued to connections.
    deliveries_sent;
    /// Sends that have ended.
    sends;
    /// Sends that did not leave at once as a whole: the peer reads too slowly for them, or has gone.
    sends_unfinished;
    /// Passes after which output waited to leave together with more.
    passes_coalesced;
    /// Bytes sent, frame headers included.
    bytes_sent;
    /// Sends that failed.
    send_errors;
    /// Receives that failed.
    receive_errors;
    /// Receives that ended because every buffer was in use.
    receive_no_buffers;
    /// Times that accepting rested because so many came (`accepts_per_second_max`).
    accepts_paced;
    /// Times that accepting ended with an error.
    accept_errors;
    /// Connections closed because the peer broke RFC 6455.
    close_protocol;
    /// Connections closed because the consumer was too slow.
    close_slow_consumer;
    /// Connections closed because their user had too many (`user_connections_max`).
    close_user_connections;
    /// Connections closed because heartbeats were not answered.
    close_heartbeat;
    /// Connections closed because their handling panicked.
    close_panic;
    /// Connections closed because the operator wanted it.
    close_ordered;
    /// Connections closed because what they were granted has ended.
    close_expired;
    /// Connections closed because their first message did not say, or not in time, whose they are.
    close_unnamed;
    /// Joins that recovered nothing because too much of other rooms waited for the connection already.
    recoveries_refused;
    /// Messages dropped for consumers that were too slow.
    dropped_oldest;
    /// Messages that gave way to the next of their room before they had begun to leave.
    conflated;
    /// Times that a connection was told that it sends too much.
    rate_limited;
    /// Times that a connection was not read for a while.
    reading_paused;
    /// Messages that were not readable at all.
    malformed_messages;
    /// Requests that were refused.
    bad_requests;
    /// Requests of connections whose grant does not permit them.
    forbidden;
    /// Tokens that were good.
    tokens_accepted;
    /// Tokens refused because they were larger than `token_size_max`.
    tokens_too_large;
    /// Tokens refused because they were malformed or came twice.
    tokens_malformed;
    /// Tokens refused because they were not signed (`alg` is `none`).
    tokens_algorithm_none;
    /// Tokens refused because the key does not permit their algorithm.
    tokens_algorithm_not_permitted;
    /// Tokens refused because no key is known for them.
    tokens_unknown_key;
    /// Tokens refused because their signature is wrong.
    tokens_signature;
    /// Tokens refused because they have expired.
    tokens_expired;
    /// Tokens refused because they are not yet valid.
    tokens_not_yet_valid;
    /// Tokens refused because somebody else issued them.
    tokens_issuer;
    /// Tokens refused because they are meant for somebody else.
    tokens_audience;
    /// Tokens refused because of what they say of user, rooms or times.
    tokens_claims;
    /// Tokens refused because they name another user than the connection's.
    tokens_other_user;
    /// Tokens that could not be checked because there were no keys yet.
    tokens_no_keys;
    /// Panics of the application outside of any connection.
    panics;
    /// Times that this shard was started again.
    restarts;
    /// Orders of other threads carried out.
    orders;
    /// Mails sent to other shards.
    mails_sent;
    /// Mails received from other shards.
    mails_received;
    /// Times that mail found another shard's mailbox full.
    mailbox_full;
    /// Wakes of other shards.
    wakes;
    /// Times that this shard slept.
    sleeps;
    /// Passes of the loop.
    passes;
    /// Deadlines of connections that passed.
    timers_fired;
    /// Heartbeats sent.
    pings_sent;
    /// Completions for connections that were gone.
    stale_completions;
    /// Connections still open when the time to stop was over.
    stop_dropped;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_name_every_counter_once() {
        let stats = ShardStats::default();
        stats.sends.add(3);
        stats.connections_open.add(2);
        stats.connections_open.subtract(1);
        let readings = stats.readings();
        let value = |name| {
            readings
                .iter()
                .find(|reading| reading.name == name)
                .map(|r| r.value)
        };
        assert_eq!(
            (value("sends"), value("connections_open")),
            (Some(3), Some(1))
        );
        let mut names: Vec<_> = readings.iter().map(|reading| reading.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), readings.len());
        assert!(readings.iter().all(|reading| !reading.help.is_empty()));
    }
}
