//! A client that does as its script says and checks what it hears as it comes.

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;
use shardcast_shard::driver::ShardId;
use shardcast_shard::hub::Position;
use shardcast_shard::rights::Rights;
use shardcast_shard::sim::{EXTENSIONS, Opcode, Random, SimEvent, SimFrame, SimWebSocket};

use super::books::{Books, Place, number_of};
use super::cluster::Cluster;
use super::guard::Guard;
use super::heard::{Heard, Said};
use super::view::{Rules, Standing, View};

/// One thing to do. Each waits until it can be done.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Join a room, once it is left. Where the member has been there before, it asks for what it missed.
    Join(String),
    /// Leave a room, once it is joined.
    Leave(String),
    Publish {
        room: String,
        has_id: bool,
    },
    /// Send something once more that was published with an id.
    Repeat,
    Direct {
        to: String,
        has_id: bool,
    },
    Presence(String),
    History(String),
    /// Ask for a grant of this kind in place of the one it has.
    Renew(u64),
    /// Make the shard of the connection panic.
    PanicShard,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed { code: Option<u16> },
    Refused { status: u16 },
    EndOfStream,
    Reset,
}

/// See the module.
pub(crate) struct Member {
    pub(crate) user: String,
    pub(crate) shard: ShardId,
    pub(crate) socket: Option<SimWebSocket>,
    pub(crate) open: bool,
    pub(crate) script: VecDeque<Act>,
    pub(crate) rooms: BTreeMap<String, View>,
    /// Bytes read at a time; with 0 nothing is read.
    pub(crate) read_max: usize,
    /// In so many of 1000 cases it does not act though it could.
    pub(crate) idle_per_mille: u16,
    /// Things of its script that it does at a time.
    pub(crate) acts_max: usize,
    /// Publications with ids that may wait for their acknowledgements at a time.
    pub(crate) unacked_max: usize,
    /// Whether it connects again after its connection is lost.
    pub(crate) comes_back: bool,
    /// It has given up its connection for good.
    pub(crate) leaves: bool,
    pub(crate) endings: Vec<Ending>,
    pub(crate) connections: u64,
    /// Publications whose acknowledgement is missing, in the order in which they were sent.
    pub(crate) unacked: Vec<usize>,
    /// Numbers of direct publications heard.
    pub(crate) directs: Vec<usize>,
    pub(crate) errors: Vec<String>,
    /// Where its connections have grants.
    pub(crate) guard: Option<Guard>,
    own: Vec<usize>,
    direct_last: Option<u64>,
    /// When it connects again.
    retry_us: Option<u64>,
    /// How long it waits for an acknowledgement before it sends again; for ever where there is no time given.
    pub(crate) ack_us_max: Option<u64>,
    /// When it last sent or heard anything about its publications.
    acted_us: u64,
    verbose: bool,
}

/// How long a client waits at most before it connects again, in microseconds.
const RETRY_US_MAX: u64 = 3000;

impl Member {
    pub(crate) fn new(
        cluster: &Cluster,
        user: String,
        shard: ShardId,
        guard: Option<Guard>,
        verbose: bool,
    ) -> Self {
        let mut member = Self {
            user,
            shard,
            socket: None,
            open: false,
            script: VecDeque::new(),
            rooms: BTreeMap::new(),
            read_max: usize::MAX,
            idle_per_mille: 300,
            acts_max: 1,
            unacked_max: usize::MAX,
            comes_back: false,
            leaves: false,
            endings: Vec::new(),
            connections: 0,
            unacked: Vec::new(),
            directs: Vec::new(),
            errors: Vec::new(),
            guard,
            own: Vec::new(),
            direct_last: None,
            retry_us: None,
            ack_us_max: None,
            acted_us: cluster.now_us(),
            verbose,
        };
        member.connect(cluster);
        member
    }

