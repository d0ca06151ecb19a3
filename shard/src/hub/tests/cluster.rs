//! A process of several hubs, without anything else: mail lies in queues until a test delivers it, and every
//! client checks what it is told.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::driver::{Clock, ConnectionKey, ShardId, Slot};
use crate::hub::event::ErrorCode;
use crate::hub::{Effect, Effects, Event, Hub, HubCounts, Mail, Name, Position, Target};
use crate::limits::Limits;
use crate::outbox::SlowConsumer;
use crate::room_settings::{self, RoomKinds, RoomSettings};
use crate::verdict::Occupancy;

/// A connection of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClientKey {
    pub(super) shard: ShardId,
    pub(super) key: ConnectionKey,
}

/// What a client believes, from what it was told.
#[derive(Debug)]
pub(super) struct Client {
    /// Its inbox is open.
    pub(super) opened: bool,
    pub(super) user: Name,
    pub(super) rooms: BTreeMap<Name, Stay>,
    /// Everything it was told.
    pub(super) events: Vec<Event>,
    /// Contents of the direct messages: no two publishes have the same.
    directs: BTreeSet<Bytes>,
    /// Who came or left since it joined, by room and user.
    present: BTreeMap<(Name, Name), bool>,
}

/// A client's stay in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    Asked {
        since: Option<Position>,
    },
    /// The next message must have this number.
    In {
        epoch: u64,
        next: u64,
    },
    /// After a reset: the next message may have this number or a lower one.
    Reset {
        epoch: u64,
        most: u64,
    },
}

pub(super) struct Cluster {
    pub(super) hubs: Vec<Hub>,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) clients: BTreeMap<ClientKey, Client>,
    /// By sender, receiver and class (false for requests).
    pub(super) queues: BTreeMap<(ShardId, ShardId, bool), VecDeque<Mail>>,
    pub(super) restarted: bool,
    /// Connections that were not let in.
    pub(super) refused: u64,
    pub(super) kinds: Arc<RoomKinds>,
    /// Rooms that are said to have users, with the shard that said so.
    pub(super) occupied: BTreeMap<Name, ShardId>,
    generations: BTreeMap<(ShardId, Slot), u32>,
    /// What every client must agree on.
    contents: BTreeMap<(Target, u64, u64), Bytes>,
    /// Where each content stands: no two publishes have the same.
    places: BTreeMap<Bytes, (Target, u64, u64)>,
    /// Which number an id was given and how often as a new one, where no shard has started again.
    acks: BTreeMap<(Target, Name, Name), (u64, u32)>,
}

/// When the first hub starts.
const ORIGIN: Clock = Clock {
    monotonic_us: 7_000_000,
    unix_ms: 1_800_000_000_000,
};

impl PartialOrd for Target {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Target {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |target: &Target| match target {
            Target::Room(name) => (0, name.clone()),
            Target::Inbox(name) => (1, name.clone()),
        };
        key(self).cmp(&key(other))
    }
}

impl Cluster {
    pub(super) fn new(shards: u16, limits: Limits) -> Self {
        Self::with_rooms(shards, limits, &[])
    }

    /// A cluster whose rooms differ.
    pub(super) fn with_rooms(shards: u16, limits: Limits, rooms: &[RoomSettings]) -> Self {
        room_settings::check(rooms, &limits).unwrap();
        let kinds = Arc::new(RoomKinds::new(&limits, SlowConsumer::default(), rooms));
        let hubs = (0..shards)
            .map(|shard| {
                let mut hub = Hub::with_kinds(shard, shards, &limits, Arc::clone(&kinds), 42);
                hub.tell_occupancy();
                hub
            })
            .collect();
        let mut cluster = Self {
            hubs,
            limits,
            clock: ORIGIN,
            clients: BTreeMap::new(),
            queues: BTreeMap::new(),
            restarted: false,
            refused: 0,
            kinds,
            occupied: BTreeMap::new(),
            generations: BTreeMap::new(),
            contents: BTreeMap::new(),
            places: BTreeMap::new(),
            acks: BTreeMap::new(),
        };
        for shard in 0..shards {
            let clock = cluster.clock;
            cluster.call(shard, |hub, effects| hub.start(clock, ORIGIN, effects));
        }
        cluster
    }

