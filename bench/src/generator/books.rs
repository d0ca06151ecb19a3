//! What one thread has counted and recorded since its books were last taken.

use std::collections::BTreeMap;

use crate::latency::{self, Recording};

/// Kinds of failure that are told apart; what exceeds them is counted together.
const ERRORS_MAX: usize = 64;

/// The name of all failures beyond [`ERRORS_MAX`].
const ERRORS_FURTHER: &str = "other failures";

/// How many metrics there are.
const METRICS: usize = 8;

/// What latencies are measured of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// From the time at which a message should have been sent until one receiver has it.
    Delivery,
    /// The same of direct messages.
    Direct,
    /// From the time at which a message should have been sent until the last receiver has it.
    LastReceiver,
    /// From the begin of a connect until the server's 101 has arrived.
    Handshake,
    /// From the begin of a connect until the connection is a member of its room.
    Join,
    /// From the time at which a message should have been sent until it was.
    Lateness,
    /// From the loss of a connection until it is a member of its room again.
    Rejoin,
    /// From the loss of a connection until its first delivery after that.
    Restored,
}

impl Metric {
    /// All of them, in the order of reports.
    pub const ALL: [Self; METRICS] = [
        Self::Delivery,
        Self::Direct,
        Self::LastReceiver,
        Self::Handshake,
        Self::Join,
        Self::Rejoin,
        Self::Restored,
        Self::Lateness,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Direct => "direct message",
            Self::LastReceiver => "last receiver",
            Self::Handshake => "handshake",
            Self::Join => "join",
            Self::Lateness => "lateness",
            Self::Rejoin => "rejoined",
            Self::Restored => "restored",
        }
    }

    /// From when to when.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Delivery => "from the intended time of sending until a receiver has the message",
            Self::Direct => {
                "from the intended time of sending until the one receiver has the message"
            }
            Self::LastReceiver => {
                "from the intended time of sending until the last receiver has the message"
            }
            Self::Handshake => "from the begin of a connect until the server's 101",
            Self::Join => "from the begin of a connect until the connection has joined its room",
            Self::Lateness => "from the intended time of sending until the harness sent",
            Self::Rejoin => "from the loss of a connection until it has joined again",
            Self::Restored => "from the loss of a connection until its first delivery after it",
        }
    }
}

/// Recordings of all metrics. One takes memory from its first latency on.
#[derive(Debug, Default)]
pub struct Recordings([Option<Box<Recording>>; METRICS]);

impl Recordings {
    /// Records a latency.
    pub fn record(&mut self, metric: Metric, latency_ns: u64) {
        let recording =
            self.0[metric as usize].get_or_insert_with(|| Box::new(latency::recording()));
        latency::record(recording, latency_ns);
    }

    /// The recording of a metric; `None` when it has no latency.
    #[must_use]
    pub fn of(&self, metric: Metric) -> Option<&Recording> {
        self.0[metric as usize].as_deref()
    }

    /// Adds what others recorded.
    pub fn add(&mut self, others: Self) {
        for (sum, recording) in self.0.iter_mut().zip(others.0) {
            match (sum, recording) {
                (_, None) => {}
                (Some(sum), Some(recording)) => latency::add(sum, &recording),
                (sum @ None, recording) => *sum = recording,
            }
        }
    }
}

macro_rules! tally {
    ($( #[doc = $doc:literal] $name:ident, )*) => {
        /// Counts since the books were last taken.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Tally {
            $( #[doc = $doc] pub $name: u64, )*
        }

        impl Tally {
            /// Adds what others counted.
            pub const fn add(&mut self, others: &Self) {
                $( self.$name += others.$name; )*
            }
        }
    };
}

tally! {
    /// Connects begun.
    attempts,
    /// Attempts that the network refused or that timed out.
    failed,
    /// Attempts answered with another status than 101.
    refused,
    /// Connections that had joined and that the server or the network ended.
    lost,
    /// Connections that the harness ended, as the workload demands.
    dropped,
    /// Connections lost or dropped: one that goes again before a delivery has reached it counts once.
    away,
    /// Connections that have joined again after they were lost or dropped.
    rejoined,
    /// Messages sent whose intended time lies in the measured span.
    published,
    /// Messages of the measured span that were not sent.
    unsent,
    /// Deliveries that the messages sent in the measured span must cause.
    expected,
    /// Deliveries of the measured span, each counted once.
    received,
    /// Deliveries of any time that came more than once.
    repeated,
    /// Deliveries of any time that came after a later one of their stream.
    out_of_order,
    /// Deliveries of any time that came to a connection that they were not meant for.
    astray,
    /// Deliveries that came after a return and were sent before it.
    caught_up,
    /// Requests that the server refused after the handshake.
    errors,
    /// All deliveries, measured or not.
    deliveries,
    /// All messages sent, measured or not.
    messages,
}

/// The books of one thread.
#[derive(Debug, Default)]
pub struct Books {
    /// Counts.
    pub tally: Tally,
    /// Latencies.
    pub recordings: Recordings,
    /// Kinds of failure and how often they were met.
    pub errors: BTreeMap<String, u64>,
}

impl Books {
    /// Notes a failure of this kind.
    pub fn error(&mut self, what: String) {
        let what = if self.errors.len() < ERRORS_MAX || self.errors.contains_key(&what) {
            what
        } else {
            ERRORS_FURTHER.to_owned()
        };
        *self.errors.entry(what).or_default() += 1;
    }

    /// Adds the books of another thread or time.
    pub fn add(&mut self, others: Self) {
        self.tally.add(&others.tally);
        self.recordings.add(others.recordings);
        for (what, count) in others.errors {
            *self.errors.entry(what).or_default() += count;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn books_add_up() {
        let mut sum = Books::default();
        for latency_ns in [1000, 3000] {
            let mut books = Books::default();
            books.tally.received = 2;
            books.recordings.record(Metric::Join, latency_ns);
            books.error("refused".to_owned());
            sum.add(books);
        }
        assert_eq!(sum.tally.received, 4);
        assert_eq!(sum.errors["refused"], 2);
        assert_eq!(sum.recordings.of(Metric::Join).unwrap().len(), 2);
        assert!(sum.recordings.of(Metric::Delivery).is_none());
    }

    #[test]
    fn kinds_of_failure_are_bounded() {
        let mut books = Books::default();
        for number in 0..1000 {
            books.error(format!("failure {number}"));
        }
        assert_eq!(books.errors.len(), ERRORS_MAX + 1);
        assert_eq!(books.errors[ERRORS_FURTHER], 1000 - ERRORS_MAX as u64);
    }
}
