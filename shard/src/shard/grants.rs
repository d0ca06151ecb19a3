//! Grants: what connections may do, until when, and what the shard does about it.
//!
//! Whatever the application asks for on a connection's behalf passes [`Core::permits`], and what rooms answer or announce passes
//! [`Core::permits_answer`] and [`Grants::audience`]. So no application and no client protocol has to see to it.

use std::hash::{BuildHasher, RandomState};
use std::ptr;
use std::sync::Arc;

use hashbrown::HashTable;

use super::Core;
use crate::app::{Action, App};
use crate::chunked::Chunked;
use crate::close_reason::CloseReason;
use crate::connection::State;
use crate::driver::{Clock, ConnectionKey, Slot};
use crate::hub::event::{ErrorCode, Event};
use crate::hub::{Name, Target};
use crate::rights::{Grant, Rights, Rules};
use crate::ws::close::UNAUTHORIZED;

/// The end of a grant that has none.
const NEVER_MS: u64 = u64::MAX;

/// The grants of a shard's connections. Takes no memory until a connection has one.
#[derive(Debug, Default)]
pub(super) struct Grants {
    /// By slot; the default stands for a connection without a grant.
    entries: Chunked<Entry>,
    /// The rules in use, each once.
    rules: HashTable<Shared>,
    /// Hard to guess: what rules say may come from strangers.
    hasher: RandomState,
    used: usize,
    /// Connections with rules.
    restricted: usize,
}

/// One connection's grant.
#[derive(Debug)]
struct Entry {
    /// `None`: everything.
    rules: Option<Arc<Rules>>,
    /// On the monotonic clock.
    ends_ms: u64,
    /// When something is to happen to the connection though its grant has not ended. Of no meaning where that never ends.
    otherwise_ms: u64,
}

const _: () = assert!(size_of::<Entry>() <= 24, "one a connection with a grant");

impl Default for Entry {
    fn default() -> Self {
        Self {
            rules: None,
            ends_ms: NEVER_MS,
            otherwise_ms: 0,
        }
    }
}

impl Entry {
    fn is_grant(&self) -> bool {
        self.rules.is_some() || self.ends_ms != NEVER_MS
    }
}

/// Rules and how many connections have them. The hash is kept, so that the table grows without looking into them.
#[derive(Debug)]
struct Shared {
    rules: Arc<Rules>,
    hash: u64,
    connections: u32,
}

/// A request that a grant does not permit.
struct Refusal {
    connection: ConnectionKey,
    message: &'static str,
    id: Option<Name>,
    room: Option<Name>,
}

impl Grants {
    /// Connections with a grant.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Replaces the grant of a connection. What is to happen to it otherwise is noted next.
    fn set(&mut self, slot: Slot, grant: Option<Grant>, clock: Clock) {
        self.remove(slot);
        let Some(Grant {
            rules,
            expires_unix_ms,
        }) = grant
        else {
            return;
        };
        let entry = Entry {
            rules: rules.map(|rules| self.share(rules)),
            ends_ms: expires_unix_ms.map_or(NEVER_MS, |unix_ms| ends_ms(unix_ms, clock)),
            otherwise_ms: 0,
        };
        self.used += usize::from(entry.is_grant());
        self.restricted += usize::from(entry.rules.is_some());
        if entry.is_grant() {
            *self.entries.ensure(slot as usize) = entry;
        }
    }

