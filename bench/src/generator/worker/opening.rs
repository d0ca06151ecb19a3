//! From a free slot to a member of a room, and back.

use std::cmp::Reverse;
use std::sync::Arc;

use shardcast_shard::driver::ConnectionKey;
use shardcast_shard::ring::ConnectOptions;
use shardcast_shard::ws::handshake::client as handshake;

use super::super::books::{Books, Metric};
use super::super::client::{Client, Phase};
use super::super::command::GroupOrder;
use super::super::ledger::Ledger;
use super::{Local, Worker};
use crate::incoming::Unfinished;

/// The first wait before a failed connection tries again, doubled each time up to [`BACKOFF_NS_MAX`].
const BACKOFF_NS: u64 = 50_000_000;

/// The longest wait before a failed connection tries again.
const BACKOFF_NS_MAX: u64 = 2_000_000_000;

impl Worker {
    pub(super) fn open_group(&mut self, order: Arc<GroupOrder>) {
        let slice = order.group.slice(self.shared.thread);
        let first_client = self.clients.len() as u32;
        debug_assert_eq!(
            usize::from(order.index),
            self.groups.len(),
            "every thread is told of every group"
        );
        let now_ns = self.settings.now_ns();
        // No more than is needed: at a million connections, what doubling leaves unused would be as much as they themselves.
        self.clients.reserve_exact(slice.len());
        self.to_open.reserve_exact(slice.len());
        if let Some(tls) = &mut self.tls {
            tls.extend(slice.len());
        }
        for (offset, member) in slice.clone().enumerate() {
            self.clients.push(Client::new(order.index, member));
            // The pace is that of the ramp alone: who returns later comes as fast as the server permits.
            let due_ns = now_ns + offset as u64 * order.connect_interval_ns;
            self.to_open
                .push(Reverse((due_ns, first_client + offset as u32)));
        }
        self.groups.push(Local {
            first_client,
            first_member: slice.start,
            count: slice.len() as u32,
            ledger: Ledger::new(
                Arc::clone(&order.group),
                slice,
                order.direct,
                Arc::clone(&order.board),
            ),
            traffic: None,
            churn: None,
            order,
        });
    }

    /// When the next connect may begin; `None` while none is to or too many are under way.
    pub(super) fn open_next_ns(&self) -> Option<u64> {
        if self.attempts.are_many() {
            return None;
        }
        self.to_open.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    pub(super) fn open_due(&mut self, now_ns: u64, books: &mut Books) {
        while self.open_next_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            let Some(Reverse((_, index))) = self.to_open.pop() else {
                return;
            };
            self.connect(index, now_ns, books);
            if self.to_open.is_empty() {
                self.to_open.shrink_to(0);
            }
        }
    }

    fn connect(&mut self, index: u32, now_ns: u64, books: &mut Books) {
        books.tally.attempts += 1;
        let client = &self.clients[index as usize];
        let order = &self.local(client).order;
        let connection = order.first_connection + client.member;
        let options = ConnectOptions {
            source: self.settings.sources.of(connection),
            // Nothing stays in TIME_WAIT at this end, which would keep ports from being used again for a minute.
            reset_on_close: true,
            ..ConnectOptions::new(self.settings.target)
        };
        let key = client.key(index);
        match self.driver.connect(key, &options) {
            Ok(()) => {
                let client = &mut self.clients[index as usize];
                self.attempts
                    .begin(client, index, Phase::Connecting, now_ns);
            }
            Err(error) => {
                books.tally.failed += 1;
                books.error(format!("opening a socket: {error}"));
                let client = &mut self.clients[index as usize];
                client.failures = client.failures.saturating_add(1);
                self.open_later(index, now_ns);
            }
        }
    }

    pub(super) fn connected(
        &mut self,
        index: u32,
        result: Result<(), i32>,
        now_ns: u64,
        books: &mut Books,
    ) {
        let client = &mut self.clients[index as usize];
        if client.phase == Phase::Ending {
            self.end(index);
            return;
        }
        // The connect is in flight no more, so it need not be stopped when the connection is given up.
        client.phase = Phase::Handshake;
        if let Err(error) = result {
            let what = format!("connecting: {}", std::io::Error::from_raw_os_error(error));
            self.gone(index, &what, now_ns, books);
            return;
        }
        self.receive(index);
        match self.tls.is_some() {
            true => self.secure(index, now_ns, books),
            false => self.request(index),
        }
    }

    /// Asks the server for a WebSocket.
    pub(super) fn request(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        client.phase = Phase::Handshake;
        let (key, member) = (client.key(index), client.member);
        let settings = Arc::clone(&self.settings);
        let user = self.groups[usize::from(client.group)]
            .order
            .group
            .user_name(member);
        let path = settings.protocol.request_target(&settings.path, &user);
        let request = handshake::request(&settings.host, &path, &handshake_key(key), &[], &[]);
        self.send(index, request);
    }