    /// Calls a hub and carries out what it asks for.
    pub(super) fn call<R>(
        &mut self,
        shard: ShardId,
        call: impl FnOnce(&mut Hub, &mut Effects) -> R,
    ) -> R {
        let mut effects = Effects::new();
        let result = call(&mut self.hubs[usize::from(shard)], &mut effects);
        for effect in effects {
            let hub = &self.hubs[usize::from(shard)];
            let (keys, event): (Vec<ConnectionKey>, Event) = match effect {
                Effect::Mail { to, mail } => {
                    let delivery = matches!(mail, Mail::Delivery(_));
                    let queue = self.queues.entry((shard, to, delivery)).or_default();
                    queue.push_back(mail);
                    continue;
                }
                Effect::Opened { key } => {
                    let client = self.clients.get_mut(&ClientKey { shard, key });
                    let client = client.expect("a connection that has closed is not opened");
                    assert!(!std::mem::replace(&mut client.opened, true), "opened twice");
                    continue;
                }
                Effect::Refused { key } => {
                    let client = self.clients.remove(&ClientKey { shard, key });
                    let client = client.expect("a connection that has closed is not refused");
                    assert!(!client.opened, "an open connection is refused");
                    assert!(self.limits.user_connections_max > 0, "nothing is bounded");
                    self.refused += 1;
                    continue;
                }
                Effect::Occupancy { room, occupancy } => {
                    self.note_occupancy(shard, room, occupancy);
                    continue;
                }
                Effect::ToMember { key, event } => (vec![key], event),
                Effect::Joined {
                    key,
                    room,
                    position,
                    members,
                    missed,
                } => {
                    let recovered = missed.is_some();
                    let joined = Event::Joined {
                        room,
                        position,
                        members: Some(members),
                        recovered,
                    };
                    let messages = missed.into_iter().flatten().map(Event::Message);
                    for event in std::iter::once(joined).chain(messages) {
                        self.tell(ClientKey { shard, key }, event);
                    }
                    continue;
                }
                Effect::ToSlice { slice, event, .. } => (hub.slice_members(slice).collect(), event),
                Effect::ToUser { user, event, .. } => {
                    (hub.user_connections(&user).collect(), event)
                }
            };
            for key in keys {
                self.tell(ClientKey { shard, key }, event.clone());
            }
        }
        result
    }

    /// A home says that a room has its first user or has lost its last: the two take turns.
    fn note_occupancy(&mut self, shard: ShardId, room: Name, occupancy: Occupancy) {
        assert_eq!(
            self.hubs[usize::from(shard)].home_of(&Target::Room(room.clone())),
            shard
        );
        match occupancy {
            Occupancy::Occupied => {
                let before = self.occupied.insert(room.clone(), shard);
                assert_eq!(before, None, "{room} was occupied already");
            }
            Occupancy::Vacated => {
                let before = self.occupied.remove(&room);
                assert!(before.is_some(), "{room} was not occupied");
            }
        }
    }

    pub(super) fn open(&mut self, shard: ShardId, slot: Slot, user: &str) -> ClientKey {
        let generation = self.generations.entry((shard, slot)).or_default();
        let key = ConnectionKey::new(slot, *generation);
        *generation += 1;
        let client = ClientKey { shard, key };
        self.clients.insert(
            client,
            Client {
                user: user.into(),
                rooms: BTreeMap::new(),
                opened: false,
                events: Vec::new(),
                directs: BTreeSet::new(),
                present: BTreeMap::new(),
            },
        );
        self.call(shard, |hub, effects| {
            hub.member_open(key, user.into(), effects)
        });
        client
    }

    pub(super) fn close(&mut self, client: ClientKey) {
        self.clients.remove(&client);
        self.call(client.shard, |hub, effects| {
            hub.member_close(client.key, effects)
        });
    }

