//! The settings that say what a backend is asked and told over HTTP.

use std::time::Duration;

use shardcast_shard::pattern::Pattern;

use super::access::{may_be_fetched, present};
use super::{Access, NotPermitted, Number, Path, Section, Setting, Text, milliseconds};
use crate::config::webhooks::{OnFailure, WEBHOOK_EVENTS};

/// What is asked and told, and where.
pub(super) fn webhook_settings() -> Vec<Setting> {
    let mut settings = vec![
        Text {
            name: "webhook_url",
            help: "URL of a backend that is asked whether connections may come in and messages be published, and told what happens; empty: nobody is.",
            placeholder: "URL",
            default: "empty",
            permitted: "a URL with http:// or https:// and without a user's name or password",
            read: |config| config.webhooks.url.clone().unwrap_or_default(),
            write: |config, text| {
                if !text.is_empty() && !may_be_fetched(text) {
                    return Err(NotPermitted);
                }
                config.webhooks.url = present(text);
                Ok(())
            },
        }
        .into(),
        Setting {
            name: "webhook_events",
            section: Section::Server,
            placeholder: "LIST",
            help: "What the backend is asked (`connect`, `publish`) and told (`connected`, `disconnected`, `room_occupied`, `room_vacated`).".to_owned(),
            default: "connect,connected,disconnected,room_occupied,room_vacated".to_owned(),
            permitted: "a list of `connect`, `connected`, `disconnected`, `room_occupied`, `room_vacated` and `publish`".to_owned(),
            access: Access::List {
                read: |config| &config.webhooks.events,
                write: |config, events| {
                    let is_known = |event: &String| WEBHOOK_EVENTS.contains(&event.as_str());
                    if !events.iter().all(is_known) {
                        return Err(NotPermitted);
                    }
                    config.webhooks.events = events;
                    Ok(())
                },
            },
        },
        Setting {
            name: "webhook_publish_rooms",
            section: Section::Server,
            placeholder: "LIST",
            help: "Rooms whose messages the backend is asked about, as patterns in which `*` stands for any characters. Empty: all rooms, and direct messages too.".to_owned(),
            default: "empty".to_owned(),
            permitted: "a list of patterns of rooms' names, such as chat.*".to_owned(),
            access: Access::List {
                read: |config| &config.webhooks.publish_rooms,
                write: |config, patterns| {
                    if !patterns.iter().all(|pattern| pattern.parse::<Pattern>().is_ok()) {
                        return Err(NotPermitted);
                    }
                    config.webhooks.publish_rooms = patterns;
                    Ok(())
                },
            },
        },
        Path {
            name: "webhook_secret",
            help: "File with the secret that requests are signed with (Standard Webhooks): `whsec_` and 24 to 64 bytes in base64. Several lines are several secrets, and each \
                   signs, so that one can replace another. Needed unless the URL's host is `localhost` or a loopback address. Read again after SIGHUP.",
            read: |config| config.webhooks.secret_file.as_ref(),
            write: |config, path| config.webhooks.secret_file = path,
        }
        .into(),
        Path {
            name: "webhook_ca",
            help: "Certificates of the authorities that vouch for a backend on https://, as a PEM file; empty: the public ones (those of Mozilla).",
            read: |config| config.webhooks.ca_file.as_ref(),
            write: |config, path| config.webhooks.ca_file = path,
        }
        .into(),
        Text {
            name: "webhook_on_failure",
            help: "What happens where the backend does not answer a question, not in time or not as it should: `refuse` closes the connection with 1013 and answers the message with \
                   `unavailable`; `allow` lets in and publishes.",
            placeholder: "POLICY",
            default: "refuse",
            permitted: "`refuse` or `allow`",
            read: |config| {
                match config.webhooks.on_failure {
                    OnFailure::Refuse => "refuse",
                    OnFailure::Allow => "allow",
                }
                .to_owned()
            },
            write: |config, text| {
                config.webhooks.on_failure = match text {
                    "refuse" => OnFailure::Refuse,
                    "allow" => OnFailure::Allow,
                    _ => return Err(NotPermitted),
                };
                Ok(())
            },
        }
        .into(),
    ];
    settings.extend(bound_settings());
    settings
}

fn bound_settings() -> Vec<Setting> {
    vec![
        Number {
            name: "webhook_timeout_ms",
            help: "Milliseconds for a whole request to the backend, its answer included. After it: `webhook_on_failure`, or, for what the backend is told, another try.",
            default: "3000",
            range: 10..=600_000,
            read: |config| milliseconds(config.webhooks.timeout),
            write: |config, ms| config.webhooks.timeout = Duration::from_millis(ms),
        }
        .into(),
        Number {
            name: "webhook_retry_ms_max",
            help: "Milliseconds for which the same request is tried, with growing pauses, to tell the backend something. After it its events are given up, and the next request says how many.",
            default: "3_600_000",
            range: 0..=604_800_000,
            read: |config| milliseconds(config.webhooks.retry_max),
            write: |config, ms| config.webhooks.retry_max = Duration::from_millis(ms),
        }
        .into(),
        Number {
            name: "webhook_queue_events_max",
            help: "Events that may wait to be told. Above it the newest are dropped, and an event in their place says how many.",
            default: "100_000",
            range: 1..=100_000_000,
            read: |config| config.webhooks.queue_events_max,
            write: |config, count| config.webhooks.queue_events_max = count,
        }
        .into(),
        Number {
            name: "webhook_queue_bytes_max",
            help: "Bytes of memory that the events which wait may take, and as many that the contents of messages may which the backend is asked about. Above it: as above \
                   `webhook_queue_events_max`, and `webhook_on_failure`.",
            default: "33_554_432",
            range: 65_536..=1_099_511_627_776,
            read: |config| config.webhooks.queue_bytes_max,
            write: |config, bytes| config.webhooks.queue_bytes_max = bytes,
        }
        .into(),
        Number {
            name: "webhook_batch_events_max",
            help: "Events in one request.",
            default: "200",
            range: 1..=10_000,
            read: |config| config.webhooks.batch_events_max,
            write: |config, count| config.webhooks.batch_events_max = count,
        }
        .into(),
        Number {
            name: "webhook_decisions_max",
            help: "Questions that the backend is asked at the same time; as many again wait. Above it: `webhook_on_failure`.",
            default: "256",
            range: 1..=65_536,
            read: |config| config.webhooks.decisions_max,
            write: |config, count| config.webhooks.decisions_max = count,
        }
        .into(),
    ]
}