    fn connect(&mut self, cluster: &Cluster) {
        let (target, token) = match &mut self.guard {
            Some(guard) => guard.connect(&self.user, cluster.network.clock()),
            None => (format!("/ws?user={}", self.user), None),
        };
        self.say(cluster, format_args!("connects"));
        // Every second one offers compression, each time that it connects.
        let offers = self
            .user
            .bytes()
            .map(u32::from)
            .sum::<u32>()
            .is_multiple_of(2);
        let offer = [(EXTENSIONS, "permessage-deflate; client_max_window_bits")];
        let headers = if offers { &offer[..] } else { &[] };
        let connection = cluster.network.connect(self.shard);
        let mut socket = SimWebSocket::connect_with(connection, &target, headers);
        if let Some(token) = token {
            socket.send_text(&token);
        }
        self.socket = Some(socket);
        self.connections += 1;
    }

    fn say(&self, cluster: &Cluster, what: impl std::fmt::Display) {
        if self.verbose {
            println!("{} {}@{}: {what}", cluster.now_us(), self.user, self.shard);
        }
    }

    /// When it acts again though nothing happens.
    pub(crate) fn due_us(&self) -> Option<u64> {
        match self.socket {
            None => self.retry_us.filter(|_| self.comes_back),
            Some(_) => Some(
                self.acted_us
                    + self
                        .ack_us_max
                        .filter(|_| self.open && !self.unacked.is_empty())?,
            ),
        }
    }

    /// Whether there is nothing more that it means to do.
    pub(crate) fn is_done(&self) -> bool {
        let settled = |view: &View| matches!(view.standing, Standing::Out | Standing::In);
        let gone = self.socket.is_none() && !self.comes_back;
        let answered = self.guard.as_ref().is_none_or(Guard::is_answered);
        gone || (self.open
            && answered
            && self.script.is_empty()
            && self.unacked.is_empty()
            && self.rooms.values().all(settled))
    }

    pub(crate) fn is_in(&self, room: &str) -> bool {
        self.rooms
            .get(room)
            .is_some_and(|view| view.standing == Standing::In)
    }

    /// The connection is given up, in one way or another.
    pub(crate) fn hang_up(&mut self, random: &mut Random) {
        (self.comes_back, self.leaves) = (false, true);
        self.script.clear();
        let Some(socket) = &mut self.socket else {
            return;
        };
        match random.below(4) {
            0 => return socket.send_close(Some(1000), "bye"),
            1 => socket.client().close(),
            2 => socket.client().reset(),
            _ => {}
        }
        self.lost();
    }

    /// The connection breaks; the next one is made at this time.
    pub(crate) fn break_off(&mut self, back_us: u64) {
        if let Some(socket) = &self.socket {
            socket.client().reset();
        }
        self.lost();
        self.retry_us = Some(back_us);
    }

    fn lost(&mut self) {
        self.socket = None;
        self.open = false;
        self.direct_last = None;
        for view in self.rooms.values_mut() {
            view.present = None;
            view.standing = match view.standing {
                Standing::Out | Standing::Leaving => Standing::Out,
                Standing::Asked { .. } | Standing::In | Standing::Lost => Standing::Lost,
            };
        }
    }

    /// Listens, and does the next thing of its script. Answers whether anything came of it.
    pub(crate) fn act(&mut self, cluster: &mut Cluster, books: &mut Books, rules: &Rules) -> bool {
        if self.socket.is_none() {
            return self.come_back(cluster);
        }
        let listened = self.listen(cluster, books, rules);
        let asked_again = self.ask_again(cluster, books);
        let performed = (0..self.acts_max)
            .take_while(|_| self.perform(cluster, books))
            .count();
        performed > 0 || asked_again || listened
    }