    pub(super) fn join(
        &mut self,
        client: ClientKey,
        room: &str,
        since: Option<Position>,
    ) -> Result<(), ErrorCode> {
        let result = self.call(client.shard, |hub, effects| {
            hub.join(client.key, room.into(), since, effects)
        });
        if result.is_ok() {
            let rooms = &mut self.clients.get_mut(&client).unwrap().rooms;
            rooms.insert(room.into(), Stay::Asked { since });
        }
        result
    }

    pub(super) fn leave(&mut self, client: ClientKey, room: &str) -> Result<(), ErrorCode> {
        let stay = self.clients.get_mut(&client).unwrap().rooms.remove(room);
        let result = self.call(client.shard, |hub, effects| {
            hub.leave(client.key, room, effects)
        });
        assert_eq!(result.is_ok(), stay.is_some(), "{client:?} leaves {room}");
        result
    }

    /// The client may stay in no room but those given; answers how many it had to leave.
    pub(super) fn expel(&mut self, client: ClientKey, may_stay: &[Name]) -> usize {
        let may_stay = |room: &str| may_stay.iter().any(|other| other == room);
        let rooms = &mut self.clients.get_mut(&client).unwrap().rooms;
        let before = rooms.len();
        rooms.retain(|room, _| may_stay(room));
        let denied = before - rooms.len();
        self.call(client.shard, |hub, effects| {
            hub.expel(client.key, may_stay, effects);
        });
        let reason = Some(ErrorCode::Forbidden);
        let events = &self.clients[&client].events;
        let told = events.iter().rev().take(denied);
        let is_told = |event| matches!(event, &Event::Left { reason: why, .. } if why == reason);
        assert!(told.clone().count() == denied && told.clone().all(is_told));
        denied
    }

    pub(super) fn publish(
        &mut self,
        client: ClientKey,
        target: Target,
        content: &str,
        id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        let content = Bytes::copy_from_slice(content.as_bytes());
        let clock = self.clock;
        self.call(client.shard, |hub, effects| {
            let id = id.map(Name::from);
            hub.publish(client.key, target, content, id, clock, effects)
        })
    }

    /// Delivers the oldest mail of one queue; false where there is none.
    pub(super) fn deliver(&mut self, queue: (ShardId, ShardId, bool)) -> bool {
        let Some(mail) = self.queues.get_mut(&queue).and_then(VecDeque::pop_front) else {
            return false;
        };
        let (from, to, _) = queue;
        let clock = self.clock;
        self.call(to, |hub, effects| hub.handle(from, mail, clock, effects));
        true
    }

    /// Queues that hold mail.
    pub(super) fn waiting(&self) -> Vec<(ShardId, ShardId, bool)> {
        self.queues
            .iter()
            .filter(|(_, queue)| !queue.is_empty())
            .map(|(key, _)| *key)
            .collect()
    }

