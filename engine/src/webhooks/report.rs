//! What shards say to the courier, and how the backend reads it.

use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use shardcast_shard::close_reason::CloseReason;
use shardcast_shard::connection_id::ConnectionId;
use shardcast_shard::driver::ShardId;
use shardcast_shard::hub::{Name, Target};
use shardcast_shard::verdict::{Occupancy, Question};

/// Something that the backend is told.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) shard: ShardId,
    pub(super) unix_ms: u64,
    pub(super) happened: Happened,
}

/// What has happened.
#[derive(Clone, Debug)]
pub(super) enum Happened {
    /// The shard has started, or started again: it has no connections, and is home to no room.
    ShardStarted,
    Connected {
        connection: ConnectionId,
        user: Name,
    },
    Disconnected {
        connection: ConnectionId,
        user: Name,
        reason: CloseReason,
    },
    Room {
        room: Name,
        occupancy: Occupancy,
    },
    /// So many events of the shard are missing here.
    Dropped {
        count: u64,
    },
}

impl Report {
    /// Bytes of memory that it takes while it waits.
    pub(super) fn bytes(&self) -> u64 {
        let names = match &self.happened {
            Happened::ShardStarted | Happened::Dropped { .. } => 0,
            Happened::Connected { user, .. } | Happened::Disconnected { user, .. } => user.len(),
            Happened::Room { room, .. } => room.len(),
        };
        (size_of::<Self>() + names) as u64
    }

    /// How many events it stands for: those that are missing, or itself.
    pub(super) fn events(&self) -> u64 {
        match self.happened {
            Happened::Dropped { .. } => 0,
            _ => 1,
        }
    }
}

/// An event or a question in the form that the backend reads.
#[derive(Debug, Default, Serialize)]
pub(super) struct Written<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    /// Milliseconds since 1970.
    timestamp: u64,
    /// Not where a gap is not one shard's.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<ShardId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

impl<'a> Written<'a> {
    /// What has happened, as the event of this id.
    pub(super) fn event(report: &'a Report, id: String) -> Self {
        let mut written = Self {
            id,
            timestamp: report.unix_ms,
            shard: Some(report.shard),
            ..Self::default()
        };
        match &report.happened {
            Happened::ShardStarted => written.kind = "shard_started",
            Happened::Connected { connection, user } => {
                written.kind = "connected";
                written.connection = Some(connection.to_string());
                written.user = Some(user);
            }
            Happened::Disconnected {
                connection,
                user,
                reason,
            } => {
                written.kind = "disconnected";
                written.connection = Some(connection.to_string());
                written.user = Some(user);
                written.reason = Some(reason.as_str());
                written.code = reason.code();
            }
            Happened::Room { room, occupancy } => {
                written.kind = match occupancy {
                    Occupancy::Occupied => "room_occupied",
                    Occupancy::Vacated => "room_vacated",
                };
                written.room = Some(room);
            }
            Happened::Dropped { count } => {
                written.kind = "dropped";
                written.count = Some(*count);
            }
        }
        written
    }

    /// That so many events were given up, which any shard may have said.
    pub(super) fn given_up(count: u64, unix_ms: u64, id: String) -> Self {
        Self {
            kind: "dropped",
            id,
            timestamp: unix_ms,
            count: Some(count),
            ..Self::default()
        }
    }
}

/// Something that the backend is asked.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) connection: ConnectionId,
    pub(super) question: Question,
    pub(super) unix_ms: u64,
    pub(super) asked: Instant,
    pub(super) user: Name,
    /// `None`: the connection itself.
    pub(super) publish: Option<Publish>,
}

/// A message that is to be published.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) target: Target,
    /// The text of one JSON value.
    pub(super) content: Bytes,
    pub(super) id: Option<Name>,
}

impl Inquiry {
    /// Bytes of memory that it takes while it waits: what it says, and the request that says it.
    pub(super) fn bytes(&self) -> u64 {
        let publish = self.publish.as_ref();
        let content = publish.map_or(0, |publish| publish.content.len());
        (size_of::<Self>() + self.user.len() + 2 * content) as u64
    }

