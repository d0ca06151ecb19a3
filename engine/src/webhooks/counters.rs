//! What the webhooks did, for whoever reads counters.

use shardcast_shard::stats::{Kind, Reading};

use crate::counter::Counter;

macro_rules! counters {
    ($( #[doc = $help:literal] $name:ident: $kind:ident $family:literal $( { outcome = $outcome:literal } )?; )*) => {
        /// The counters of the webhooks. They go on for as long as the process runs.
        #[derive(Debug, Default)]
        pub struct Counters {
            $( #[doc = $help] pub $name: Counter, )*
        }

        impl Counters {
            /// All counters and levels, in the order of their declaration. Rows of one family follow each other.
            #[must_use]
            pub fn readings(&self) -> Vec<Reading> {
                vec![ $( Reading {
                    name: concat!("webhook_", stringify!($name)),
                    help: $help.trim_ascii(),
                    family: $family,
                    family_help: family_help($family).unwrap_or($help.trim_ascii()),
                    kind: Kind::$kind,
                    label: [ $( ("outcome", $outcome) )? ].first().copied(),
                    value: self.$name.value(),
                }, )* ]
            }
        }
    };
}

/// What a family says whose rows differ by a label.
fn family_help(family: &str) -> Option<&'static str> {
    match family {
        EVENTS => Some(
            "Events for the backend of the webhooks that wait no more, by what became of them.",
        ),
        REQUESTS => Some("Requests to the backend of the webhooks, by what became of them."),
        DECISIONS => Some(
            "Connections and messages that the backend of the webhooks was to decide about, by what became of them.",
        ),
        _ => None,
    }
}

const EVENTS: &str = "shardcast_webhook_events_total";
const REQUESTS: &str = "shardcast_webhook_requests_total";
const DECISIONS: &str = "shardcast_webhook_decisions_total";

counters! {
    /// Events that were taken up to be told to the backend.
    events_queued: Counter "shardcast_webhook_events_queued_total";
    /// Events that the backend has taken.
    events_delivered: Counter "shardcast_webhook_events_total" { outcome = "delivered" };
    /// Events that were dropped because too many waited (`webhook_queue_events_max`, `webhook_queue_bytes_max`).
    events_dropped: Counter "shardcast_webhook_events_total" { outcome = "dropped" };
    /// Events that were given up because the backend did not take them in time (`webhook_retry_ms_max`), or before the server ended.
    events_given_up: Counter "shardcast_webhook_events_total" { outcome = "given_up" };
    /// Events that wait to be told to the backend of the webhooks, those of the request under way included.
    queue_events: Gauge "shardcast_webhook_queue_events";
    /// Bytes of memory that the events take which wait to be told to the backend of the webhooks.
    queue_bytes: Gauge "shardcast_webhook_queue_bytes";
    /// Requests with events that were sent once more.
    retries: Counter "shardcast_webhook_retries_total";
    /// Requests that the backend has answered with a status from 200 to 299.
    requests_succeeded: Counter "shardcast_webhook_requests_total" { outcome = "succeeded" };
    /// Requests that were answered with another status.
    requests_failed_status: Counter "shardcast_webhook_requests_total" { outcome = "failed_status" };
    /// Requests that were not answered in time (`webhook_timeout_ms`).
    requests_failed_timeout: Counter "shardcast_webhook_requests_total" { outcome = "failed_timeout" };
    /// Requests that did not reach the backend, or whose answer did not come whole.
    requests_failed_transport: Counter "shardcast_webhook_requests_total" { outcome = "failed_transport" };
    /// Questions whose answer was too large or could not be understood.
    requests_failed_answer: Counter "shardcast_webhook_answers_unusable_total";
    /// Connections and messages that the backend has allowed, changed messages included.
    decisions_allowed: Counter "shardcast_webhook_decisions_total" { outcome = "allowed" };
    /// Connections and messages that the backend has refused.
    decisions_refused: Counter "shardcast_webhook_decisions_total" { outcome = "refused" };
    /// Connections and messages that were allowed because the backend did not answer (`webhook_on_failure`).
    decisions_failed_open: Counter "shardcast_webhook_decisions_total" { outcome = "failed_open" };
    /// Connections and messages that were refused because the backend did not answer (`webhook_on_failure`).
    decisions_failed_closed: Counter "shardcast_webhook_decisions_total" { outcome = "failed_closed" };
    /// Messages that the backend has allowed and changed.
    decisions_rewritten: Counter "shardcast_webhook_decisions_rewritten_total";
    /// Questions that were not asked because too many waited (`webhook_decisions_max`, `webhook_queue_bytes_max`).
    decisions_overloaded: Counter "shardcast_webhook_decisions_overloaded_total";
    /// Decisions that did not reach their shard, because too many orders waited for it.
    verdicts_lost: Counter "shardcast_webhook_verdicts_lost_total";
}