    /// Delivers until nothing is under way.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            let waiting = self.waiting();
            if waiting.is_empty() {
                assert!(self.clients.values().all(|client| client.opened));
                return;
            }
            for queue in waiting {
                self.deliver(queue);
            }
        }
        panic!("mail goes round in a circle");
    }

    /// Lets time pass; every hub does what is due.
    pub(super) fn pass(&mut self, ms: u64) {
        self.clock.monotonic_us += ms * 1000;
        self.clock.unix_ms += ms;
        let clock = self.clock;
        for shard in 0..self.hubs.len() as u16 {
            self.call(shard, |hub, effects| hub.run_due(clock, effects));
        }
    }

    /// Lets time pass until nothing is due any more.
    pub(super) fn pass_until_idle(&mut self) {
        for _ in 0..10_000 {
            self.settle();
            let next = self.hubs.iter().filter_map(Hub::next_due_ms).min();
            let Some(next) = next else {
                return;
            };
            self.pass(next.saturating_sub(self.clock.monotonic_ms()));
        }
        panic!("something is always due");
    }

    /// A shard starts again: its connections are gone, and so is a part of the mail: of each queue to it the first
    /// `lost_to` mails, of each queue from it the last `lost_from`.
    pub(super) fn restart(
        &mut self,
        shard: ShardId,
        mut lost_to: impl FnMut(usize) -> usize,
        mut lost_from: impl FnMut(usize) -> usize,
    ) {
        self.restarted = true;
        self.clients.retain(|client, _| client.shard != shard);
        self.generations.retain(|(other, _), _| *other != shard);
        for ((from, to, _), queue) in &mut self.queues {
            if *from == shard && *to == shard {
                queue.clear();
            } else if *to == shard {
                let lost = lost_to(queue.len());
                queue.drain(..lost);
            } else if *from == shard {
                let kept = queue.len() - lost_from(queue.len());
                queue.truncate(kept);
            }
        }
        let shards = self.hubs.len() as u16;
        let kinds = Arc::clone(&self.kinds);
        let mut hub = Hub::with_kinds(shard, shards, &self.limits, kinds, 42);
        hub.tell_occupancy();
        self.hubs[usize::from(shard)] = hub;
        // Whoever hears of the restart forgets what the shard had said.
        self.occupied.retain(|_, home| *home != shard);
        let clock = self.clock;
        self.call(shard, |hub, effects| hub.start(clock, ORIGIN, effects));
    }

    pub(super) fn counts(&self) -> HubCounts {
        self.hubs
            .iter()
            .map(Hub::counts)
            .fold(HubCounts::default(), |sum, counts| HubCounts {
                rooms: sum.rooms + counts.rooms,
                inboxes: sum.inboxes + counts.inboxes,
                history_bytes: sum.history_bytes + counts.history_bytes,
                slices: sum.slices + counts.slices,
                members: sum.members + counts.members,
                stale_replies: sum.stale_replies + counts.stale_replies,
                ignored_mails: sum.ignored_mails + counts.ignored_mails,
            })
    }

    /// Connections of a user, as the home of its inbox was told.
    pub(super) fn connections_told(&self, user: &Name) -> u64 {
        let home = self.hubs[0].home_of(&Target::Inbox(user.clone()));
        self.hubs[usize::from(home)].homes.connections(user)
    }

    /// Connections that a user has.
    pub(super) fn connections(&self, user: &Name) -> u64 {
        let clients = self.clients.values();
        clients.filter(|client| client.user == *user).count() as u64
    }

    /// The epoch of a room that a client is in.
    pub(super) fn epoch_of(&self, client: ClientKey, room: &str) -> u64 {
        self.clients[&client].epoch(&room.into())
    }

    /// Who is in a room, as its home says.
    pub(super) fn presence(&mut self, room: &str) -> (u64, BTreeSet<Name>) {
        let probe = self.open(0, 1000, "probe");
        self.call(0, |hub, effects| {
            hub.presence(probe.key, room.into(), effects)
        });
        self.settle();
        let events = self.clients[&probe].events.clone();
        self.close(probe);
        self.settle();
        match &events[..] {
            [Event::Presence { count, users, .. }] => (*count, users.iter().cloned().collect()),
            other => panic!("{other:?} answers a presence request"),
        }
    }

    /// Who believes to be in a room.
    pub(super) fn believers(&self, room: &str) -> BTreeSet<Name> {
        self.clients
            .values()
            .filter(|client| client.rooms.contains_key(room))
            .map(|client| client.user.clone())
            .collect()
    }

    /// Takes what a client was told since the last time.
    pub(super) fn events(&mut self, client: ClientKey) -> Vec<Event> {
        std::mem::take(&mut self.clients.get_mut(&client).unwrap().events)
    }

    /// A client is told something, and checks that it may be.
    fn tell(&mut self, to: ClientKey, event: Event) {
        let client = self
            .clients
            .get_mut(&to)
            .unwrap_or_else(|| panic!("{to:?} is gone and is told {event:?}"));
        match &event {
            Event::Joined {
                room,
                position,
                recovered,
                ..
            } => client.joined(room, *position, *recovered),
            Event::Message(message) => match &message.target {
                Target::Room(room) => {
                    let epoch = client.message(room, message.seq);
                    let place = (message.target.clone(), epoch, message.seq);
                    let content = &message.content;
                    let first = self
                        .contents
                        .entry(place.clone())
                        .or_insert(content.clone());
                    assert_eq!(first, content, "all are told the same");
                    let first = self.places.entry(content.clone()).or_insert(place.clone());
                    assert_eq!(*first, place, "{content:?} has one place");
                }
                Target::Inbox(user) => {
                    assert_eq!(*user, client.user, "another user's inbox");
                    let fresh = client.directs.insert(message.content.clone());
                    assert!(fresh, "{to:?} is told {:?} twice", message.content);
                }
            },
            Event::Reset { room, position } => {
                assert!(self.restarted, "{to:?} is told of a reset of {room}");
                client.reset(room, *position);
            }
            Event::UserJoined { room, user } | Event::UserLeft { room, user } => {
                let exact = !self.restarted
                    && self.limits.presence_individual_max >= 100
                    && self.limits.rooms_max >= 100;
                client.epoch(room);
                let here = matches!(event, Event::UserJoined { .. });
                let before = client.present.insert((room.clone(), user.clone()), here);
                assert!(
                    !exact || before != Some(here),
                    "{user} comes and leaves by turns"
                );
            }
            Event::PresenceCount { room, .. } => {
                client.epoch(room);
            }
            Event::Ack {
                id,
                target,
                seq,
                duplicate,
            } if !self.restarted && self.limits.ids_max > 1000 => {
                let key = (target.clone(), client.user.clone(), id.clone());
                let (first, fresh) = self.acks.entry(key).or_insert((*seq, 0));
                assert_eq!(first, seq, "{id} has one number");
                // The answers of a user's connections may overtake each other.
                *fresh += u32::from(!duplicate);
                assert!(*fresh <= 1, "{id} was delivered twice");
            }
            // The other error with a room is a publish's.
            Event::Error {
                room: Some(room),
                message,
                ..
            } if message.contains("order this room") => {
                client.rooms.remove(room);
            }
            _ => {}
        }
        client.events.push(event);
    }
}

