//! The home side of a shard: the rooms and inboxes that it orders, and the requests it answers.

use ahash::RandomState;
use std::sync::Arc;

use super::Name;
use super::due::{DUE_PER_CALL_MAX, DueQueue};
use super::effect::{Call, Effect, Effects};
use super::event::{ErrorCode, Event, Position, Target};
use super::history::HistoryBounds;
use super::home::{Change, Home};
use super::inbox::{Asked, Inboxes};
use super::interest::Interest;
use super::mail::{Delivery, JoinToken, Request};
use super::order::{Ordered, Publish, Shelf};
use super::table::NameTable;
use crate::driver::{Clock, ConnectionKey, ShardId};
use crate::limits::Limits;
use crate::orders::{Publication, Published};
use crate::room_settings::{PresenceMode, RoomKinds};
use crate::verdict::Occupancy;

/// Everything that one shard is home to.
#[derive(Debug)]
pub(super) struct Homes {
    // Boxed: a table of pointers grows without moving the homes.
    pub(super) rooms: NameTable<Box<Home>>,
    inboxes: Inboxes,
    pub(super) shelf: Shelf,
    /// Large rooms whose count has changed.
    counts: DueQueue<RoomKey>,
    /// Orders that remember something, and so will have something to forget.
    sweeps: DueQueue<Sweep>,
    rooms_max: usize,
    kinds: Arc<RoomKinds>,
    presence_list_max: usize,
    /// Whether somebody wants to know which rooms have users.
    pub(super) tells_occupancy: bool,
    /// Requests that made no sense, as a restart makes them: leaves by members never seen.
    pub(super) ignored: u64,
}

/// A room's number, and its epoch to tell whether it is still the same room.
#[derive(Clone, Copy, Debug)]
struct RoomKey {
    id: u32,
    epoch: u64,
}

/// What the sweep will visit.
#[derive(Clone, Copy, Debug)]
enum Sweep {
    Room(RoomKey),
    /// The number and epoch of a full inbox.
    Inbox(u32, u64),
}

/// The wait between two visits of the sweep, where the oldest memory lasts `lifetime_ms`: what has expired
/// is freed at most a quarter late, and each visit is one of four in the life of a message.
fn sweep_ms(lifetime_ms: u64) -> u64 {
    (lifetime_ms / 4).clamp(100, 60_000)
}

impl Homes {
    pub(super) fn new(limits: &Limits, kinds: Arc<RoomKinds>, hasher: RandomState) -> Self {
        let shelf = Shelf::new(limits, &kinds, hasher.clone());
        let lifetimes_ms = shelf.histories.iter().map(HistoryBounds::lifetime_ms);
        let lifetime_ms = lifetimes_ms.fold(shelf.ids.lifetime_ms(), u64::max);
        let rooms_max = usize::try_from(limits.rooms_max).unwrap_or(usize::MAX);
        Self {
            rooms: NameTable::new(hasher.clone()),
            inboxes: Inboxes::new(rooms_max, limits.user_connections_max, hasher),
            shelf,
            counts: DueQueue::new(limits.presence_count_ms),
            sweeps: DueQueue::new(sweep_ms(lifetime_ms)),
            rooms_max,
            kinds,
            presence_list_max: usize::try_from(limits.presence_list_max).unwrap_or(usize::MAX),
            tells_occupancy: false,
            ignored: 0,
        }
    }

    /// All starts of the shard agree about this moment: epochs count from it.
    pub(super) fn start(&mut self, origin: Clock) {
        self.shelf.origin = origin;
    }

    pub(super) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Where a room stands.
    #[cfg(test)]
    pub(super) fn position(&self, room: &str) -> Option<Position> {
        let home = self.rooms.get(self.rooms.find(room)?)?;
        Some(home.order.position())
    }

    /// Connections of a user, as far as this home was told.
    #[cfg(test)]
    pub(super) fn connections(&self, user: &str) -> u64 {
        self.inboxes.connections(user)
    }

    pub(super) fn inboxes(&self) -> usize {
        self.inboxes.len()
    }

    pub(super) fn history_bytes(&self) -> u64 {
        self.shelf.history_bytes
    }

