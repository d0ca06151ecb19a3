//! A run of an [`Arena`]: operations read from an input, one after the other, and what must hold at its end.

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use serde_json::json;
use shardcast_shard::driver::ShardId;
use shardcast_shard::hub::Target;
use shardcast_shard::limits::Limits;
use shardcast_shard::orders::Publication;
use shardcast_shard::outbox::SlowConsumer;
use shardcast_shard::shard::Control;
use shardcast_shard::sim::{Faults, Opcode, SimFrame, SimSetup};

use crate::arena::{Arena, ArenaOptions};
use crate::client::{Books, Client};
use crate::short_bytes;

/// Places for clients.
const CLIENTS: usize = 6;

/// Names of rooms. The users are `u0` to `u3`, so that some have two connections.
const ROOMS: [&str; 3] = ["a", "b", "räume"];

const USERS: usize = 4;

/// Operations of one run, at most.
const OPERATIONS_MAX: usize = 300;

/// Rounds until everybody has heard everything that was said. Restarts and retries take milliseconds.
const HEALING_ROUNDS: u32 = 8;
const HEALING_ROUND_US: u64 = 3000;

/// See the module.
pub struct Play {
    arena: Arena,
    shards: ShardId,
    clients: [Option<Client>; CLIENTS],
    books: Books,
    /// Publications so far: each content is another.
    published: u64,
    /// Whether everything comes to rest after each operation.
    is_eager: bool,
}

impl Play {
    /// Reads the set-up of a run and starts its shards.
    ///
    /// # Errors
    /// The input is used up.
    pub fn new(input: &mut Unstructured<'_>) -> Result<Self> {
        let (seed, options): (u16, u8) = input.arbitrary()?;
        let bounds: u8 = input.arbitrary()?;
        let bit = |bit: u8| options & 1 << bit != 0;
        let slow_consumer = match bit(0) {
            true => SlowConsumer::DropOldest,
            false => SlowConsumer::Disconnect,
        };
        let mut faults = match bit(1) {
            true => Faults::from_seed(seed.into()),
            false => Faults::none(),
        };
        if bit(2) {
            faults = faults.without_resets();
        }
        let shards = if bit(3) { 3 } else { 2 };
        let buffer_bytes = if bit(4) { 64 } else { 2048 };
        let arena = Arena::new(ArenaOptions {
            seed: seed.into(),
            shards,
            limits: limits(bounds),
            slow_consumer,
            faults,
            setup: SimSetup {
                // As many as clients, and those that are kept to say that the shard is full.
                slots: 64 + CLIENTS as u32,
                buffers: if bit(5) { 2 } else { 8 },
                buffer_bytes,
                ..SimSetup::default()
            },
        });
        Ok(Self {
            arena,
            shards,
            clients: Default::default(),
            books: Books::new(slow_consumer == SlowConsumer::DropOldest),
            published: 0,
            is_eager: bit(6),
        })
    }

    /// Carries out the operations of an input, ends everything, and answers with a hash of all that was seen.
    ///
    /// # Panics
    /// Something that must hold does not.
    pub fn run(mut self, input: &mut Unstructured<'_>) -> u64 {
        for _ in 0..OPERATIONS_MAX {
            if input.is_empty() || self.operate(input).is_err() {
                break;
            }
            if self.is_eager {
                self.rest();
            }
        }
        self.heal();
        self.assert_caught_up();
        self.end()
    }

    fn operate(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let (operation, choice): (u8, u8) = input.arbitrary()?;
        let index = usize::from(choice) % CLIENTS;
        let shard = ShardId::from(choice) % self.shards;
        let room = ROOMS[usize::from(choice / 16) % ROOMS.len()];
        match operation % 24 {
            0 | 1 => self.connect(index, shard),
            2 | 3 => self.with(index, |client| client.join(room, operation % 2 == 0)),
            4 => self.with(index, |client| client.leave(room)),
            5..=7 => {
                let size = usize::from(input.arbitrary::<u8>()?);
                self.publish(index, room, operation % 24 == 7, size);
            }
            8 => {
                let user = format!("u{}", usize::from(choice / 16) % USERS);
                self.published += 1;
                let request = json!({"type": "direct", "to": user, "content": self.published});
                self.with(index, |client| {
                    client.socket.send_text(&request.to_string())
                });
            }
            9 => {
                let kind = if choice & 0x80 == 0 {
                    "presence"
                } else {
                    "history"
                };
                let request = json!({"type": kind, "room": room}).to_string();
                self.with(index, |client| client.socket.send_text(&request));
            }
            10 => self.clients[index] = None,
            11 => self.with(index, |client| client.socket.client().reset()),
            12 => self.with(index, |client| client.socket.client().close()),
            13 => self.with(index, |client| client.socket.send_close(Some(1000), "")),
            14 => self.with(index, |client| client.read_max = usize::from(choice / 16)),
            15 => self.with(index, |client| client.read_max = usize::MAX),
            16 => self.attack(index, input)?,
            17 => {
                self.arena.network.advance(1 << (choice % 26));
            }
            18 => {
                self.arena.turn(shard);
            }
            19 => {
                self.act(index);
            }
            20 => self.rest(),
            21 => self.order(shard, room),
            22 => self.with(index, |client| client.socket.send_ping(&[choice])),
            _ => {
                self.books.resets = true;
                self.arena.crash(shard);
            }
        }
        Ok(())
    }

