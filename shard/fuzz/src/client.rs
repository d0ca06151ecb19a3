//! A client of an [`Arena`](crate::arena::Arena) that checks what it hears as it comes.
//!
//! Of each room it hears every message of an epoch once, in its order, from the place on at which it joined. What it hears
//! must be what the other members have heard.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shardcast_shard::driver::ShardId;
use shardcast_shard::sim::{EXTENSIONS, SimEvent, SimNetwork, SimWebSocket};

/// A place in a room's order: its epoch and the number of the last message.
pub type Place = (u64, u64);

/// What members have heard: by room, epoch and number the user and the content of a message.
#[derive(Debug, Default)]
pub struct Books {
    messages: BTreeMap<(String, u64, u64), (Value, Value)>,
    /// Rooms may have lost their memory, for a shard has died.
    pub resets: bool,
    /// Messages may have been dropped, for the policy permits it.
    gaps: bool,
}

impl Books {
    /// Empty ones. Where there may be gaps, messages may be dropped as long as members are told which.
    #[must_use]
    pub fn new(gaps: bool) -> Self {
        Self {
            gaps,
            ..Self::default()
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Out,
    /// Waits to be let in, after this place where it gave one. Whether it was in before.
    Asked {
        since: Option<Place>,
        was_in: bool,
    },
    In,
    Leaving,
}

#[derive(Clone, Debug, Default)]
struct View {
    standing: Standing,
    place: Option<Place>,
    /// The room was reset: the next message may have any number.
    is_loose: bool,
}

/// See the module.
pub struct Client {
    /// Its connection.
    pub socket: SimWebSocket,
    /// Whether it sends what the protocol does not permit. Then what it is in is not known.
    pub is_hostile: bool,
    /// Bytes it reads at a time; 0 where it stalls.
    pub read_max: usize,
    is_open: bool,
    rooms: BTreeMap<String, View>,
    direct_last: Option<u64>,
}

impl Client {
    /// Connects in the name of a user.
    #[must_use]
    pub fn connect(network: &SimNetwork, shard: ShardId, user: &str) -> Self {
        let target = format!("/ws?user={user}");
        // Every second user offers compression.
        let offer = [(EXTENSIONS, "permessage-deflate; client_max_window_bits")];
        let offers = user.bytes().map(u32::from).sum::<u32>().is_multiple_of(2);
        let headers = if offers { &offer[..] } else { &[] };
        Self {
            socket: SimWebSocket::connect_with(network.connect(shard), &target, headers),
            is_hostile: false,
            read_max: usize::MAX,
            is_open: false,
            rooms: BTreeMap::new(),
            direct_last: None,
        }
    }

    /// Asks to be let into a room, also where it is in it; after the last message heard where it `recovers`.
    pub fn join(&mut self, room: &str, recovers: bool) {
        let view = self.rooms.entry(room.to_owned()).or_default();
        let was_in = match view.standing {
            Standing::Out => false,
            Standing::In => true,
            Standing::Asked { .. } | Standing::Leaving => return,
        };
        let since = view.place.filter(|_| recovers && !view.is_loose);
        view.standing = Standing::Asked { since, was_in };
        let mut request = json!({"type": "join", "room": room});
        if let Some((epoch, seq)) = since {
            request["since"] = json!({"epoch": epoch, "seq": seq});
        }
        self.socket.send_text(&request.to_string());
    }

    /// Leaves a room that it is in.
    pub fn leave(&mut self, room: &str) {
        if let Some(view) = self.rooms.get_mut(room)
            && view.standing == Standing::In
        {
            view.standing = Standing::Leaving;
            let request = json!({"type": "leave", "room": room});
            self.socket.send_text(&request.to_string());
        }
    }

    /// Where it stands in the rooms that it is in, as far as that is known.
    pub fn places(&self) -> impl Iterator<Item = (&str, Place)> {
        let is_in = |view: &&View| view.standing == Standing::In && !view.is_loose;
        self.rooms
            .iter()
            .filter_map(move |(room, view)| Some((room.as_str(), Some(view).filter(is_in)?.place?)))
            .filter(|_| self.is_open && !self.is_hostile)
    }

    /// Writes, reads, and checks what it hears. Answers whether anything moved, `None` where the connection has ended.
    ///
    /// # Panics
    /// It heard what it must not.
    pub fn act(&mut self, books: &mut Books) -> Option<bool> {
        let client = self.socket.client();
        let (unsent, readable) = (self.socket.unsent(), client.readable());
        if unsent == 0 && readable == 0 && !client.is_closed() {
            return Some(false);
        }
        let events = self.socket.step(self.read_max);
        let moved = self.socket.unsent() != unsent
            || self.socket.client().readable() != readable
            || !events.is_empty();
        for event in events {
            match event {
                SimEvent::Text(text) => self.hear(&text, books),
                SimEvent::ProtocolError(rule) => panic!("the server broke the protocol: {rule}"),
                SimEvent::Binary(bytes) => panic!("binary? {}", bytes.escape_ascii()),
                SimEvent::EndOfStream | SimEvent::Reset => return None,
                SimEvent::Upgraded(_)
                | SimEvent::Refused(_)
                | SimEvent::Ping(_)
                | SimEvent::Pong(_)
                | SimEvent::Close { .. } => {}
            }
        }
        Some(moved)
    }

    fn hear(&mut self, text: &str, books: &mut Books) {
        let heard: Value = serde_json::from_str(text).expect("the server speaks JSON");
        let kind = heard["type"].as_str().expect("every object has a type");
        assert_eq!(self.is_open, kind != "welcome", "{text}");
        self.is_open = true;
        if self.is_hostile {
            return;
        }
        if kind == "direct" {
            return self.direct(&heard, books);
        }
        let Some(room) = heard["room"].as_str() else {
            return;
        };
        let view = self.rooms.entry(room.to_owned()).or_default();
        let before = view.clone();
        if let Err(broken) = view.hear(kind, &heard, books) {
            panic!("{broken}: {text} {before:?}");
        }
        if let ("message", Some((epoch, seq)), false) = (kind, view.place, view.is_loose) {
            let said = (heard["user"].clone(), heard["content"].clone());
            let place = (room.to_owned(), epoch, seq);
            let known = books.messages.entry(place).or_insert_with(|| said.clone());
            assert_eq!(*known, said, "members of {room} disagree: {text}");
        }
    }

    fn direct(&mut self, heard: &Value, books: &Books) {
        let seq = number(heard, "seq");
        let follows = self.direct_last.is_none_or(|last| last + 1 == seq);
        assert!(
            follows || books.resets || books.gaps,
            "{heard} follows {:?}",
            self.direct_last
        );
        self.direct_last = Some(seq);
    }
}

impl View {
    fn hear(&mut self, kind: &str, heard: &Value, books: &Books) -> Result<(), &'static str> {
        match kind {
            "joined" => self.joined(heard),
            "left" if self.standing == Standing::Leaving => {
                (self.standing, self.is_loose) = (Standing::Out, false);
                Ok(())
            }
            "left" => Err("it did not ask to leave"),
            "reset" if books.resets => {
                self.place = Some((number(heard, "epoch"), number(heard, "seq")));
                self.is_loose = true;
                Ok(())
            }
            "reset" => Err("no home has lost its memory"),
            "message" => {
                let seq = number(heard, "seq");
                self.advance(seq, seq)
            }
            "gap" if books.gaps => self.advance(number(heard, "from"), number(heard, "to")),
            "gap" => Err("nothing may be dropped"),
            "error" => {
                // Not let in, and then not in any more either.
                if heard["code"] == "too_many_rooms" {
                    (self.standing, self.is_loose) = (Standing::Out, false);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn joined(&mut self, heard: &Value) -> Result<(), &'static str> {
        let Standing::Asked { since, was_in } = self.standing else {
            return Err("it did not ask to join");
        };
        let now = (number(heard, "epoch"), number(heard, "seq"));
        self.standing = Standing::In;
        if heard["recovered"] == Value::Bool(true) {
            let Some(since) = since else {
                return Err("there was nothing to recover");
            };
            if now.0 != since.0 || now.1 < since.1 {
                return Err("it cannot recover from there to here");
            }
            self.place = Some(since);
        } else {
            let place = self.place.filter(|_| was_in && !self.is_loose);
            if place.is_some_and(|place| now < place) {
                return Err("the room went back");
            }
            self.place = Some(now);
        }
        self.is_loose = false;
        Ok(())
    }

    /// The messages from one number to another are accounted for.
    fn advance(&mut self, from: u64, to: u64) -> Result<(), &'static str> {
        let is_member = matches!(
            self.standing,
            Standing::In | Standing::Leaving | Standing::Asked { was_in: true, .. }
        );
        let Some(place) = self.place.as_mut().filter(|_| is_member) else {
            return Err("it is not in the room");
        };
        if !self.is_loose && from != place.1 + 1 || from > to {
            return Err("the next message is another one");
        }
        // After a reset the epoch is known, and the next message says where in it.
        place.1 = to;
        self.is_loose = false;
        Ok(())
    }
}

fn number(heard: &Value, key: &str) -> u64 {
    let number = heard[key].as_u64();
    number.unwrap_or_else(|| panic!("no {key} in {heard}"))
}