    pub(super) fn handle(&mut self, request: Request, call: &mut Call<'_>) {
        match request {
            Request::Hello { incarnation } => {
                self.forget_shard(call);
                call.deliver(call.from, Delivery::Welcome { incarnation });
            }
            Request::Join {
                room,
                token,
                user,
                since,
            } => self.join(room, token, &user, since, call),
            Request::Leave { room, user } => self.leave(&room, &user, call),
            Request::Rejoin { room, users } => self.rejoin(room, &users, call),
            Request::InboxOpen {
                user,
                attempt,
                open,
                waiting,
            } => {
                let asked = Asked {
                    shard: call.from,
                    open,
                    waiting,
                };
                let admitted = self.inboxes.open(&user, asked, &mut self.shelf, call.clock);
                let opened = Delivery::InboxOpened {
                    user,
                    attempt,
                    admitted,
                };
                call.deliver(call.from, opened);
            }
            Request::InboxClose { user, left } => {
                if !self.inboxes.close(&user, call.from, left) {
                    self.ignored += 1;
                }
            }
            Request::Publish {
                target,
                user,
                content,
                id,
                sender,
                taken_us,
            } => {
                let publish = Publish {
                    target,
                    user,
                    content,
                    id,
                    taken_us: taken_us.unwrap_or(call.clock.monotonic_us),
                };
                self.publish(publish, sender, call);
            }
            Request::Presence { room, asker } => self.presence(room, asker, call),
            Request::History {
                room,
                asker,
                since,
                limit,
            } => self.history(room, asker, since, limit, call),
        }
    }

    fn join(
        &mut self,
        room: Name,
        token: JoinToken,
        user: &Name,
        since: Option<Position>,
        call: &mut Call<'_>,
    ) {
        let Some(id) = self.open_room(&room, self.rooms_max, call.clock) else {
            let code = ErrorCode::TooManyRooms;
            call.deliver(call.from, Delivery::JoinRefused { room, token, code });
            return;
        };
        let Some(home) = self.rooms.get_mut(id) else {
            return;
        };
        let before = home.users();
        // The others are told before the joiner's shard belongs to them: a joiner does not meet itself.
        if let Some(change) = home.enter(user, call.from, &self.shelf.hasher) {
            let users = home.users();
            self.announce(id, users, vec![change], call);
            self.note_occupancy(id, before, call);
        }
        let Some(home) = self.rooms.get_mut(id) else {
            return;
        };
        home.interest.add(call.from);
        home.order.expire(call.now_ms(), &mut self.shelf);
        let missed = since.and_then(|since| home.order.recover(since));
        let joined = Delivery::Joined {
            room,
            token,
            position: home.order.position(),
            members: match self.kinds.get(home.order.kind).presence {
                PresenceMode::Individual | PresenceMode::Count => home.users(),
                PresenceMode::Off => 0,
            },
            recovered: missed.is_some(),
            missed: missed.unwrap_or_default(),
        };
        call.deliver(call.from, joined);
    }

    fn leave(&mut self, room: &str, user: &Name, call: &mut Call<'_>) {
        let departed = self.rooms.find(room).and_then(|id| {
            let home = self.rooms.get_mut(id)?;
            let before = home.users();
            let change = home.depart(user, call.from, &self.shelf.hasher).ok()?;
            Some((id, before, change))
        });
        let Some((id, before, change)) = departed else {
            self.ignored += 1;
            return;
        };
        if let Some(change) = change {
            self.announce(id, before, vec![change], call);
            self.note_occupancy(id, before, call);
        }
        self.forget_room_if_empty(id, call.now_ms());
    }

    /// Takes a slice's word for who is in it.
    ///
    /// Not bounded by `rooms_max`: the memberships exist already, and a home that has started again
    /// must not turn them out. Without users there is nobody to answer.
    fn rejoin(&mut self, room: Name, users: &[Name], call: &mut Call<'_>) {
        let id = if users.is_empty() {
            self.rooms.find(&room)
        } else {
            self.open_room(&room, usize::MAX, call.clock)
        };
        let Some(id) = id else {
            return;
        };
        let Some(home) = self.rooms.get_mut(id) else {
            return;
        };
        let before = home.users();
        let changes = home.replace(call.from, users, &self.shelf.hasher);
        let after = home.users();
        if before != after || !changes.is_empty() {
            self.announce(id, before.max(after), changes, call);
            self.note_occupancy(id, before, call);
        }
        if users.is_empty() {
            self.forget_room_if_empty(id, call.now_ms());
        } else if let Some(home) = self.rooms.get_mut(id) {
            home.order.expire(call.now_ms(), &mut self.shelf);
            let reset = Delivery::Reset {
                room,
                position: home.order.position(),
                missed: home.order.remembered(),
            };
            call.deliver(call.from, reset);
        }
    }

