//! Grants, and the application that gives them: the binary's rooms, where the handshake, the first message and the word `renew` say which.

use std::sync::Arc;

use bytes::Bytes;
use shardcast::Rooms;
use shardcast_shard::app::{Admission, App, Context, Dismissal};
use shardcast_shard::close_reason::CloseReason;
use shardcast_shard::driver::ConnectionKey;
use shardcast_shard::hub::{Event, Name, Target};
use shardcast_shard::rights::{Grant, Identity, Rights, RoomRule, Rules};
use shardcast_shard::sim::Random;
use shardcast_shard::verdict::{Hooks, Question, Standing};
use shardcast_shard::wire::json;
use shardcast_shard::ws::{Message, MessageKind, Refusal, UpgradeRequest};

use super::deciding::Decider;

/// How many kinds of rules there are: so few that connections share them.
pub(crate) const KINDS: u64 = 12;

/// What a grant of one kind permits, in the rooms and to the users of a run.
pub(crate) fn rules(kind: u64) -> Rules {
    let mut random = Random::new(kind);
    let rooms = ["main", "side", "*room*", "x", "*"].map(|rooms| {
        let mut rights = Rights::from_bits_truncate(random.below(16) as u8);
        // Who may not be in a room is soon looked at.
        rights.set(Rights::JOIN, random.chance(800));
        RoomRule {
            rooms: rooms.parse().expect("it is a pattern"),
            rights,
        }
    });
    let direct = ["u1*", "*2", "u*"].map(|users| users.parse().expect("it is a pattern"));
    Rules {
        rooms: rooms.into_iter().filter(|_| random.chance(700)).collect(),
        direct: direct.into_iter().filter(|_| random.chance(400)).collect(),
    }
}

/// A grant as a client asks for it: the kind of its rules and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) kind: u64,
    pub(crate) expires_unix_ms: u64,
}

impl Asked {
    pub(crate) fn text(self) -> String {
        format!("{}-{}", self.kind, self.expires_unix_ms)
    }

    fn grant(text: &str) -> Option<Grant> {
        let (kind, expires) = text.split_once('-')?;
        Some(Grant {
            rules: Some(Arc::new(rules(kind.parse().ok()?))),
            expires_unix_ms: Some(expires.parse().ok()?),
        })
    }
}

/// See the module.
pub(crate) struct Granting(Rooms, Decider);

impl Granting {
    pub(crate) fn new(decider: Decider) -> Self {
        Self(Rooms::new(Vec::new()).with_faults(true), decider)
    }
}

impl App for Granting {
    fn hooks(&self) -> Hooks {
        match self.1.is_asked() {
            true => Hooks::IDENTITY | Hooks::PUBLISH,
            false => Hooks::empty(),
        }
    }

    fn on_identity(
        &mut self,
        context: &mut Context<'_>,
        question: Question,
        _: &Identity,
    ) -> Standing {
        self.1.ask(context.shard(), question)
    }

    fn on_publish(
        &mut self,
        context: &mut Context<'_>,
        question: Question,
        _: &Target,
        _: &Bytes,
        _: Option<&Name>,
    ) -> Standing {
        self.1.ask(context.shard(), question)
    }

    fn on_upgrade(
        &mut self,
        context: &mut Context<'_>,
        request: &UpgradeRequest<'_>,
    ) -> Result<Admission, Refusal> {
        let mut admission = self.0.on_upgrade(context, request)?;
        if request.query_value("later").is_some() {
            admission.identity = None;
        } else if let Some(identity) = &mut admission.identity
            && let Some(text) = request.query_value("grant")
        {
            identity.grant = Asked::grant(&text);
        }
        Ok(admission)
    }

    fn on_first_message(
        &mut self,
        _: &mut Context<'_>,
        message: Message<'_>,
    ) -> Result<Identity, Dismissal> {
        let text = String::from_utf8_lossy(message.payload);
        let (user, grant) = text.split_once(' ').ok_or_else(|| Dismissal {
            code: 4401,
            reason: "no token".into(),
        })?;
        Ok(Identity {
            user: user.into(),
            grant: Asked::grant(grant),
        })
    }

    fn on_open(&mut self, context: &mut Context<'_>, connection: ConnectionKey, user: &Name) {
        self.0.on_open(context, connection, user);
    }

    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) {
        let Some(grant) = message.payload.strip_prefix(b"renew ") else {
            return self.0.on_message(context, connection, message);
        };
        let grant = Asked::grant(&String::from_utf8_lossy(grant));
        let heartbeat = json::HEARTBEAT.as_bytes().into();
        let renewed = context.renew(connection, grant);
        renewed
            .and_then(|()| context.send(connection, MessageKind::Text, heartbeat))
            .expect("a call may ask for sixteen actions at least");
    }

    fn on_close(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        reason: CloseReason,
    ) {
        self.0.on_close(context, connection, reason);
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<MessageKind> {
        self.0.encode(event, out)
    }
}