    /// Forgets the grant of a connection, if it has one.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get_mut(slot as usize) else {
            return;
        };
        let entry = std::mem::take(entry);
        self.used -= usize::from(entry.is_grant());
        self.restricted -= usize::from(entry.rules.is_some());
        if let Some(rules) = entry.rules {
            self.release(&rules);
        }
    }

    /// The same rules as some connection has already, where there are such.
    fn share(&mut self, rules: Arc<Rules>) -> Arc<Rules> {
        let hash = self.hasher.hash_one(&*rules);
        let is_same = |shared: &Shared| shared.hash == hash && shared.rules == rules;
        if let Some(shared) = self.rules.find_mut(hash, is_same) {
            shared.connections += 1;
            return Arc::clone(&shared.rules);
        }
        let shared = Shared {
            rules: Arc::clone(&rules),
            hash,
            connections: 1,
        };
        self.rules.insert_unique(hash, shared, |shared| shared.hash);
        rules
    }

    /// A connection no longer has these rules, which it was given by [`Grants::share`].
    fn release(&mut self, rules: &Arc<Rules>) {
        let hash = self.hasher.hash_one(&**rules);
        let is_same = |shared: &Shared| Arc::ptr_eq(&shared.rules, rules);
        let Ok(mut found) = self.rules.find_entry(hash, is_same) else {
            return;
        };
        found.get_mut().connections -= 1;
        if found.get().connections == 0 {
            found.remove();
        }
        if self.rules.is_empty() {
            // Give the memory of a past crowd back.
            self.rules = HashTable::new();
        }
    }

    /// The connection's rules; `None` where it may do everything.
    fn rules(&self, slot: Slot) -> Option<&Rules> {
        if self.restricted == 0 {
            return None;
        }
        self.entries.get(slot as usize)?.rules.as_deref()
    }

    /// What a connection may do in a room.
    pub(super) fn rights_in(&self, slot: Slot, room: &str) -> Rights {
        self.rules(slot)
            .map_or(Rights::all(), |rules| rules.rights_in(room))
    }

    /// Who of a room's members is told an event of the room; `None`: everybody.
    pub(super) fn audience<'a>(&'a self, event: &'a Event) -> Option<Audience<'a>> {
        if self.restricted == 0 {
            return None;
        }
        let (right, room) = right_to_hear(event)?;
        Some(Audience {
            grants: self,
            right,
            room,
            last: None,
        })
    }

    /// Whether the time of a connection's grant is over.
    pub(super) fn has_ended(&self, slot: Slot, clock: Clock) -> bool {
        let entry = self.entries.get(slot as usize);
        entry.is_some_and(|entry| entry.ends_ms <= clock.monotonic_ms())
    }

    /// Something is to happen to a connection at this time; answers the earlier one at which its grant ends.
    fn note_deadline(&mut self, slot: Slot, due_ms: u64) -> u64 {
        match self.entries.get_mut(slot as usize) {
            Some(entry) if entry.ends_ms != NEVER_MS => {
                entry.otherwise_ms = due_ms;
                due_ms.min(entry.ends_ms)
            }
            _ => due_ms,
        }
    }

    /// When something is to happen to a connection whose grant ends, were it not for that.
    fn otherwise_ms(&self, slot: Slot) -> Option<u64> {
        let entry = self.entries.get(slot as usize)?;
        (entry.ends_ms != NEVER_MS).then_some(entry.otherwise_ms)
    }

    /// Why an action may not be carried out. From a join that may not be told what was said before the position is taken away.
    fn refusal(&self, action: &mut Action) -> Option<Refusal> {
        let (connection, room, id, needed, message) = match action {
            Action::Join {
                connection,
                room,
                since,
            } => {
                let rights = self.rights_in(connection.slot, room);
                let may_look_back = rights.contains(Rights::HISTORY);
                *since = since.filter(|_| may_look_back);
                let message = "this connection may not join this room";
                (*connection, room, None, Rights::JOIN, message)
            }
            Action::Publish {
                connection,
                target: Target::Room(room),
                id,
                ..
            } => {
                let message = "this connection may not publish in this room";
                (*connection, room, id.clone(), Rights::PUBLISH, message)
            }
            Action::Publish {
                connection,
                target: Target::Inbox(user),
                id,
                ..
            } => {
                let rules = self.rules(connection.slot)?;
                return (!rules.may_direct(user)).then(|| Refusal {
                    connection: *connection,
                    message: "this connection may not write to this user",
                    id: id.clone(),
                    room: None,
                });
            }
            Action::Presence { connection, room } => {
                let message = "this connection may not know who is in this room";
                (*connection, room, None, Rights::PRESENCE, message)
            }
            Action::History {
                connection, room, ..
            } => {
                let message = "this connection may not know what was said in this room";
                (*connection, room, None, Rights::HISTORY, message)
            }
            _ => return None,
        };
        let rights = self.rights_in(connection.slot, room);
        (!rights.contains(needed)).then(|| Refusal {
            connection,
            message,
            id,
            room: Some(room.clone()),
        })
    }
}