impl Client {
    fn joined(&mut self, room: &Name, position: Position, recovered: bool) {
        let stay = self.rooms.get(room);
        let Some(Stay::Asked { since }) = stay else {
            panic!("{} did not ask for {room}: {stay:?}", self.user);
        };
        let next = match since.filter(|_| recovered) {
            Some(since) => {
                assert_eq!(since.epoch, position.epoch, "recovered in one epoch");
                since.seq + 1
            }
            None => position.seq + 1,
        };
        assert!(next <= position.seq + 1, "recovered from the future");
        let epoch = position.epoch;
        self.rooms.insert(room.clone(), Stay::In { epoch, next });
        self.present.retain(|(other, _), _| other != room);
    }

    /// The epoch of a room that the client is in.
    fn epoch(&self, room: &Name) -> u64 {
        match self.rooms.get(room) {
            Some(Stay::In { epoch, .. } | Stay::Reset { epoch, .. }) => *epoch,
            stay => panic!("{} is told of {room}: {stay:?}", self.user),
        }
    }

    /// Checks a message's number and says in which epoch it stands.
    fn message(&mut self, room: &Name, seq: u64) -> u64 {
        let epoch = self.epoch(room);
        match self.rooms.get(room) {
            Some(Stay::In { next, .. }) => assert_eq!(seq, *next, "{} in {room}", self.user),
            Some(Stay::Reset { most, .. }) => assert!(seq <= *most, "{} in {room}", self.user),
            _ => {}
        }
        let next = seq + 1;
        self.rooms.insert(room.clone(), Stay::In { epoch, next });
        epoch
    }

    fn reset(&mut self, room: &Name, position: Position) {
        assert!(position.epoch >= self.epoch(room), "epochs grow");
        let reset = Stay::Reset {
            epoch: position.epoch,
            most: position.seq + 1,
        };
        self.rooms.insert(room.clone(), reset);
    }
}