    /// The question as the backend reads it.
    pub(super) fn body(&self, id: &str) -> Vec<u8> {
        let (room, to) = match self.publish.as_ref().map(|publish| &publish.target) {
            None => (None, None),
            Some(Target::Room(room)) => (Some(room.as_str()), None),
            Some(Target::Inbox(user)) => (None, Some(user.as_str())),
        };
        let message_id = self
            .publish
            .as_ref()
            .and_then(|publish| publish.id.as_deref());
        let written = Written {
            kind: match self.publish {
                None => "connect",
                Some(_) => "publish",
            },
            id: id.to_owned(),
            timestamp: self.unix_ms,
            shard: Some(self.connection.shard),
            connection: Some(self.connection.to_string()),
            user: Some(&self.user),
            room,
            to,
            message_id,
            ..Written::default()
        };
        let mut body = written_as_json(&written);
        if let Some(publish) = &self.publish {
            // It is JSON already, and goes out as it came in: numbers of any length, keys in their order.
            body.pop();
            body.extend_from_slice(b",\"content\":");
            body.extend_from_slice(&publish.content);
            body.push(b'}');
        }
        body
    }
}

/// Nothing of what is written can fail to be: there are no maps, and names are text.
pub(super) fn written_as_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use shardcast_shard::driver::ConnectionKey;

    const CONNECTION: ConnectionId = ConnectionId {
        shard: 2,
        key: ConnectionKey::new(17, 3),
    };

    #[test]
    fn events_as_the_backend_reads_them() {
        let user = Name::from("ädà \"x\"");
        let cases = [
            (Happened::ShardStarted, json!({"type": "shard_started"})),
            (
                Happened::Connected {
                    connection: CONNECTION,
                    user: user.clone(),
                },
                json!({"type": "connected", "connection": "2-17-3", "user": "ädà \"x\""}),
            ),
            (
                Happened::Disconnected {
                    connection: CONNECTION,
                    user,
                    reason: CloseReason::SlowConsumer,
                },
                json!({"type": "disconnected", "connection": "2-17-3", "user": "ädà \"x\"", "reason": "slow_consumer", "code": 1013}),
            ),
            (
                Happened::Room {
                    room: "lobby".into(),
                    occupancy: Occupancy::Occupied,
                },
                json!({"type": "room_occupied", "room": "lobby"}),
            ),
            (
                Happened::Room {
                    room: "lobby".into(),
                    occupancy: Occupancy::Vacated,
                },
                json!({"type": "room_vacated", "room": "lobby"}),
            ),
            (
                Happened::Dropped { count: 7 },
                json!({"type": "dropped", "count": 7}),
            ),
        ];
        for (happened, mut expected) in cases {
            let report = Report {
                shard: 2,
                unix_ms: 99,
                happened,
            };
            let written = written_as_json(&Written::event(&report, "e1".to_owned()));
            for (name, value) in [
                ("id", json!("e1")),
                ("timestamp", json!(99)),
                ("shard", json!(2)),
            ] {
                expected[name] = value;
            }
            assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), expected);
        }
    }

    #[test]
    fn a_message_is_asked_about_as_it_was_sent() {
        let content = br#"{"b":1e400,"a":12345678901234567890123}"#;
        let mut inquiry = Inquiry {
            connection: CONNECTION,
            question: Question {
                connection: CONNECTION.key,
                number: 1,
            },
            unix_ms: 5,
            asked: Instant::now(),
            user: "ada".into(),
            publish: Some(Publish {
                target: Target::Room("lobby".into()),
                content: Bytes::from_static(content),
                id: Some("m1".into()),
            }),
        };
        let body = inquiry.body("q1");
        let expected = [
            &br#"{"type":"publish","id":"q1","timestamp":5,"shard":2,"connection":"2-17-3","user":"ada","room":"lobby","message_id":"m1","content":"#[..],
            content,
            b"}",
        ]
        .concat();
        assert_eq!(
            String::from_utf8_lossy(&body),
            String::from_utf8_lossy(&expected)
        );
        inquiry.publish = None;
        let body: Value = serde_json::from_slice(&inquiry.body("q2")).unwrap();
        assert_eq!(
            body,
            json!({"type": "connect", "id": "q2", "timestamp": 5, "shard": 2, "connection": "2-17-3", "user": "ada"})
        );
    }
}
