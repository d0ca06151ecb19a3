//! The members' side of a shard: connections that come and go, and what the homes of their users' inboxes are told of it.
//!
//! A home must know of a shard before a user's first connection there is open. Where `user_connections_max` bounds a user's connections it is asked
//! about each of them, and counts. What a shard tells it is how many it has, never that there is one more or one less: so it does not matter what was lost, or comes
//! twice, when one of the two starts again. About each user one question is under way at a time, as the number in the next one depends on the answer.

use super::Name;
use super::effect::{Effect, Effects, request};
use super::local::{Local, attempt_next};
use super::mail::Request;
use crate::driver::{ConnectionKey, ShardId};

/// Connections of a user on this shard that the inbox's home has not answered for.
#[derive(Debug)]
pub(super) struct Opening {
    attempt: u32,
    /// Those that the question is about stand first.
    keys: Vec<ConnectionKey>,
    /// How many the question is still about: some may have closed since.
    asked: usize,
    /// What the home will take to be open here, besides those that it lets in.
    told: u32,
}

impl Local {
    pub(super) fn open(&mut self, key: ConnectionKey, user: Name, effects: &mut Effects) {
        if let Some(forgotten) = self.members.key(key.slot) {
            // The caller opens a slot once it is free; a member left in it would never be closed.
            self.close(forgotten, effects);
        }
        let first = self.members.open(key, user.clone());
        if let Some(opening) = self.opening.get_mut(&user) {
            opening.keys.push(key);
        } else if first || self.counts_connections {
            self.ask(user, vec![key], effects);
        } else {
            effects.push(Effect::Opened { key });
        }
    }

    /// Asks the inbox's home to let connections in.
    fn ask(&mut self, user: Name, keys: Vec<ConnectionKey>, effects: &mut Effects) {
        let attempt = attempt_next(&mut self.attempt_last);
        let (asked, open) = (keys.len(), self.open_count(&user, keys.len()));
        let opening = Opening {
            attempt,
            keys,
            asked,
            told: open,
        };
        self.opening.insert(user.clone(), opening);
        let home = self.choice.inbox(&user);
        let open = Request::InboxOpen {
            user,
            attempt,
            open,
            waiting: count(asked),
        };
        request(effects, home, open);
    }

    /// Connections of a user that are let in, where so many others wait.
    fn open_count(&self, user: &str, waiting: usize) -> u32 {
        count(self.members.connections_count(user).saturating_sub(waiting))
    }

    /// The home of the user's inbox knows of this shard, and lets so many connections in.
    pub(super) fn inbox_opened(
        &mut self,
        user: Name,
        attempt: u32,
        admitted: u32,
        effects: &mut Effects,
    ) {
        let is_meant = |opening: &Opening| opening.attempt == attempt;
        if !self.opening.get(&user).is_some_and(is_meant) {
            // The connections that asked are gone, or were told before their home started again.
            return;
        }
        let Some(mut opening) = self.opening.remove(&user) else {
            return;
        };
        let asked = match self.counts_connections {
            true => opening.asked.min(opening.keys.len()),
            // Whoever came since needs no leave.
            false => opening.keys.len(),
        };
        let late = opening.keys.split_off(asked);
        let admitted_here = match self.counts_connections {
            true => asked.min(admitted as usize),
            false => asked,
        };
        let refused = opening.keys.split_off(admitted_here);
        let opened = opening.keys.into_iter();
        effects.extend(opened.map(|key| Effect::Opened { key }));
        for key in refused {
            // The home has not counted it.
            self.forget(key, effects);
            effects.push(Effect::Refused { key });
        }
        if !late.is_empty() {
            self.ask(user, late, effects);
            return;
        }
        let left = self.open_count(&user, 0);
        if self.counts_connections && left != opening.told.saturating_add(admitted) {
            self.say_left_open(user, left, effects);
        }
    }

    /// A connection of the user has closed; `last` where it was the last one here.
    pub(super) fn close_inbox(
        &mut self,
        key: ConnectionKey,
        user: Name,
        last: bool,
        effects: &mut Effects,
    ) {
        if last {
            self.opening.remove(&user);
            self.say_left_open(user, 0, effects);
        } else if let Some(opening) = self.opening.get_mut(&user) {
            if let Some(place) = opening.keys.iter().position(|opening| *opening == key) {
                opening.keys.remove(place);
                opening.asked -= usize::from(place < opening.asked);
            }
            // The home is told when it has answered.
        } else if self.counts_connections {
            let left = self.open_count(&user, 0);
            self.say_left_open(user, left, effects);
        }
    }

    fn say_left_open(&self, user: Name, left: u32, effects: &mut Effects) {
        let home = self.choice.inbox(&user);
        request(effects, home, Request::InboxClose { user, left });
    }

    /// A home has started without memory: it is told of the connections here, and asked anew for those that wait. What it answered before is stale from here
    /// on: it may have been asked before it knew of all others.
    pub(super) fn open_inboxes_again(&mut self, home: ShardId, effects: &mut Effects) {
        for user in self.members.users() {
            if self.choice.inbox(user) != home {
                continue;
            }
            let connections = self.members.connections_count(user);
            let (mut attempt, mut waiting) = (0, 0);
            if let Some(opening) = self.opening.get_mut(user) {
                attempt = attempt_next(&mut self.attempt_last);
                waiting = opening.keys.len();
                opening.attempt = attempt;
                opening.asked = waiting;
                opening.told = count(connections.saturating_sub(waiting));
            }
            let open = Request::InboxOpen {
                user: user.clone(),
                attempt,
                open: count(connections.saturating_sub(waiting)),
                waiting: count(waiting),
            };
            request(effects, home, open);
        }
    }
}

/// A number of connections of a shard, which are below `1 << SLOT_BITS`.
fn count(connections: usize) -> u32 {
    u32::try_from(connections).unwrap_or(u32::MAX)
}
