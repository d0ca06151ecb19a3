//! Random steps from a seed: joins, leaves, publishes, lost shards, and mail delivered in any order that the
//! mailboxes permit. Clients check every event (see `cluster`); the end checks that all agree and nothing is left.

use std::collections::BTreeSet;

use super::cluster::{ClientKey, Cluster, Stay};
use super::from_server;
use crate::hub::{Event, HubCounts, Name, Position, Target};
use crate::limits::Limits;

/// SplitMix64: enough to choose steps.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct Simulation {
    cluster: Cluster,
    random: Random,
    shards: u16,
    slots: usize,
    restarts: bool,
    /// Places that clients were at, to come back with.
    places: Vec<(Name, Position)>,
    published: u64,
}

const ROOMS: usize = 4;
const USERS: usize = 5;

impl Simulation {
    fn new(seed: u64, restarts: bool) -> Self {
        let mut random = Random(seed);
        let shards = 1 + random.below(4) as u16;
        let limits = Limits {
            history_messages_max: [0, 3, 100][random.below(3)],
            history_age_ms_max: 5000,
            ids_max: if restarts { 4 } else { 100_000 },
            ids_age_ms_max: if restarts { 3000 } else { 10_000_000 },
            presence_individual_max: [0, 2, 100][random.below(3)],
            rooms_max: [1, 2, 100][random.below(3)],
            rooms_per_connection_max: 3,
            user_connections_max: [0, 1, 3][random.below(3)],
            ..Limits::default()
        };
        Self {
            cluster: Cluster::new(shards, limits),
            slots: 1 + random.below(8),
            random,
            shards,
            restarts,
            places: Vec::new(),
            published: 0,
        }
    }

    fn room(&mut self) -> Name {
        Name::from(format!("room {}", self.random.below(ROOMS)))
    }

    fn user(&mut self) -> Name {
        Name::from(format!("user {}", self.random.below(USERS)))
    }

    fn client(&mut self) -> Option<ClientKey> {
        let count = self.cluster.clients.len();
        let index = self.random.below(count);
        self.cluster.clients.keys().nth(index).copied()
    }

    fn step(&mut self) {
        if self.random.chance(60) {
            let waiting = self.cluster.waiting();
            if !waiting.is_empty() {
                let queue = waiting[self.random.below(waiting.len())];
                for _ in 0..=self.random.below(4) {
                    self.cluster.deliver(queue);
                }
                return;
            }
        }
        match self.random.below(100) {
            0..15 => self.open(),
            15..20 => {
                if let Some(client) = self.client() {
                    self.note_places(client);
                    self.cluster.close(client);
                }
            }
            20..45 => self.join(),
            45..55 => {
                if let Some(client) = self.client() {
                    self.note_places(client);
                    let room = self.room();
                    if self.random.below(4) == 0 {
                        self.cluster.expel(client, &[room]);
                        return;
                    }
                    let joined = self.cluster.clients[&client].rooms.contains_key(&room);
                    assert_eq!(self.cluster.leave(client, &room).is_ok(), joined);
                }
            }
            55..85 => self.publish(),
            85..90 => self.ask(),
            90..98 => {
                let ms = [1, 100, 2000][self.random.below(3)];
                self.cluster.pass(ms);
            }
            _ if self.restarts => self.restart(),
            _ => {}
        }
    }

    fn open(&mut self) {
        let shard = self.random.below(usize::from(self.shards)) as u16;
        let slot = self.random.below(self.slots) as u32;
        let taken = self
            .cluster
            .clients
            .keys()
            .any(|client| client.shard == shard && client.key.slot == slot);
        if !taken {
            let user = self.user();
            self.cluster.open(shard, slot, &user);
        }
    }

    /// Remembers where a client is, for another to go on from.
    fn note_places(&mut self, client: ClientKey) {
        for (room, stay) in &self.cluster.clients[&client].rooms {
            if let Stay::In { epoch, next } = stay {
                let place = Position {
                    epoch: *epoch,
                    seq: next - 1,
                };
                self.places.push((room.clone(), place));
            }
        }
    }

    fn join(&mut self) {
        let Some(client) = self.client() else {
            return;
        };
        let room = self.room();
        let since = match self.random.below(4) {
            0 => self.places.iter().rev().find(|(other, _)| *other == room),
            1 => self.places.get(self.random.below(self.places.len())),
            _ => None,
        };
        let since = since.map(|(_, place)| *place);
        let rooms = &self.cluster.clients[&client].rooms;
        let full = rooms.len() >= 3 && !rooms.contains_key(&room);
        assert_eq!(self.cluster.join(client, &room, since).is_err(), full);
    }

    fn publish(&mut self) {
        let Some(client) = self.client() else {
            return;
        };
        let room = self.room();
        let direct = self.random.chance(20);
        let target = if direct {
            Target::Inbox(self.user())
        } else {
            Target::Room(room.clone())
        };
        let id = format!("id {}", self.random.below(30));
        let id = self.random.chance(50).then_some(id.as_str());
        self.published += 1;
        let content = self.published.to_string();
        let may = direct || self.cluster.clients[&client].rooms.contains_key(&room);
        let result = self.cluster.publish(client, target.clone(), &content, id);
        assert_eq!(result.is_ok(), may);
        if self.random.chance(5) {
            self.published += 1;
            let content = self.published.to_string().into();
            self.cluster.call(client.shard, |hub, effects| {
                hub.publish_from_server(from_server(target, content), effects);
            });
        }
    }