    /// Reads the server's answer to the handshake. What follows it is kept as unfinished.
    pub(super) fn answered(
        &mut self,
        index: u32,
        received: &[u8],
        now_ns: u64,
        books: &mut Books,
    ) -> bool {
        let client = &mut self.clients[index as usize];
        let answer_key = handshake_key(client.key(index));
        let unfinished = client.unfinished.get_or_insert_default();
        unfinished.extend(received);
        match handshake::parse_response(unfinished.bytes(), &answer_key) {
            Ok(None) => return false,
            Ok(Some(accepted)) => {
                let rest = unfinished
                    .bytes()
                    .get(accepted.length..)
                    .unwrap_or_default();
                client.unfinished = (!rest.is_empty()).then(|| Box::new(Unfinished::of(rest)));
            }
            Err(error) => {
                if let handshake::ResponseError::Status { .. } = error {
                    books.tally.refused += 1;
                }
                self.gone(index, &format!("handshake: {error}"), now_ns, books);
                return false;
            }
        }
        client.phase = Phase::Joining;
        books
            .recordings
            .record(Metric::Handshake, now_ns.saturating_sub(client.began_ns));
        let since = client.position.as_deref().copied();
        let (group, member) = (client.group, client.member);
        let group = &self.groups[usize::from(group)].order.group;
        let opening = self.settings.protocol.opening(
            &group.user_name(member),
            &group.room_name(group.room(member)),
            since,
        );
        if opening.is_empty() {
            self.joined(index, now_ns, books);
        }
        for message in opening {
            self.say(index, message.as_bytes());
        }
        true
    }

    /// The connection takes part from now on.
    pub(super) fn joined(&mut self, index: u32, now_ns: u64, books: &mut Books) {
        let client = &mut self.clients[index as usize];
        if client.phase != Phase::Joining {
            return;
        }
        client.phase = Phase::Ready;
        client.failures = 0;
        self.attempts.end();
        books
            .recordings
            .record(Metric::Join, now_ns.saturating_sub(client.began_ns));
        if client.returned {
            books.tally.rejoined += 1;
        }
        if client.away_ns > 0 {
            books
                .recordings
                .record(Metric::Rejoin, now_ns.saturating_sub(client.away_ns));
        }
        client.returned = true;
        self.shared.ready_add(self.clients[index as usize].group);
    }

    /// Gives up attempts that have taken too long.
    pub(super) fn attempts_give_up(&mut self, now_ns: u64, books: &mut Books) {
        while let Some(index) = self.attempts.overdue(&self.clients, now_ns) {
            let what = match self.clients[index as usize].phase {
                Phase::Connecting => "timed out: connecting",
                Phase::Securing => "timed out",
                Phase::Handshake => "timed out: handshake",
                Phase::Joining => "timed out: joining",
                _ => {
                    // The connection leaves all the same, so this is not among the failed attempts.
                    books.error("timed out: closing".to_owned());
                    "timed out: closing"
                }
            };
            self.gone(index, what, now_ns, books);
        }
    }

    /// The connection is of no use any more, for a reason that is not the harness's.
    pub(super) fn gone(&mut self, index: u32, what: &str, now_ns: u64, books: &mut Books) {
        let client = &mut self.clients[index as usize];
        match client.phase {
            Phase::Connecting | Phase::Securing | Phase::Handshake | Phase::Joining => {
                books.tally.failed += 1;
                books.error(match client.phase {
                    Phase::Securing => format!("TLS handshake: {what}"),
                    _ => what.to_owned(),
                });
                client.failures = client.failures.saturating_add(1);
                self.attempts.end();
            }
            Phase::Ready => {
                books.tally.lost += 1;
                books.error(format!("lost: {what}"));
                self.away(index, now_ns, books);
            }
            // The end of the stream is what a close in good order leads to.
            Phase::Leaving => self.attempts.end(),
            Phase::Free | Phase::Ending | Phase::Closing => return,
        }
        self.end(index);
    }

    /// The connection is no member any more from now on.
    pub(super) fn away(&mut self, index: u32, now_ns: u64, books: &mut Books) {
        let client = &mut self.clients[index as usize];
        self.shared.ready_subtract(client.group);
        books.tally.away += u64::from(client.away_ns == 0);
        client.away_ns = self.fault_ns.unwrap_or(now_ns);
    }

    /// The slot is free again.
    pub(super) fn closed(&mut self, index: u32, now_ns: u64) {
        let client = &mut self.clients[index as usize];
        client.generation = client.key(index).next().generation;
        client.phase = Phase::Free;
        client.stalled = false;
        let returned = client.returned;
        if let Some(tls) = &mut self.tls {
            tls.close(index);
        }
        let returns = self.local(&self.clients[index as usize]).order.returns;
        // One that has never been a member tries until the ramp is given up.
        if returns || !returned {
            self.open_later(index, now_ns);
        }
    }

    fn open_later(&mut self, index: u32, now_ns: u64) {
        let failures = self.clients[index as usize].failures;
        let wait_ns = match failures {
            0 => 0,
            1.. => {
                let most = (BACKOFF_NS << (failures - 1).min(16)).min(BACKOFF_NS_MAX);
                // Half of it by chance, so that those that failed together do not come back together.
                most / 2 + self.random.below(most / 2)
            }
        };
        self.to_open.push(Reverse((now_ns + wait_ns, index)));
    }
}

/// The key of a handshake: made from the connection's own, so that it need not be kept.
fn handshake_key(key: ConnectionKey) -> [u8; 16] {
    let mut bytes = [0x5c; 16];
    bytes[..4].copy_from_slice(&key.slot.to_be_bytes());
    bytes[4..8].copy_from_slice(&key.generation.to_be_bytes());
    bytes
}