    /// Sends once more what was not acknowledged for too long.
    fn ask_again(&mut self, cluster: &mut Cluster, books: &mut Books) -> bool {
        let now_us = cluster.now_us();
        let is_due = self.open && self.due_us().is_some_and(|due_us| due_us <= now_us);
        if is_due {
            self.acted_us = now_us;
            for number in self.unacked.clone() {
                self.send_request(number, books, &mut cluster.random);
            }
        }
        is_due
    }

    fn come_back(&mut self, cluster: &mut Cluster) -> bool {
        if !self.comes_back
            || self
                .retry_us
                .is_some_and(|retry_us| retry_us > cluster.now_us())
        {
            return false;
        }
        self.shard = cluster.any_shard();
        self.connect(cluster);
        true
    }

    fn listen(&mut self, cluster: &mut Cluster, books: &mut Books, rules: &Rules) -> bool {
        let Some(socket) = &mut self.socket else {
            return false;
        };
        let client = socket.client();
        let (unsent, readable) = (socket.unsent(), client.readable());
        if unsent == 0 && readable == 0 && !client.is_closed() {
            return false;
        }
        let events = socket.step(self.read_max);
        let moved = socket.unsent() != unsent
            || socket.client().readable() != readable
            || !events.is_empty();
        for event in events {
            self.event(event, cluster, books, rules);
        }
        moved
    }

    fn event(&mut self, event: SimEvent, cluster: &mut Cluster, books: &mut Books, rules: &Rules) {
        match event {
            SimEvent::Text(text) => {
                self.say(cluster, &text);
                let heard = books.parse(&text);
                self.hear(&heard, cluster, books, rules);
                return;
            }
            SimEvent::Upgraded(_) | SimEvent::Ping(_) | SimEvent::Pong(_) => return,
            SimEvent::Binary(_) | SimEvent::ProtocolError(_) => {
                panic!("{} heard {event:?}", self.user)
            }
            _ => {}
        }
        self.say(cluster, format_args!("{event:?}"));
        if let SimEvent::Close {
            code: Some(4401), ..
        } = event
        {
            let guard = self.guard.as_ref().expect("what it was granted never ends");
            guard.assert_ended(cluster.now_us());
        }
        self.endings.push(match event {
            SimEvent::Close { code, .. } => Ending::Closed { code },
            SimEvent::Refused(response) => Ending::Refused {
                status: response.status,
            },
            SimEvent::EndOfStream => Ending::EndOfStream,
            _ => Ending::Reset,
        });
        if let Some(Ending::EndOfStream | Ending::Reset) = self.endings.last() {
            self.lost();
            self.retry_us = Some(cluster.now_us() + cluster.random.below(RETRY_US_MAX));
        }
    }

    fn hear(&mut self, heard: &Heard, cluster: &mut Cluster, books: &mut Books, rules: &Rules) {
        if let Some(guard) = &mut self.guard
            && let Err(broken) = guard.hear(heard)
        {
            panic!("{} must not hear {heard:?}: {broken}. {guard:?}", self.user);
        }
        if let Some(room) = heard.room() {
            let view = match self.rooms.get_mut(room) {
                Some(view) => view,
                None => self.rooms.entry(room.to_owned()).or_default(),
            };
            if let Err(broken) = view.hear(heard, rules) {
                panic!(
                    "{}@{} must not hear {heard:?}: {broken}. {view:?}",
                    self.user, self.shard
                );
            }
            if let (Heard::Message { said, .. }, Some(position)) = (heard, view.position) {
                books.message(room, position, said);
            }
            return;
        }
        match heard {
            Heard::Welcome { user } => {
                assert!(
                    *user == self.user && !self.open,
                    "{} heard {heard:?}",
                    self.user
                );
                self.open = true;
                self.acted_us = cluster.now_us();
                self.resume(&mut cluster.random, books);
            }
            Heard::Ack {
                id,
                room,
                seq,
                duplicate,
            } => {
                let number = number_of(id);
                books.ack(id, *seq, *duplicate);
                let is_conflating =
                    rules.conflating.is_some() && room.as_deref() == rules.conflating;
                if !duplicate && !rules.resets && !is_conflating {
                    self.assert_ack_comes_last(room.as_deref(), *seq, books);
                }
                self.acted_us = cluster.now_us();
                assert!(self.own.contains(&number), "{} heard {heard:?}", self.user);
                if let Some(index) = self.unacked.iter().position(|unacked| *unacked == number) {
                    self.unacked.remove(index);
                }
            }
            Heard::Direct { seq, said } => self.direct(*seq, said, books),
            Heard::Error {
                code,
                message,
                id,
                room,
            } => {
                self.errors.push(code.clone());
                if self.guard.is_some() {
                    self.refused(message, id.as_deref(), room.as_deref());
                }
            }
            Heard::Heartbeat {} => {
                // It was not told who came and went where it might not know.
                let guard = self.guard.as_ref().expect("it has renewed a grant");
                for (room, view) in &mut self.rooms {
                    if !guard.is_told_of_presence(room) {
                        view.present = None;
                    }
                }
            }
            _ => {}
        }
    }