    /// Carries out what a slice asks for, and tells the sender what became of it.
    fn publish(&mut self, publish: Publish, sender: Option<ConnectionKey>, call: &mut Call<'_>) {
        let (target, id) = (publish.target.clone(), publish.id.clone());
        let published = self.order(publish, call);
        let answer = match (published, id) {
            (None, id) => refusal(target, id),
            (Some(_), None) => return,
            (Some(published), Some(id)) => Event::Ack {
                id,
                target,
                seq: published.position.seq,
                duplicate: published.duplicate,
            },
        };
        if let Some(sender) = sender {
            call.reply(sender, answer);
        }
    }

    /// Carries out what the server itself asks for.
    pub(super) fn publish_from_server(
        &mut self,
        publication: Publication,
        call: &mut Call<'_>,
    ) -> Result<Published, ErrorCode> {
        if let Target::Room(room) = &publication.target {
            let found = self.rooms.find(room).and_then(|id| self.rooms.get(id));
            let kind = found.map_or_else(|| self.kinds.of_room(room), |home| home.order.kind);
            if publication.content.len() as u64 > self.kinds.get(kind).message_size_max {
                return Err(ErrorCode::TooLarge);
            }
        }
        let Publication {
            user,
            target,
            content,
            id,
        } = publication;
        let publish = Publish {
            target,
            user,
            content,
            id,
            taken_us: call.clock.monotonic_us,
        };
        self.order(publish, call).ok_or(ErrorCode::TooManyRooms)
    }

    /// Gives a message its place and sends it to every shard that is interested; `None` where that would open one room or inbox too many.
    fn order(&mut self, publish: Publish, call: &mut Call<'_>) -> Option<Published> {
        let (target, taken_us) = (publish.target.clone(), publish.taken_us);
        let place = match &target {
            Target::Room(room) => self.open_room(room, self.rooms_max, call.clock),
            Target::Inbox(user) => self.inboxes.full(user, &mut self.shelf, call.clock),
        }?;
        let orders = match &target {
            Target::Room(_) => self
                .rooms
                .get_mut(place)
                .map(|home| (&mut home.order, &home.interest)),
            Target::Inbox(_) => self
                .inboxes
                .get_mut(place)
                .map(|inbox| (&mut inbox.order, &inbox.interest)),
        };
        let (order, interest) = orders?;
        let (seq, duplicate) = match order.publish(publish, &mut self.shelf, call.clock) {
            Ordered::Duplicate(seq) => (seq, true),
            Ordered::New(message) => {
                let seq = message.seq;
                deliver_all(interest, call, || Delivery::Message {
                    message: Arc::clone(&message),
                    taken_us,
                });
                (seq, false)
            }
        };
        let epoch = order.position().epoch;
        if !order.sweep_queued && !order.is_empty() {
            order.sweep_queued = true;
            let sweep = match &target {
                Target::Room(_) => Sweep::Room(RoomKey { id: place, epoch }),
                Target::Inbox(_) => Sweep::Inbox(place, epoch),
            };
            self.sweeps.push(call.now_ms(), sweep);
        }
        match &target {
            Target::Room(_) => self.forget_room_if_empty(place, call.now_ms()),
            Target::Inbox(_) => self.inboxes.tidy(place),
        }
        Some(Published {
            position: Position { epoch, seq },
            duplicate,
        })
    }

