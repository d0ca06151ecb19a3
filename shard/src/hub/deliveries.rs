//! The members' side of a shard: what homes tell it.

use std::sync::Arc;

use super::effect::{Effect, Effects, request};
use super::event::{ErrorCode, Event, Message, Position, Target};
use super::local::{Local, attempt_is_after, attempt_next};
use super::mail::{Delivery, JoinToken, Request};
use super::member::Place;
use super::{Name, SliceId};
use crate::driver::{ConnectionKey, ShardId};

impl Local {
    pub(super) fn handle(&mut self, from: ShardId, delivery: Delivery, effects: &mut Effects) {
        match delivery {
            Delivery::Hello => return self.home_started(from, effects),
            Delivery::Welcome { incarnation } => {
                if incarnation == self.incarnation
                    && let Some(welcomed) = self.welcomed.get_mut(usize::from(from))
                {
                    *welcomed = true;
                }
                return;
            }
            _ => {}
        }
        if self.welcomed.get(usize::from(from)) != Some(&true) {
            // Meant for the members of an earlier incarnation, whose keys ours may bear again.
            self.stale += 1;
            return;
        }
        match delivery {
            Delivery::Hello | Delivery::Welcome { .. } => {}
            Delivery::Joined {
                room,
                token,
                position,
                members,
                recovered,
                missed,
            } => match self.accept(&room, token, position, effects) {
                Some(key) => effects.push(Effect::Joined {
                    key,
                    room,
                    position,
                    members,
                    missed: recovered.then_some(missed),
                }),
                None => self.stale += 1,
            },
            Delivery::InboxOpened {
                user,
                attempt,
                admitted,
            } => self.inbox_opened(user, attempt, admitted, effects),
            Delivery::JoinRefused { room, token, code } => self.refused(room, token, code, effects),
            Delivery::Reset {
                room,
                position,
                missed,
            } => self.reset(room, position, missed, effects),
            Delivery::Message { message, taken_us } => self.message(message, taken_us, effects),
            Delivery::Broadcast { room, event } => match self.slices.find(&room) {
                Some(slice) => effects.push(Effect::ToSlice {
                    slice: SliceId(slice),
                    event: Arc::unwrap_or_clone(event),
                    taken_us: None,
                }),
                None => self.ignored += 1,
            },
            Delivery::Reply { to, event } => {
                if self.members.user(to).is_some() {
                    effects.push(Effect::ToMember { key: to, event });
                } else {
                    self.stale += 1;
                }
            }
        }
    }

    /// The slice and index of the join that a token names, where it still waits for its answer.
    fn waiting(&self, room: &str, token: JoinToken) -> Option<(u32, Place)> {
        let (slice, place) = self.membership(token.member, room)?;
        let Place::Pending(index) = place else {
            return None;
        };
        let pending = self.slices.get(slice)?.pending(index)?;
        (pending.attempt == token.attempt).then_some((slice, place))
    }

    /// Makes a waiting member an active one.
    fn accept(
        &mut self,
        room: &Name,
        token: JoinToken,
        position: Position,
        effects: &mut Effects,
    ) -> Option<ConnectionKey> {
        let (slice, place) = self.waiting(room, token)?;
        self.take_out(slice, place);
        let entry = self.slices.get_mut(slice)?;
        if !entry.active().is_empty() && (entry.rejoining || entry.position != position) {
            // The home has lost sight of this slice for a while. The new member is told apart from the
            // others, who may have missed something.
            self.ignored += 1;
            for slot in entry.active() {
                effects.extend(self.members.key(*slot).map(|key| Effect::ToMember {
                    key,
                    event: Event::Reset {
                        room: room.clone(),
                        position,
                    },
                }));
            }
        }
        entry.rejoining = false;
        entry.position = position;
        let place = entry.add_active(token.member.slot);
        self.members.set_place(token.member.slot, slice, place);
        Some(token.member)
    }

    fn refused(&mut self, room: Name, token: JoinToken, code: ErrorCode, effects: &mut Effects) {
        let Some((slice, place)) = self.waiting(&room, token) else {
            self.stale += 1;
            // The member's leave was under way. The home, which had not let the member in, may have taken
            // it for the leave of another connection of the same user, so it is told who is here, unless it
            // was since.
            if let Some(slice) = self.slices.find(&room)
                && let Some(entry) = self.slices.get(slice)
                && attempt_is_after(token.attempt, entry.registered)
            {
                self.register_again(slice, effects);
            }
            return;
        };
        self.take_out(slice, place);
        self.members.remove_place(token.member.slot, slice);
        self.drop_if_empty(slice);
        let event = Event::Error {
            code,
            message: "the shard that would order this room holds as many rooms as it may".into(),
            id: None,
            room: Some(room),
        };
        effects.push(Effect::ToMember {
            key: token.member,
            event,
        });
    }