    /// A request has failed: it is not repeated.
    fn refused(&mut self, message: &str, id: Option<&str>, room: Option<&str>) {
        if let Some(id) = id {
            let number = number_of(id);
            self.unacked.retain(|unacked| *unacked != number);
        }
        if message.contains("may not join")
            && let Some(view) = room.and_then(|room| self.rooms.get_mut(room))
        {
            view.standing = Standing::Out;
        }
    }

    /// What is acknowledged to a member of its room was delivered to it before. Where the home has started again, what was said since
    /// comes with its answer to the rejoin, which may be later.
    fn assert_ack_comes_last(&self, room: Option<&str>, seq: u64, books: &mut Books) {
        let view = room.and_then(|room| self.rooms.get(room));
        if let Some(view) = view.filter(|view| view.standing == Standing::In) {
            assert!(
                view.position.is_some_and(|position| position.seq >= seq),
                "{} was acknowledged {seq} in {room:?} and has not heard it: {view:?}",
                self.user
            );
            books.count_ack();
        }
    }

    fn direct(&mut self, seq: u64, said: &Said, books: &Books) {
        let (who, last) = (&self.user, self.direct_last);
        assert!(
            last.is_none_or(|last| last + 1 == seq),
            "{who} heard {seq} after {last:?}: {said:?}"
        );
        self.direct_last = Some(seq);
        let number = said.number();
        let publication = &books.publications[number];
        assert_eq!(
            (&said.user, &said.content),
            (&publication.user, &publication.content)
        );
        assert!(publication.permitted, "{publication:?} was forbidden");
        assert_eq!(
            publication.place,
            Place::Inbox(who.clone()),
            "{who} heard {said:?}"
        );
        self.directs.push(number);
    }

    /// It asks for something in a room that needs a right.
    fn ask(&mut self, room: &str, needed: Rights) {
        if let Some(guard) = &mut self.guard {
            guard.ask(room, needed);
        }
    }

    /// Takes up on a new connection what the one before has left.
    fn resume(&mut self, random: &mut Random, books: &mut Books) {
        let lost: Vec<String> = self
            .rooms
            .iter()
            .filter(|(_, view)| view.standing == Standing::Lost)
            .map(|(room, _)| room.clone())
            .collect();
        for room in lost {
            self.join(&room, random);
        }
        for number in self.unacked.clone() {
            self.send_request(number, books, random);
        }
    }

    /// Sends a publish, perhaps once more.
    fn send_request(&mut self, number: usize, books: &mut Books, random: &mut Random) {
        let publication = &mut books.publications[number];
        let guard = self.guard.as_mut();
        publication.permitted |= guard.is_none_or(|guard| guard.publish(&publication.place));
        self.send(&books.request(number), random);
    }