    fn presence(&self, room: Name, asker: ConnectionKey, call: &mut Call<'_>) {
        let home = self.rooms.find(&room).and_then(|id| self.rooms.get(id));
        let kind = home.map_or_else(|| self.kinds.of_room(&room), |home| home.order.kind);
        let names_max = match self.kinds.get(kind).presence {
            PresenceMode::Individual => self.presence_list_max,
            PresenceMode::Count => 0,
            PresenceMode::Off => {
                let refused = Event::Error {
                    code: ErrorCode::Forbidden,
                    message: "presence is off in this room".into(),
                    id: None,
                    room: Some(room),
                };
                return call.reply(asker, refused);
            }
        };
        let (count, users) = home.map_or((0, Vec::new()), |home| {
            let names = home.names(names_max, &self.shelf.hasher);
            (home.users(), names)
        });
        call.reply(asker, Event::Presence { room, count, users });
    }

    fn history(
        &mut self,
        room: Name,
        asker: ConnectionKey,
        since: Option<Position>,
        limit: Option<u64>,
        call: &mut Call<'_>,
    ) {
        let home = self.rooms.find(&room).and_then(|id| self.rooms.get_mut(id));
        let answer = match home {
            Some(home) => {
                home.order.expire(call.now_ms(), &mut self.shelf);
                home.order.recall(room, since, limit)
            }
            None => Event::History {
                room,
                position: Position::default(),
                messages: Vec::new(),
                complete: since.is_none(),
            },
        };
        call.reply(asker, answer);
    }

    /// A shard has started again: nobody it had is here any more.
    ///
    /// Walks all rooms and inboxes. A shard starts rarely, and a list of rooms a shard would cost memory for
    /// every room at all times.
    fn forget_shard(&mut self, call: &mut Call<'_>) {
        let interested: Vec<u32> = self
            .rooms
            .iter()
            .filter(|(_, _, home)| home.interest.shards().any(|shard| shard == call.from))
            .map(|(id, _, _)| id)
            .collect();
        for id in interested {
            let Some(home) = self.rooms.get_mut(id) else {
                continue;
            };
            let before = home.users();
            let changes = home.replace(call.from, &[], &self.shelf.hasher);
            if !changes.is_empty() {
                self.announce(id, before, changes, call);
                self.note_occupancy(id, before, call);
            }
            self.forget_room_if_empty(id, call.now_ms());
        }
        self.inboxes.close_shard(call.from);
    }

    /// Tells the interested shards who came or is gone; in a large room, only that the count will follow.
    /// `users` is the larger of the counts before and after: who was announced when coming is announced
    /// when going.
    fn announce(&mut self, id: u32, users: u64, changes: Vec<Change>, call: &mut Call<'_>) {
        let (Some(home), Some(room)) = (self.rooms.get(id), self.rooms.name(id)) else {
            return;
        };
        let kind = self.kinds.get(home.order.kind);
        match kind.presence {
            PresenceMode::Individual if users <= kind.presence_individual_max => {}
            PresenceMode::Individual | PresenceMode::Count => {
                return self.queue_count(id, call.now_ms());
            }
            PresenceMode::Off => return,
        }
        for change in changes {
            let event = match change {
                Change::Came(user) => Event::UserJoined {
                    room: room.clone(),
                    user,
                },
                Change::Gone(user) => Event::UserLeft {
                    room: room.clone(),
                    user,
                },
            };
            tell_all(home, call, room, event);
        }
    }

    /// Says so where a room that had `before` users has its first now, or has lost its last.
    fn note_occupancy(&mut self, id: u32, before: u64, call: &mut Call<'_>) {
        if !self.tells_occupancy {
            return;
        }
        let (Some(home), Some(room)) = (self.rooms.get(id), self.rooms.name(id)) else {
            return;
        };
        let occupancy = match (before, home.users()) {
            (0, 1..) => Occupancy::Occupied,
            (1.., 0) => Occupancy::Vacated,
            _ => return,
        };
        let room = room.clone();
        call.effects.push(Effect::Occupancy { room, occupancy });
    }

    /// Queues a room's count, where none is queued.
    fn queue_count(&mut self, id: u32, now_ms: u64) {
        let Some(home) = self.rooms.get_mut(id) else {
            return;
        };
        if !home.count_queued {
            home.count_queued = true;
            let epoch = home.order.position().epoch;
            self.counts.push(now_ms, RoomKey { id, epoch });
        }
    }