/// When a grant ends on the monotonic clock: what the operator does to the other one afterwards does not matter.
fn ends_ms(expires_unix_ms: u64, clock: Clock) -> u64 {
    match expires_unix_ms.checked_sub(clock.unix_ms) {
        None | Some(0) => 0,
        // Rounded up: not before the time.
        Some(left_ms) => clock.monotonic_us.div_ceil(1000).saturating_add(left_ms),
    }
}

/// What a member must be permitted to hear an event, where that is not to be a member, and in which room.
fn right_to_hear(event: &Event) -> Option<(Rights, &Name)> {
    match event {
        Event::UserJoined { room, .. }
        | Event::UserLeft { room, .. }
        | Event::PresenceCount { room, .. }
        | Event::Presence { room, .. } => Some((Rights::PRESENCE, room)),
        Event::History { room, .. } => Some((Rights::HISTORY, room)),
        _ => None,
    }
}

/// See [`Grants::audience`].
pub(super) struct Audience<'a> {
    grants: &'a Grants,
    right: Rights,
    room: &'a Name,
    /// The rules looked at last, and what they say: many have the same.
    last: Option<(&'a Rules, bool)>,
}

impl Audience<'_> {
    /// Whether a connection is told.
    pub(super) fn includes(&mut self, slot: Slot) -> bool {
        let Some(rules) = self.grants.rules(slot) else {
            return true;
        };
        match self.last {
            Some((last, may_hear)) if ptr::eq(last, rules) => may_hear,
            _ => {
                let may_hear = rules.rights_in(self.room).contains(self.right);
                self.last = Some((rules, may_hear));
                may_hear
            }
        }
    }
}

impl<A: App> Core<A> {
    /// Whether an action may be carried out. A connection that its grant does not permit it is told so, in the same way whether there is such a room
    /// or not.
    pub(super) fn permits(&mut self, action: &mut Action) -> bool {
        if self.grants.restricted == 0 {
            return true;
        }
        let refusal = self.grants.refusal(action);
        let is_permitted = refusal.is_none();
        if let Some(refusal) = refusal {
            self.forbid(refusal);
        }
        is_permitted
    }

    /// Whether a connection may be told what a home answers: since it asked, its grant may have been replaced. Otherwise it is told so.
    pub(super) fn permits_answer(&mut self, key: ConnectionKey, event: &Event) -> bool {
        if self.grants.restricted == 0 {
            return true;
        }
        let Some((right, room)) = right_to_hear(event) else {
            return true;
        };
        let may_hear = self.grants.rights_in(key.slot, room).contains(right);
        if !may_hear {
            self.forbid(Refusal {
                connection: key,
                message: "this connection may not be told that any more",
                id: None,
                room: Some(room.clone()),
            });
        }
        may_hear
    }

    fn forbid(&mut self, refusal: Refusal) {
        self.stats.forbidden.add(1);
        let Refusal {
            connection,
            message,
            id,
            room,
        } = refusal;
        self.send_error(connection, ErrorCode::Forbidden, message.into(), id, room);
    }

    /// Gives a connection a grant in place of the one it had; false where that has ended already, and so the connection.
    pub(super) fn grant(&mut self, key: ConnectionKey, grant: Option<Grant>) -> bool {
        let due_ms = self.grants.otherwise_ms(key.slot);
        let due_ms = due_ms.or_else(|| self.deadlines.due_ms(key.slot));
        self.grants.set(key.slot, grant, self.clock);
        if self.grants.has_ended(key.slot, self.clock) {
            self.expire(key);
            return false;
        }
        self.set_deadline(key.slot, due_ms.unwrap_or(NEVER_MS));
        true
    }

    /// The application replaces the grant of an open connection, which leaves the rooms that it may no longer be in.
    pub(super) fn renew(&mut self, key: ConnectionKey, grant: Option<Grant>) {
        if self.table.state(key) != State::Open || !self.grant(key, grant) {
            return;
        }
        if let Some(rules) = self.grants.rules(key.slot) {
            let may_stay = |room: &str| rules.rights_in(room).contains(Rights::JOIN);
            self.hub.expel(key, may_stay, &mut self.effects);
        }
    }

    /// Has something happen to a connection at this time, or its end where its grant ends before.
    pub(super) fn set_deadline(&mut self, slot: Slot, due_ms: u64) {
        let due_ms = self.grants.note_deadline(slot, due_ms);
        self.deadlines.set(slot, due_ms);
    }