    fn join(&mut self, room: &str, random: &mut Random) {
        let view = self.rooms.entry(room.to_owned()).or_default();
        let since = view.position;
        view.standing = Standing::Asked { since };
        self.ask(room, Rights::JOIN);
        let mut request = json!({"type": "join", "room": room});
        if let Some(Position { epoch, seq }) = since {
            request["since"] = json!({"epoch": epoch, "seq": seq});
        }
        self.send(&request.to_string(), random);
    }

    /// Sends a text, sometimes in several frames with a ping between them.
    fn send(&mut self, text: &str, random: &mut Random) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        if random.chance(900) {
            return socket.send_text(text);
        }
        let (first, rest) = text.as_bytes().split_at(random.between(0, text.len()));
        socket.send_frame(&SimFrame {
            fin: false,
            opcode: Opcode::Text,
            compressed: false,
            payload: first.to_vec(),
        });
        socket.send_ping(b"between");
        socket.send_frame(&SimFrame {
            fin: true,
            opcode: Opcode::Continuation,
            compressed: false,
            payload: rest.to_vec(),
        });
    }

    fn standing(&self, room: &str) -> Standing {
        self.rooms
            .get(room)
            .map(|view| view.standing)
            .unwrap_or_default()
    }

    /// Does the next thing of the script, where it can be done.
    fn perform(&mut self, cluster: &mut Cluster, books: &mut Books) -> bool {
        let Some(act) = self.script.front().filter(|_| self.open).cloned() else {
            return false;
        };
        self.acted_us = cluster.now_us();
        let random = &mut cluster.random;
        match act {
            Act::Join(room) => match self.standing(&room) {
                Standing::Out => self.join(&room, random),
                _ => return false,
            },
            // It had to leave, or was never let in.
            Act::Leave(room) | Act::Publish { room, .. }
                if self.guard.is_some() && self.standing(&room) == Standing::Out => {}
            Act::Leave(room) => match self.rooms.get_mut(&room) {
                Some(view) if view.standing == Standing::In => {
                    view.standing = Standing::Leaving;
                    self.send(&json!({"type": "leave", "room": room}).to_string(), random);
                }
                _ => return false,
            },
            Act::Publish { room, has_id } => {
                let may_publish =
                    matches!(self.standing(&room), Standing::In | Standing::Asked { .. });
                if !may_publish || self.unacked.len() >= self.unacked_max {
                    return false;
                }
                self.publish(Place::Room(room), has_id, books, random);
            }
            Act::Repeat => {
                let with_ids = self
                    .own
                    .iter()
                    .filter(|number| books.publications[**number].has_id);
                let repeatable: Vec<usize> = with_ids.copied().collect();
                if !repeatable.is_empty() {
                    let number = repeatable[random.index(repeatable.len())];
                    self.unacked.push(number);
                    self.send_request(number, books, random);
                }
            }
            Act::Direct { to, has_id } => self.publish(Place::Inbox(to), has_id, books, random),
            Act::Presence(room) => {
                self.ask(&room, Rights::PRESENCE);
                let request = json!({"type": "presence", "room": room});
                self.send(&request.to_string(), random);
            }
            Act::History(room) => {
                self.ask(&room, Rights::HISTORY);
                let request = json!({"type": "history", "room": room});
                self.send(&request.to_string(), random);
            }
            Act::Renew(kind) => {
                let guard = self.guard.as_mut().expect("it has a grant");
                let renewal = guard.renew(kind, cluster.network.clock());
                self.send(&renewal, random);
            }
            Act::PanicShard => self.send(r#"{"type":"fault","what":"panic_shard"}"#, random),
        }
        self.script.pop_front();
        true
    }

    fn publish(&mut self, place: Place, has_id: bool, books: &mut Books, random: &mut Random) {
        let number = books.publish(place, &self.user, has_id, random);
        self.own.push(number);
        if has_id {
            self.unacked.push(number);
        }
        self.send_request(number, books, random);
    }
}