    fn ask(&mut self) {
        let Some(client) = self.client() else {
            return;
        };
        let room = self.room();
        let since = self.places.last().map(|(_, place)| *place);
        let limit = self.random.chance(50).then_some(2);
        self.cluster.call(client.shard, |hub, effects| {
            hub.presence(client.key, room.clone(), effects);
            hub.history(client.key, room, since, limit, effects);
        });
    }

    fn restart(&mut self) {
        let shard = self.random.below(usize::from(self.shards)) as u16;
        let (mut first, mut second) = (Random(self.random.next()), Random(self.random.next()));
        // At times nothing is lost, at times everything.
        let mut lost = move |length: usize| match first.below(3) {
            0 => 0,
            1 => length,
            _ => first.below(length + 1),
        };
        let from = move |length: usize| {
            if second.chance(70) {
                0
            } else {
                second.below(length + 1)
            }
        };
        self.cluster.pass(1);
        self.cluster.restart(shard, &mut lost, from);
    }

    /// Once nothing is under way: everybody who asked is in, all agree, and the homes know who is there.
    fn check_quiet(&mut self) {
        self.cluster.settle();
        for room in 0..ROOMS {
            let room = Name::from(format!("room {room}"));
            let stays: Vec<Stay> = self
                .cluster
                .clients
                .values()
                .filter_map(|client| client.rooms.get(&room).copied())
                .collect();
            let places: BTreeSet<(u64, u64)> = stays
                .iter()
                .map(|stay| match *stay {
                    Stay::In { epoch, next } => (epoch, next),
                    // Nothing remembered followed the reset.
                    Stay::Reset { epoch, most } => (epoch, most),
                    Stay::Asked { .. } => panic!("a join of {room} was never answered"),
                })
                .collect();
            assert!(places.len() <= 1, "{room}: {places:?}");
            let believers = self.cluster.believers(&room);
            let (count, users) = self.cluster.presence(&room);
            assert_eq!(users, believers, "{room}");
            assert_eq!(count, believers.len() as u64, "{room}");
            let is_occupied = self.cluster.occupied.contains_key(&room);
            assert_eq!(is_occupied, count > 0, "{room}: {count} users");
        }
        if self.cluster.limits.user_connections_max > 0 {
            self.check_connections();
        }
        if self.cluster.limits.rooms_max > USERS as u64 {
            self.check_inboxes();
        }
    }

    /// Homes know how many connections each user has, and let one more in where it may come.
    fn check_connections(&mut self) {
        let most = self.cluster.limits.user_connections_max;
        for user in 0..USERS {
            let user = Name::from(format!("user {user}"));
            let connections = self.cluster.connections(&user);
            assert_eq!(self.cluster.connections_told(&user), connections, "{user}");
            // Who comes while a home is told anew who is there may be one too many.
            assert!(connections <= most || self.restarts, "{user}");
            let shard = self.random.below(usize::from(self.shards)) as u16;
            let one_more = self.cluster.open(shard, 2000, &user);
            self.cluster.settle();
            let is_in = self.cluster.clients.contains_key(&one_more);
            assert_eq!(is_in, connections < most, "{user}: {connections}");
            if is_in {
                self.cluster.close(one_more);
                self.cluster.settle();
            }
            assert_eq!(self.cluster.connections_told(&user), connections, "{user}");
        }
    }

    /// A direct message reaches every connection of its user.
    fn check_inboxes(&mut self) {
        for user in 0..USERS {
            let user = Name::from(format!("user {user}"));
            self.published += 1;
            let content = bytes::Bytes::from(self.published.to_string());
            let target = Target::Inbox(user.clone());
            self.cluster.call(0, |hub, effects| {
                hub.publish_from_server(from_server(target, content.clone()), effects);
            });
            self.cluster.settle();
            for client in self.cluster.clients.values() {
                let told = matches!(client.events.last(), Some(Event::Message(message)) if message.content == content);
                assert_eq!(told, client.user == user, "{user}");
            }
        }
    }

    fn check_empty(&mut self) {
        let clients: Vec<ClientKey> = self.cluster.clients.keys().copied().collect();
        for client in clients {
            self.cluster.close(client);
        }
        self.cluster.pass_until_idle();
        let counts = HubCounts {
            stale_replies: 0,
            ignored_mails: 0,
            ..self.cluster.counts()
        };
        assert_eq!(counts, HubCounts::default(), "something leaked");
        assert!(self.cluster.occupied.is_empty(), "a room was never vacated");
    }
}

fn run(seeds: std::ops::Range<u64>, restarts: bool) {
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| {
            let mut simulation = Simulation::new(seed, restarts);
            for _ in 0..3 {
                for _ in 0..150 {
                    simulation.step();
                }
                simulation.check_quiet();
            }
            simulation.check_empty();
        });
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("failed with seed {seed}, restarts {restarts}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn members_agree_while_shards_live() {
    run(0..2000, false);
}

#[test]
fn members_agree_while_shards_start_again() {
    run(0..4000, true);
}