    /// The home has answered a rejoin.
    fn reset(
        &mut self,
        room: Name,
        position: Position,
        mut missed: Vec<Arc<Message>>,
        effects: &mut Effects,
    ) {
        let found = self.slices.find(&room);
        let Some((slice, entry)) =
            found.and_then(|slice| Some((slice, self.slices.get_mut(slice)?)))
        else {
            self.ignored += 1;
            return;
        };
        entry.rejoining = false;
        if entry.active().is_empty() {
            // Whoever asked has left; who waits is answered apart.
            self.ignored += 1;
            return;
        }
        let told = entry.position;
        entry.position = position;
        let slice = SliceId(slice);
        let same_epoch = told.epoch == position.epoch && told.seq <= position.seq;
        if same_epoch {
            missed.retain(|message| message.seq > told.seq);
        }
        // A home that was asked twice answers twice: members who have missed nothing are not bothered.
        if !same_epoch || missed.len() as u64 != position.seq - told.seq {
            effects.push(Effect::ToSlice {
                slice,
                event: Event::Reset { room, position },
                taken_us: None,
            });
        }
        effects.extend(missed.into_iter().map(|message| Effect::ToSlice {
            slice,
            event: Event::Message(message),
            taken_us: None,
        }));
    }

    fn message(&mut self, message: Arc<Message>, taken_us: u64, effects: &mut Effects) {
        let room = match &message.target {
            Target::Room(room) => room,
            Target::Inbox(user) => {
                let user = user.clone();
                if self.members.connections(&user).next().is_some() {
                    effects.push(Effect::ToUser {
                        user,
                        event: Event::Message(message),
                        taken_us,
                    });
                }
                return;
            }
        };
        let found = self.slices.find(room);
        let Some((slice, entry)) =
            found.and_then(|slice| Some((slice, self.slices.get_mut(slice)?)))
        else {
            self.ignored += 1;
            return;
        };
        if entry.active().is_empty() || entry.rejoining {
            return;
        }
        let slice = SliceId(slice);
        if message.seq <= entry.position.seq {
            self.ignored += 1;
            return;
        }
        if message.seq != entry.position.seq + 1 {
            // The home has lost sight of this slice for a while.
            self.ignored += 1;
            let event = Event::Reset {
                room: room.clone(),
                position: Position {
                    epoch: entry.position.epoch,
                    seq: message.seq - 1,
                },
            };
            effects.push(Effect::ToSlice {
                slice,
                event,
                taken_us: None,
            });
        }
        entry.position.seq = message.seq;
        effects.push(Effect::ToSlice {
            slice,
            event: Event::Message(message),
            taken_us: Some(taken_us),
        });
    }

    /// A home has started without memory: it is told who is here.
    ///
    /// Walks all slices and members. A shard starts rarely.
    fn home_started(&mut self, home: ShardId, effects: &mut Effects) {
        if self.welcomed.get(usize::from(home)) == Some(&false) {
            // The Hello may have been lost with the home's earlier incarnation.
            self.say_hello(home, effects);
        }
        let slices: Vec<u32> = self
            .slices
            .iter()
            .filter(|(_, _, slice)| slice.home == home)
            .map(|(id, _, _)| id)
            .collect();
        for slice in slices {
            if let Some(entry) = self.slices.get_mut(slice) {
                entry.rejoining = !entry.active().is_empty();
            }
            self.register_again(slice, effects);
        }
        self.open_inboxes_again(home, effects);
    }

    /// Tells the home who is in a slice, and asks anew for whoever waits to be let in. Answers to earlier
    /// joins are stale from here on: the home may have given them before it counted the members anew.
    fn register_again(&mut self, slice: u32, effects: &mut Effects) {
        let Some(room) = self.slices.name(slice).cloned() else {
            return;
        };
        let Some(entry) = self.slices.get_mut(slice) else {
            return;
        };
        entry.registered = self.attempt_last;
        let home = entry.home;
        let user_of = |slot| {
            let key = self.members.key(slot)?;
            Some((key, self.members.user(key)?.clone()))
        };
        let users = entry
            .active()
            .iter()
            .filter_map(|slot| user_of(*slot))
            .map(|(_, user)| user)
            .collect();
        let rejoin = Request::Rejoin {
            room: room.clone(),
            users,
        };
        request(effects, home, rejoin);
        let attempt_last = &mut self.attempt_last;
        for pending in entry.all_pending_mut() {
            pending.attempt = attempt_next(attempt_last);
            let Some((member, user)) = user_of(pending.slot) else {
                continue;
            };
            let join = Request::Join {
                room: room.clone(),
                token: JoinToken {
                    member,
                    attempt: pending.attempt,
                },
                user,
                since: pending.since,
            };
            request(effects, home, join);
        }
    }
}