    /// The number of a room, opened where there are fewer than `most`.
    fn open_room(&mut self, room: &Name, most: usize, clock: Clock) -> Option<u32> {
        if let Some(id) = self.rooms.find(room) {
            return Some(id);
        }
        if self.rooms.len() >= most {
            return None;
        }
        let kind = self.kinds.of_room(room);
        let home = Box::new(Home::new(kind, &mut self.shelf, clock));
        Some(self.rooms.insert(room.clone(), home))
    }

    fn forget_room_if_empty(&mut self, id: u32, now_ms: u64) {
        let Some(home) = self.rooms.get_mut(id) else {
            return;
        };
        home.order.expire(now_ms, &mut self.shelf);
        if home.is_forgettable() {
            self.rooms.remove(id);
        }
    }

    /// The room of that key, unless it is gone or another has taken its number.
    fn same_room(&mut self, key: RoomKey) -> Option<&mut Home> {
        self.rooms
            .get_mut(key.id)
            .filter(|home| home.order.position().epoch == key.epoch)
            .map(Box::as_mut)
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        [self.counts.next_ms(), self.sweeps.next_ms()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due, within bounds; `shard` is this shard.
    pub(super) fn run_due(&mut self, shard: ShardId, clock: Clock, effects: &mut Effects) {
        let mut call = Call {
            from: shard,
            clock,
            effects,
        };
        for _ in 0..DUE_PER_CALL_MAX {
            let Some(key) = self.counts.pop(clock.monotonic_ms()) else {
                break;
            };
            self.tell_count(key, &mut call);
        }
        for _ in 0..DUE_PER_CALL_MAX {
            let Some(sweep) = self.sweeps.pop(clock.monotonic_ms()) else {
                break;
            };
            self.sweep(sweep, clock.monotonic_ms());
        }
    }

    fn tell_count(&mut self, key: RoomKey, call: &mut Call<'_>) {
        let Some(home) = self.same_room(key) else {
            return;
        };
        home.count_queued = false;
        let count = home.users();
        let (Some(home), Some(room)) = (self.rooms.get(key.id), self.rooms.name(key.id)) else {
            return;
        };
        let event = Event::PresenceCount {
            room: room.clone(),
            count,
        };
        tell_all(home, call, room, event);
    }

    fn sweep(&mut self, sweep: Sweep, now_ms: u64) {
        let (order, epoch) = match sweep {
            Sweep::Room(key) => {
                let home = self.rooms.get_mut(key.id);
                (home.map(|home| &mut home.order), key.epoch)
            }
            Sweep::Inbox(full, epoch) => {
                let inbox = self.inboxes.get_mut(full);
                (inbox.map(|inbox| &mut inbox.order), epoch)
            }
        };
        let Some(order) = order.filter(|order| order.position().epoch == epoch) else {
            return;
        };
        order.expire(now_ms, &mut self.shelf);
        order.sweep_queued = !order.is_empty();
        if order.sweep_queued {
            self.sweeps.push(now_ms, sweep);
            return;
        }
        match sweep {
            Sweep::Room(key) => self.forget_room_if_empty(key.id, now_ms),
            Sweep::Inbox(full, _) => self.inboxes.tidy(full),
        }
    }
}

/// Sends the same to every interested shard.
fn deliver_all(interest: &Interest, call: &mut Call<'_>, delivery: impl Fn() -> Delivery) {
    for shard in interest.shards() {
        call.deliver(shard, delivery());
    }
}

/// Sends an event that is not a message to every interested shard of a room.
fn tell_all(home: &Home, call: &mut Call<'_>, room: &Name, event: Event) {
    let event = Arc::new(event);
    deliver_all(&home.interest, call, || Delivery::Broadcast {
        room: room.clone(),
        event: Arc::clone(&event),
    });
}

/// The answer to a publish that would open one room or inbox too many.
fn refusal(target: Target, id: Option<Name>) -> Event {
    let room = match target {
        Target::Room(room) => Some(room),
        Target::Inbox(_) => None,
    };
    Event::Error {
        code: ErrorCode::TooManyRooms,
        message: "the shard that would order this message holds as many rooms as it may".into(),
        id,
        room,
    }
}
