//! Sending what the schedule demands, at the times it demands.

use std::sync::atomic::Ordering;

use super::super::books::{Books, Metric};
use super::super::client::Phase;
use super::super::command::{Mix, Traffic};
use super::Worker;
use crate::schedule::{self, Schedule};
use crate::stamp::{STREAM_DIRECT, Stamp};

/// Messages that one pass sends. They leave at its end, so more of them would leave later than their books say; and a
/// schedule that the thread cannot keep up with must not keep it from receiving. Fewer would hold the schedule back: a pass that receives from a
/// thousand connections takes 5 ms.
const MESSAGES_A_PASS_MAX: usize = 256;

/// A connection that sends.
pub(super) struct Publisher {
    client: u32,
    /// Its number in its room.
    stream: u32,
    /// The number of its next message to the room.
    next_broadcast: u32,
    /// The number of its next direct message.
    next_direct: u32,
    /// The next message is a direct one.
    direct: bool,
    /// When it last sent.
    last_ns: u64,
}

impl Worker {
    /// Replaces what was planned: one group publishes at a time.
    pub(super) fn publish_start(&mut self, group: u8, traffic: Traffic) {
        self.schedule.clear();
        self.groups[usize::from(group)].traffic = Some(traffic);
        let publishing =
            |publisher: &Publisher| self.clients[publisher.client as usize].group == group;
        if !self.publishers.iter().any(publishing) {
            self.publishers_add(group);
        }
        for (index, publisher) in self.publishers.iter().enumerate() {
            let client = &self.clients[publisher.client as usize];
            if client.group != group {
                continue;
            }
            let order = &self.groups[usize::from(group)].order;
            let rank = order.group.publisher_rank(client.member, publisher.stream);
            let phase_ns = schedule::phase_ns(rank, traffic.interval_ns);
            let due_ns = traffic.start_ns + phase_ns;
            plan(&mut self.schedule, due_ns, index as u32, traffic);
        }
    }

    /// Adds the publishers of a group on this thread. They stay in the order of their clients.
    fn publishers_add(&mut self, group: u8) {
        let part = &self.groups[usize::from(group)];
        for offset in 0..part.count {
            let member = part.first_member + offset;
            if let Some(stream) = part.order.group.publisher(member) {
                self.publishers.push(Publisher {
                    client: part.first_client + offset,
                    stream,
                    next_broadcast: 0,
                    next_direct: 0,
                    direct: member % 2 == 1,
                    last_ns: 0,
                });
            }
        }
    }

    /// Sends what is due, as much as one pass may.
    pub(super) fn publish_due(&mut self, books: &mut Books) {
        for _ in 0..MESSAGES_A_PASS_MAX {
            let now_ns = self.settings.now_ns();
            let Some((intended_ns, publisher)) = self.schedule.take(now_ns) else {
                break;
            };
            self.publish(publisher, intended_ns, now_ns, books);
        }
        let publishing = self.schedule.next_ns().is_some();
        self.shared.publishing.store(publishing, Ordering::Release);
    }

    fn publish(&mut self, number: u32, intended_ns: u64, now_ns: u64, books: &mut Books) {
        let publisher = &self.publishers[number as usize];
        let index = publisher.client;
        let client = &self.clients[index as usize];
        let (phase, member) = (client.phase, client.member);
        let local = &self.groups[usize::from(client.group)];
        let Some(traffic) = local.traffic else {
            return;
        };
        let group = &local.order.group;
        let direct = publisher.direct && traffic.mix == Mix::Half;
        let stamp = Stamp {
            // A closed loop has no other intention than to send when it may.
            intended_ns: if traffic.closed_loop {
                now_ns
            } else {
                intended_ns
            },
            stream: if direct {
                STREAM_DIRECT | group.partner(member)
            } else {
                member
            },
            number: if direct {
                publisher.next_direct
            } else {
                publisher.next_broadcast
            },
        };
        self.scratch.clear();
        let receivers = if direct {
            let user = group.user_name(group.partner(member));
            self.settings
                .protocol
                .direct(&user, stamp, traffic.payload_bytes, &mut self.scratch);
            1
        } else {
            let room = group.room(member);
            self.settings.protocol.broadcast(
                &group.room_name(room),
                stamp,
                traffic.payload_bytes,
                &mut self.scratch,
            );
            group.receivers(room).len() as u64
        };
        let message = std::mem::take(&mut self.scratch);
        let sent = phase == Phase::Ready && self.say(index, &message);
        self.scratch = message;
        let publisher = &mut self.publishers[number as usize];
        publisher.direct = !publisher.direct;
        publisher.last_ns = now_ns;
        if !traffic.closed_loop {
            let due_ns = intended_ns + traffic.interval_ns;
            plan(&mut self.schedule, due_ns, number, traffic);
        }
        let measured = traffic.measures(stamp.intended_ns);
        if !sent {
            books.tally.unsent += u64::from(measured);
            return;
        }
        if direct {
            publisher.next_direct += 1;
        } else {
            publisher.next_broadcast += 1;
        }
        books.tally.messages += 1;
        if measured {
            books.tally.published += 1;
            books.tally.expected += receivers;
            books
                .recordings
                .record(Metric::Lateness, now_ns.saturating_sub(intended_ns));
        }
    }

    /// In a closed loop: the connection's last message has come back, so it may send again when its pace permits.
    pub(super) fn publish_next(&mut self, index: u32, now_ns: u64) {
        let client = &self.clients[index as usize];
        let Some(traffic) = self.local(client).traffic else {
            return;
        };
        let found = self
            .publishers
            .binary_search_by_key(&index, |publisher| publisher.client);
        if let Ok(number) = found {
            let due_ns = self.publishers[number].last_ns + traffic.interval_ns;
            let due_ns = due_ns.max(now_ns);
            plan(&mut self.schedule, due_ns, number as u32, traffic);
        }
    }
}

/// Plans a message unless the traffic is over by then, so that an empty schedule means that all has been sent.
fn plan(schedule: &mut Schedule, due_ns: u64, publisher: u32, traffic: Traffic) {
    if due_ns < traffic.until_ns {
        schedule.add(due_ns, publisher);
    }
}
