//! An application whose connections have grants, and clients that speak to it in a few words.

use serde_json::Value;

use super::*;
use crate::app::Dismissal;
use crate::hub::Position;
use crate::rights::{Grant, Identity, Rights, RoomRule, Rules};
use crate::wire::json;

/// Grants what it is asked for: in the handshake (`/?user=ada&grant=…`), by the first message (`token ada …`, after `/?later`) and by
/// `renew …`.
#[derive(Default)]
pub(super) struct Guarded {
    pub(super) open: Vec<ConnectionKey>,
    /// How many connections were opened and closed.
    pub(super) opened: u64,
    pub(super) closed: u64,
    /// Why those ended that were closed.
    pub(super) reasons: Vec<CloseReason>,
}

/// Reads `ROOMS:RIGHTS,…/USERS,…@UNIX_MS`, where each part may be missing: without rules everything is permitted, without a time for ever.
pub(super) fn grant(text: &str) -> Option<Grant> {
    let (rules, expires) = text.split_once('@').unwrap_or((text, ""));
    let (rooms, direct) = rules.split_once('/').unwrap_or((rules, ""));
    let list = |text: &str| -> Vec<String> {
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let rule = |text: &String| {
        let (rooms, letters) = text.split_once(':').unwrap();
        RoomRule {
            rooms: rooms.parse().unwrap(),
            rights: letters.chars().map(right).collect(),
        }
    };
    let rules = Rules {
        rooms: list(rooms).iter().map(rule).collect(),
        direct: list(direct).iter().map(|to| to.parse().unwrap()).collect(),
    };
    let grant = Grant {
        rules: (!text.starts_with('@')).then(|| Arc::new(rules)),
        expires_unix_ms: expires.parse().ok(),
    };
    (!text.is_empty()).then_some(grant)
}

fn right(letter: char) -> Rights {
    match letter {
        'j' => Rights::JOIN,
        'p' => Rights::PUBLISH,
        'w' => Rights::PRESENCE,
        'h' => Rights::HISTORY,
        _ => panic!("{letter} is no right"),
    }
}

impl App for Guarded {
    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        request: &UpgradeRequest<'_>,
    ) -> Result<Upgrade, Refusal> {
        let value = |name| request.query_value(name).unwrap_or_default();
        let identity = Identity {
            user: value("user").as_ref().into(),
            grant: grant(&value("grant")),
        };
        Ok(Upgrade {
            identity: request.query_value("later").is_none().then_some(identity),
            protocol: None,
        })
    }

    fn on_first_message(
        &mut self,
        _: &mut Context<'_>,
        message: Message<'_>,
    ) -> Result<Identity, Dismissal> {
        let text = String::from_utf8_lossy(message.payload).into_owned();
        let words: Vec<&str> = text.split(' ').collect();
        match words[..] {
            ["token", user, ref rest @ ..] => Ok(Identity {
                user: user.into(),
                grant: grant(rest.first().unwrap_or(&"")),
            }),
            ["panic", ..] => panic!("the client asked for this"),
            _ => Err(Dismissal {
                code: 4401,
                reason: "no such token".into(),
            }),
        }
    }

    fn on_open(&mut self, context: &mut Context<'_>, connection: ConnectionKey, user: &Name) {
        self.open.push(connection);
        self.opened += 1;
        let welcome = serde_json::json!({"type": "welcome", "user": user.as_str()}).to_string();
        context
            .send(connection, MessageKind::Text, welcome.into())
            .unwrap();
    }

    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) {
        let text = String::from_utf8_lossy(message.payload).into_owned();
        let words: Vec<&str> = text.split(' ').collect();
        let publish = |target, text: &str, id: &[&str]| {
            let content = serde_json::json!(text).to_string();
            (target, content.into(), id.first().map(|id| Name::from(*id)))
        };
        let asked = match words[..] {
            ["join", room, ref place @ ..] => {
                let number = |index: usize| Some(place.get(index)?.parse().unwrap());
                let since = number(0).zip(number(1));
                let since = since.map(|(epoch, seq)| Position { epoch, seq });
                context.join(connection, room.into(), since)
            }
            ["leave", room] => context.leave(connection, room.into()),
            ["say", room, text, ref id @ ..] => {
                let (target, content, id) = publish(Target::Room(room.into()), text, id);
                context.publish(connection, target, content, id)
            }
            ["to", user, text, ref id @ ..] => {
                let (target, content, id) = publish(Target::Inbox(user.into()), text, id);
                context.publish(connection, target, content, id)
            }
            ["who", room] => context.presence(connection, room.into()),
            ["past", room] => context.history(connection, room.into(), None, None),
            ["renew", text] => context.renew(connection, grant(text)),
            ["renew-all", text] => {
                let mut open = self.open.iter();
                open.try_for_each(|other| context.renew(*other, grant(text)))
            }
            ["close-and-renew", text] => context
                .close(connection, 4000, "as asked for")
                .and_then(|()| context.renew(connection, grant(text))),
            _ => panic!("{text} means nothing"),
        };
        asked.unwrap();
    }

    fn on_close(&mut self, _: &mut Context<'_>, connection: ConnectionKey, reason: CloseReason) {
        self.reasons.push(reason);
        self.open.retain(|open| *open != connection);
        self.closed += 1;
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<MessageKind> {
        json::encode(event, out);
        Some(MessageKind::Text)
    }
}