    fn with(&mut self, index: usize, act: impl FnOnce(&mut Client)) {
        if let Some(client) = &mut self.clients[index] {
            act(client);
        }
    }

    fn connect(&mut self, index: usize, shard: ShardId) {
        let user = format!("u{}", index % USERS);
        self.clients[index] = Some(Client::connect(&self.arena.network, shard, &user));
    }

    fn publish(&mut self, index: usize, room: &str, has_id: bool, size: usize) {
        self.published += 1;
        // Mostly short, and sometimes a good part of what may wait for a connection.
        let padding = "x".repeat(if size < 0xe0 { size / 4 } else { size * 8 });
        let mut request =
            json!({"type": "message", "room": room, "content": [self.published, padding]});
        if has_id {
            // Few, so that some come again.
            request["id"] = json!(format!("i{}", size % 4));
        }
        self.with(index, |client| {
            client.socket.send_text(&request.to_string())
        });
    }

    /// A client sends a frame of any kind, or bytes that need not be one.
    fn attack(&mut self, index: usize, input: &mut Unstructured<'_>) -> Result<()> {
        let shape: u8 = input.arbitrary()?;
        let payload = short_bytes(input)?.to_vec();
        self.with(index, |client| {
            client.is_hostile = true;
            let opcode = match shape % 8 {
                0 => Opcode::Continuation,
                1..=3 => Opcode::Text,
                4 => Opcode::Binary,
                5 => Opcode::Close,
                6 => Opcode::Ping,
                _ => return client.socket.send_raw(&payload),
            };
            client.socket.send_frame(&SimFrame {
                fin: shape & 0x80 == 0,
                opcode,
                compressed: shape & 0x40 != 0,
                payload,
            });
        });
        Ok(())
    }

    fn order(&mut self, shard: ShardId, room: &str) {
        self.published += 1;
        let content = Bytes::from(self.published.to_string());
        let (user, target) = ("server".into(), Target::Room(room.into()));
        self.arena.order(
            shard,
            Control::from(Publication {
                user,
                target,
                content,
                id: None,
            }),
        );
    }

    /// Lets one client act; false where nothing moved.
    fn act(&mut self, index: usize) -> bool {
        let Some(client) = &mut self.clients[index] else {
            return false;
        };
        let moved = client.act(&mut self.books);
        if moved.is_none() {
            self.clients[index] = None;
        }
        moved != Some(false)
    }

    /// Runs until nothing happens any more unless time passes.
    fn rest(&mut self) {
        loop {
            let mut happened = self.arena.turn_all();
            for index in 0..CLIENTS {
                happened |= self.act(index);
            }
            if !happened {
                return;
            }
        }
    }

    /// Nothing goes wrong any more, and everybody reads.
    fn heal(&mut self) {
        self.arena.network.set_faults(Faults::none());
        for client in self.clients.iter_mut().flatten() {
            client.read_max = usize::MAX;
        }
        for _ in 0..HEALING_ROUNDS {
            self.rest();
            self.arena.network.advance(HEALING_ROUND_US);
        }
        self.rest();
    }

    /// All members of a room have heard all of it.
    fn assert_caught_up(&self) {
        let mut last = BTreeMap::new();
        let clients = self.clients.iter().flatten();
        for (room, place) in clients.flat_map(Client::places) {
            let known = *last.entry(room).or_insert(place);
            assert_eq!(place, known, "members of {room} stand at different places");
        }
    }

    /// Every client goes, time passes until nothing is remembered, and nothing must be left.
    fn end(mut self) -> u64 {
        self.clients = Default::default();
        loop {
            self.rest();
            if !self.arena.pass_time() {
                break;
            }
        }
        self.arena.assert_nothing_is_left();
        self.arena.network.trace_hash()
    }
}

/// Bounds that short runs reach, and times that pass soon.
fn limits(bounds: u8) -> Limits {
    let bit = |bit: u8| bounds & 1 << bit != 0;
    let mut limits = Limits {
        history_messages_max: 8,
        history_age_ms_max: 2000,
        ids_age_ms_max: 2000,
        heartbeat_ms: 1000,
        handshake_ms_max: 1000,
        close_ms_max: 500,
        rooms_per_connection_max: 2,
        message_size_max: 8192,
        // A mailbox takes its memory when it is made.
        mailbox_mails_max: 256,
        messages_per_second_max: 0,
        ..Limits::default()
    };
    if bit(0) {
        (limits.outbox_bytes_max, limits.outbox_unread_bytes_max) = (4096, 1024);
    }
    if bit(1) {
        limits.outbox_messages_max = 16;
    }
    if bit(2) {
        (limits.messages_per_second_max, limits.messages_burst_max) = (20, 4);
    }
    if bit(3) {
        (limits.mail_per_pass_max, limits.messages_per_pass_max) = (16, 1);
    }
    if bit(4) {
        limits.presence_individual_max = 1;
    }
    if bit(5) {
        (limits.history_bytes_max, limits.ids_max) = (256, 2);
    }
    if bit(6) {
        limits.rooms_max = 1;
    }
    if bit(7) {
        limits.gather_bytes_max = 1024;
    }
    limits
}
