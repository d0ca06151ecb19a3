//! What the server says, and what follows from it.

use super::{ATTEMPTS_MAX, Sending, Session};
use crate::client::chat::conversation::{Membership, Message, Target};
use crate::client::chat::wire::{Position, Request, Told};
use crate::client::text::shown_content;

impl Session {
    pub(super) fn told(&mut self, told: Told) {
        match told {
            Told::Welcome {
                user,
                heartbeat_ms,
                limits,
            } => self.welcomed(user, heartbeat_ms, limits.message_size_max),
            Told::Joined {
                room,
                epoch,
                seq,
                members,
                recovered,
            } => self.joined(&room, Position { epoch, seq }, members, recovered),
            Told::Left { room, reason } => self.left(&room, reason),
            Told::UserJoined { room, user } => {
                if let Some(room) = self.room(&room) {
                    room.came(user);
                }
            }
            Told::UserLeft { room, user } => {
                if let Some(room) = self.room(&room) {
                    room.went(&user);
                }
            }
            Told::Presence { room, count, users } => self.present(&room, count, users),
            Told::Message { room, message } => {
                if let Some(room) = self.room(&room) {
                    room.message(message);
                }
            }
            Told::Direct {
                from,
                content,
                timestamp,
            } => self.direct(from, &content, timestamp),
            Told::Ack { id } => self.acknowledged(&id),
            Told::History {
                room,
                epoch,
                complete,
                messages,
            } => {
                let Some(conversation) = self.room(&room) else {
                    return;
                };
                if conversation.past(epoch, complete, messages) {
                    let since = conversation.position();
                    self.ask_past(&room, since);
                }
            }
            Told::Reset { room, epoch, seq } => self.reset(&room, Position { epoch, seq }),
            Told::Error {
                code,
                message,
                id,
                room,
            } => self.refused(&code, &message, id.as_deref(), room.as_deref()),
            Told::Other => {}
        }
    }

    fn welcomed(&mut self, user: String, heartbeat_ms: u64, message_size_max: Option<usize>) {
        self.user = Some(user);
        self.is_open = true;
        self.heartbeat_ms = heartbeat_ms;
        self.message_size_max = message_size_max;
        self.ticks = 0;
        for place in 0..self.conversations.len() {
            if self.conversations[place].membership == Membership::Wanted {
                self.join(place);
            }
        }
        self.transmit_sends();
    }

    fn joined(&mut self, name: &str, position: Position, members: Option<u64>, recovered: bool) {
        let Some(room) = self.room(name) else {
            return;
        };
        let wanted = room.joined(position, recovered);
        if let Some(since) = wanted {
            self.ask_past(name, since);
        }
        // Where presence may not be known, there is no number of members.
        if members.is_some() {
            self.transmits
                .push_back(Request::Presence { room: name }.text());
        }
        self.transmit_sends();
    }

    fn left(&mut self, name: &str, reason: Option<String>) {
        // A room that was left on purpose is not here any more.
        let (Some(reason), Some(room)) = (reason, self.room(name)) else {
            return;
        };
        room.membership = Membership::Refused;
        room.notice(format!("you were put out: {reason}"));
        let target = Target::Room(name.to_owned());
        self.give_up(|sending| sending.target == target, &reason);
    }

    fn present(&mut self, name: &str, count: u64, users: Option<Vec<String>>) {
        let Some(room) = self.room(name) else {
            return;
        };
        let is_answer = users.is_some();
        room.present(count, users);
        if is_answer && std::mem::take(&mut room.who_asked) {
            let names: Vec<_> = room.members().iter().map(String::as_str).collect();
            let mut text = format!("{count} here: {}", names.join(", "));
            if (names.len() as u64) < count {
                text.push_str(", …");
            }
            room.notice(text);
        }
    }

    fn direct(&mut self, from: String, content: &serde_json::Value, unix_ms: u64) {
        let target = Target::User(from.clone());
        if let Err(refused) = self.open(target.clone()) {
            return self.fail(format!(
                "a direct message of {from} is not shown: {refused}"
            ));
        }
        let text = shown_content(content);
        if let Some(place) = self.place_of(&target) {
            self.conversations[place].direct(Message::new(from, text, unix_ms));
        }
    }

    fn acknowledged(&mut self, id: &str) {
        let Some(place) = self.sends.iter().position(|sending| sending.id == id) else {
            return;
        };
        // Messages to a room come to their sender too; those to a user do not.
        if let Some(Sending {
            target: target @ Target::User(_),
            text,
            unix_ms,
            ..
        }) = self.sends.remove(place)
            && let Some(place) = self.place_of(&target)
        {
            let user = self.user.clone().unwrap_or_default();
            // Whoever writes to oneself has had it delivered.
            if target != Target::User(user.clone()) {
                self.conversations[place].direct(Message::new(user, text, unix_ms));
            }
        }
    }

    fn reset(&mut self, name: &str, position: Position) {
        let Some(room) = self.room(name) else {
            return;
        };
        room.reset(position);
        let target = Target::Room(name.to_owned());
        self.transmits
            .push_back(Request::Presence { room: name }.text());
        // What was under way may be lost; if it is not, the id tells.
        for sending in self.sends.iter_mut().filter(|one| one.target == target) {
            sending.is_sent = false;
        }
        self.transmit_sends();
    }

    fn refused(&mut self, code: &str, message: &str, id: Option<&str>, room: Option<&str>) {
        let why = format!("{message} ({code})");
        if let Some(place) = self
            .sends
            .iter()
            .position(|one| Some(one.id.as_str()) == id)
        {
            let sending = &mut self.sends[place];
            // The shard that orders the room starts again: it is sent once more with a later tick.
            if code == "unavailable" && sending.attempts < ATTEMPTS_MAX {
                sending.is_sent = false;
                return;
            }
            let id = sending.id.clone();
            return self.give_up(|one| one.id == id, &why);
        }
        let Some(conversation) = room.and_then(|room| self.room(room)) else {
            let shown = self.shown.as_ref().and_then(|shown| self.place_of(shown));
            return match shown {
                Some(place) => self.conversations[place].notice(why),
                None => self.fail(why),
            };
        };
        if conversation.membership == Membership::Asked {
            conversation.membership = Membership::Refused;
            let target = conversation.target.clone();
            conversation.notice(format!("not joined: {why}"));
            self.fail(format!("{} was not joined: {why}", target.label()));
            return self.give_up(|sending| sending.target == target, &why);
        }
        conversation.failed();
        conversation.notice(why);
    }
}