    /// What a connection was granted has ended.
    pub(super) fn expire(&mut self, key: ConnectionKey) {
        self.stats.close_expired.add(1);
        let why = CloseReason::Expired;
        self.end(key, why, UNAUTHORIZED, "token expired", State::Closing);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rights::RoomRule;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Rules that differ from others of another number.
    fn rules(number: u8) -> Arc<Rules> {
        let room = RoomRule {
            rooms: format!("room{number}").parse().unwrap(),
            rights: Rights::JOIN,
        };
        Arc::new(Rules {
            rooms: vec![room],
            direct: Vec::new(),
        })
    }

    const CLOCK: Clock = Clock {
        monotonic_us: 5_000_500,
        unix_ms: 1_000_000,
    };

    #[test]
    fn a_grant_ends_no_sooner_than_it_says() {
        let cases = [
            (0, 0),
            (999_999, 0),
            (1_000_000, 0),
            (1_000_001, 5002),
            (1_060_000, 65_001),
            (u64::MAX, u64::MAX - 1_000_000 + 5001),
        ];
        for (expires_unix_ms, expected) in cases {
            assert_eq!(
                ends_ms(expires_unix_ms, CLOCK),
                expected,
                "{expires_unix_ms}"
            );
        }
    }

    #[test]
    fn the_earlier_of_two_deadlines_counts_and_the_later_is_kept() {
        let mut grants = Grants::default();
        assert_eq!(grants.note_deadline(3, 100), 100);
        assert_eq!(grants.otherwise_ms(3), None);
        let grant = |expires_unix_ms| {
            Some(Grant {
                rules: None,
                expires_unix_ms,
            })
        };
        grants.set(3, grant(Some(CLOCK.unix_ms + 10)), CLOCK);
        assert_eq!(grants.note_deadline(3, 9000), 5011);
        assert_eq!(grants.otherwise_ms(3), Some(9000));
        assert_eq!(grants.note_deadline(3, 5003), 5003);
        let at = |monotonic_us| Clock {
            monotonic_us,
            ..CLOCK
        };
        assert!(!grants.has_ended(3, at(5_010_999)) && grants.has_ended(3, at(5_011_000)));
        grants.set(3, grant(None), CLOCK);
        assert_eq!((grants.used(), grants.note_deadline(3, 9000)), (0, 9000));
        assert!(!grants.has_ended(3, at(u64::MAX)));
    }

    proptest! {
        #[test]
        fn entries_and_rules_agree_with_a_map(steps in proptest::collection::vec((0_u32..300, 0_u8..8, any::<bool>()), 0..200)) {
            let mut grants = Grants::default();
            let mut truth: BTreeMap<Slot, (Option<u8>, Option<u64>)> = BTreeMap::new();
            for (slot, number, ends) in steps {
                // 6 and 7: everything, for a time or for ever.
                let restricted = (number < 6).then_some(number);
                let expires_unix_ms = ends.then_some(CLOCK.unix_ms + 1);
                let grant = Grant { rules: restricted.map(rules), expires_unix_ms };
                match number {
                    7 => grants.remove(slot),
                    _ => grants.set(slot, Some(grant), CLOCK),
                }
                truth.remove(&slot);
                if number < 7 && (restricted.is_some() || ends) {
                    truth.insert(slot, (restricted, expires_unix_ms));
                }
                prop_assert_eq!(grants.used(), truth.len());
                let mut shared: BTreeMap<u8, u32> = BTreeMap::new();
                for number in truth.values().filter_map(|(restricted, _)| *restricted) {
                    *shared.entry(number).or_default() += 1;
                }
                prop_assert_eq!(grants.restricted as u32, shared.values().sum::<u32>());
                prop_assert_eq!(grants.rules.len(), shared.len());
                for found in &grants.rules {
                    let number = shared.keys().find(|number| rules(**number) == found.rules).unwrap();
                    prop_assert_eq!(found.connections, shared[number]);
                }
                for slot in 0..300 {
                    let expected = truth.get(&slot).and_then(|(restricted, _)| restricted.map(rules));
                    prop_assert_eq!(grants.rules(slot), expected.as_deref());
                    let ends = truth.get(&slot).is_some_and(|(_, ends)| ends.is_some());
                    prop_assert_eq!(grants.otherwise_ms(slot).is_some(), ends);
                }
            }
        }
    }
}
