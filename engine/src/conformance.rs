//! The room server as an echo, for suites of conformance that know no protocol above WebSocket.
//!
//! Each text travels as a direct message to its own sender: through the inbox's home, its order and history, the shared encoding and
//! the outbox, like any other. So what a suite finds out about the answers holds for the room server.

use std::collections::HashMap;

use bytes::Bytes;
use shardcast_shard::app::{Admission, App, Context, Dismissal, Overload};
use shardcast_shard::close_reason::CloseReason;
use shardcast_shard::driver::ConnectionKey;
use shardcast_shard::hub::{Event, Name, Target};
use shardcast_shard::rights::Identity;
use shardcast_shard::ws::{Message, MessageKind, Refusal, UpgradeRequest};

use crate::rooms::Rooms;

/// [`Rooms`] without its JSON: no welcome, and every text comes back as it was sent. Binary messages get 1003, as they always do.
pub(crate) struct EchoRooms {
    rooms: Rooms,
    users: HashMap<ConnectionKey, Name>,
}

impl EchoRooms {
    /// The application for one shard.
    pub(crate) fn new(rooms: Rooms) -> Self {
        Self {
            rooms,
            users: HashMap::new(),
        }
    }
}

impl App for EchoRooms {
    fn on_upgrade(
        &mut self,
        context: &mut Context<'_>,
        request: &UpgradeRequest<'_>,
    ) -> Result<Admission, Refusal> {
        self.rooms.on_upgrade(context, request)
    }

    fn on_first_message(
        &mut self,
        context: &mut Context<'_>,
        message: Message<'_>,
    ) -> Result<Identity, Dismissal> {
        self.rooms.on_first_message(context, message)
    }

    fn on_open(&mut self, _context: &mut Context<'_>, connection: ConnectionKey, user: &Name) {
        self.users.insert(connection, user.clone());
    }

    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) {
        match self.users.get(&connection) {
            Some(user) if message.kind == MessageKind::Text => {
                let inbox = Target::Inbox(user.clone());
                let content = Bytes::copy_from_slice(message.payload);
                // One action of at least sixteen that a call may ask for.
                let _: Result<(), Overload> = context.publish(connection, inbox, content, None);
            }
            _ => self.rooms.on_message(context, connection, message),
        }
    }

    fn on_close(
        &mut self,
        _context: &mut Context<'_>,
        connection: ConnectionKey,
        _reason: CloseReason,
    ) {
        self.users.remove(&connection);
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<MessageKind> {
        let Event::Message(message) = event else {
            return None;
        };
        if !matches!(message.target, Target::Inbox(_)) {
            return None;
        }
        out.extend_from_slice(&message.content);
        Some(MessageKind::Text)
    }
}