impl Rig<Guarded> {
    pub(super) fn guarded(shards: u16, limits: Limits) -> Self {
        Self::guarded_seeded(1, shards, limits)
    }

    pub(super) fn guarded_seeded(seed: u64, shards: u16, limits: Limits) -> Self {
        let compression = Compression::default();
        let slow_consumer = SlowConsumer::Disconnect;
        Self::running(
            seed,
            shards,
            limits,
            slow_consumer,
            compression,
            Guarded::default,
        )
    }
}

impl<A: App> Rig<A> {
    /// Runs all shards until mail between them has come and gone.
    pub(super) fn settle(&mut self) {
        for _ in 0..4 {
            for shard in 0..self.shards.len() {
                self.rest(shard);
            }
        }
    }

    /// A client of shard 0 that has asked for the target, and has heard nothing yet.
    pub(super) fn knock(&mut self, target: &str) -> SimWebSocket {
        let mut client = SimWebSocket::connect(&self.network, 0, target);
        client.step(usize::MAX);
        client
    }

    /// A client of shard 0 whose connection is open, with what the text grants.
    pub(super) fn guest(&mut self, user: &str, grant: &str) -> SimWebSocket {
        let mut client = self.knock(&format!("/?user={user}&grant={grant}"));
        assert_eq!(
            self.hear(&mut client),
            ["upgraded".to_owned(), format!("welcome {user}")]
        );
        client
    }

    /// What a client is told for these requests, sent at once.
    pub(super) fn ask(&mut self, client: &mut SimWebSocket, requests: &[&str]) -> Vec<String> {
        requests
            .iter()
            .for_each(|request| client.send_text(request));
        client.step(usize::MAX);
        self.hear(client)
    }

    /// What a client is told from now on until nothing happens any more.
    pub(super) fn hear(&mut self, client: &mut SimWebSocket) -> Vec<String> {
        self.settle();
        let heard = client.step(usize::MAX);
        self.settle();
        heard.iter().map(in_words).collect()
    }

    /// When a client that is left alone for so many milliseconds is told something, and what.
    pub(super) fn wait(
        &mut self,
        client: &mut SimWebSocket,
        milliseconds: u64,
    ) -> Option<(u64, Vec<String>)> {
        (0..=milliseconds).find_map(|passed_ms| {
            let heard = self.hear(client);
            let heard: Vec<String> = heard.into_iter().filter(|what| what != "ping").collect();
            if heard.is_empty() {
                self.advance_ms(1);
            }
            (!heard.is_empty()).then_some((passed_ms, heard))
        })
    }

    pub(super) fn unix_ms(&self) -> u64 {
        self.network.clock().unix_ms
    }

    /// A counter of shard 0.
    pub(super) fn count(&self, counter: impl Fn(&ShardStats) -> u64) -> u64 {
        counter(&self.stats[0])
    }

    /// A name of a room whose home is this shard.
    pub(super) fn room_at(&self, shard: ShardId) -> String {
        let hub = &self.shards[0].core.hub;
        let mut names = (0..).map(|number| format!("room{number}"));
        names
            .find(|name| hub.home_of(&Target::Room(name.as_str().into())) == shard)
            .unwrap()
    }
}

/// An event in a few words.
fn in_words(event: &SimEvent) -> String {
    let text = match event {
        SimEvent::Text(text) => text,
        SimEvent::Upgraded(_) => return "upgraded".to_owned(),
        SimEvent::Close { code, reason } => {
            return format!("close {} {reason}", code.unwrap_or_default());
        }
        SimEvent::Ping(_) => return "ping".to_owned(),
        SimEvent::Pong(payload) => return format!("pong {}", String::from_utf8_lossy(payload)),
        SimEvent::EndOfStream => return "end".to_owned(),
        other => return format!("{other:?}"),
    };
    let event: Value = serde_json::from_str(text).unwrap();
    let of = |key: &str| match &event[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let room = of("room");
    match event["type"].as_str().unwrap() {
        "welcome" => format!("welcome {}", of("user")),
        "joined" => format!(
            "joined {room}: {} recovered {}",
            of("members"),
            of("recovered")
        ),
        "left" => format!("left {room}: {}", of("reason")),
        "message" => format!("{} in {room}: {}", of("user"), of("content")),
        "direct" => format!("{}: {}", of("from"), of("content")),
        "ack" => format!("ack {}", of("id")),
        "user_joined" => format!("+{} in {room}", of("user")),
        "user_left" => format!("-{} in {room}", of("user")),
        "presence" => format!("{} in {room}", of("count")),
        "history" => {
            let said = event["messages"].as_array().unwrap();
            format!("{} said in {room}", said.len())
        }
        "error" => format!("{}: {room} {}", of("code"), of("id")),
        other => panic!("{other} is no event"),
    }
}
