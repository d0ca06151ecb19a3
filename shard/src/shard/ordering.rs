//! Orders of other threads: carried out a bounded number a pass, and answered.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Control, Core};
use crate::app::App;
use crate::close_reason::CloseReason;
use crate::connection::State;
use crate::driver::ConnectionKey;
use crate::hub::Name;
use crate::hub::event::ErrorCode;
use crate::orders::{
    CLOSES_PER_ORDER_MAX, Closed, ConnectionState, ENTRIES_PER_ORDER_MAX, Order, Publication,
    Published, Reply, UserConnections, Whose,
};
use crate::shard::ShardCounts;

/// Orders that a shard takes while a mailbox is full. Beyond it they stay where whoever gives them is told to wait.
const ORDERS_MAX: usize = 1024;

impl<A: App> Core<A> {
    /// Carries out a bounded part of what other threads order. Orders wait while a mailbox is full, as most of them cause mail; a stop does not.
    pub(super) fn take_control(&mut self) -> bool {
        let mut spent = 0;
        while spent < self.limits.mail_per_pass_max {
            if !self.post.is_blocked()
                && let Some(order) = self.orders.pop_front()
            {
                spent += order.weight();
                self.carry_out(*order);
                self.work_off();
            } else if self.orders.len() < ORDERS_MAX
                && let Some(control) = self.post.receive_control()
            {
                spent += 1;
                match control {
                    Control::Stop(plan) => self.stop(plan),
                    Control::Order(order) => self.orders.push_back(order),
                }
            } else {
                break;
            }
        }
        spent > 0
    }

    fn carry_out(&mut self, order: Order) {
        self.stats.orders.add(1);
        match order {
            Order::Publish { publication, reply } => self.publish_for_server(publication, reply),
            Order::Verdict(verdict) => self.decided(verdict),
            Order::Counts { reply } => self.reply(reply, self.counts()),
            Order::Activity { reply } => {
                let activity = self.look();
                self.reply(reply, activity);
            }
            Order::Rooms {
                prefix,
                from,
                limit,
                reply,
            } => self.reply(reply, self.hub.rooms_page(&prefix, from, limit)),
            Order::Room { room, reply } => self.reply(reply, self.hub.room_state(&room)),
            Order::Members {
                room,
                from,
                limit,
                reply,
            } => self.reply(reply, self.hub.members_page(&room, from, limit)),
            Order::History {
                room,
                since,
                limit,
                reply,
            } => {
                let recalled = self.hub.recall(&room, since, limit, self.clock);
                self.reply(reply, recalled);
            }
            Order::Connections {
                whose,
                limit,
                reply,
            } => {
                let connections = self.connections_of(&whose, limit);
                self.reply(reply, connections);
            }
            Order::Close {
                whose,
                code,
                reason,
                reply,
            } => {
                let closed = self.close_some(&whose, code, &reason);
                self.reply(reply, closed);
            }
        }
    }

    fn publish_for_server(
        &mut self,
        publication: Publication,
        reply: Option<Reply<Result<Published, ErrorCode>>>,
    ) {
        let Some(reply) = reply else {
            return self.hub.publish_from_server(publication, &mut self.effects);
        };
        let published = self
            .hub
            .publish_at_home(publication, self.clock, &mut self.effects);
        self.reply(reply, published);
    }

    /// Gives an answer. What takes it is not ours: its panic must not end the shard.
    fn reply<T>(&self, reply: Reply<T>, answer: T) {
        if catch_unwind(AssertUnwindSafe(|| reply.give(answer))).is_err() {
            self.stats.panics.add(1);
        }
    }

    /// How much the shard holds.
    pub(super) fn counts(&self) -> ShardCounts {
        ShardCounts {
            connections: self.table.connections.used(),
            outboxes: self.table.outboxes_used(),
            outbox_bytes: self.table.outbox_bytes(),
            unsettled: self.table.unsettled(),
            dedicated_windows: self.table.windows.dedicated_count(),
            grants: self.grants.used(),
            held: self.held.len(),
            mails_waiting: self.post.waiting(),
            hub: self.hub.counts(),
        }
    }

    /// The open connections that are meant, at most so many.
    fn keys_of(&mut self, whose: &Whose, most: usize) -> Vec<ConnectionKey> {
        let mut keys: Vec<ConnectionKey> = match whose {
            Whose::User(user) => self.hub.user_connections(user).take(most).collect(),
            Whose::Connection(key) => vec![*key],
        };
        keys.retain(|&key| self.table.state(key) == State::Open);
        keys
    }

    /// How many connections are meant.
    fn count_of(&mut self, whose: &Whose) -> u64 {
        match whose {
            Whose::User(user) => self.hub.user_connections_count(user) as u64,
            Whose::Connection(key) => u64::from(self.table.state(*key) == State::Open),
        }
    }

    fn connections_of(&mut self, whose: &Whose, limit: usize) -> UserConnections {
        let keys = self.keys_of(whose, limit.min(ENTRIES_PER_ORDER_MAX));
        let mut rooms_left = ENTRIES_PER_ORDER_MAX;
        let mut connections = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(user) = self.hub.member_user(key).cloned() else {
                continue;
            };
            let rooms: Vec<Name> = self.hub.rooms_of(key, rooms_left);
            rooms_left -= rooms.len();
            connections.push(ConnectionState {
                key,
                user,
                rooms,
                outbox_bytes: self.table.waiting_bytes(key) as u64,
            });
        }
        UserConnections {
            connections,
            count: self.count_of(whose),
        }
    }

    fn close_some(&mut self, whose: &Whose, code: u16, reason: &str) -> Closed {
        let keys = self.keys_of(whose, CLOSES_PER_ORDER_MAX);
        for &key in &keys {
            self.stats.close_ordered.add(1);
            let why = CloseReason::Ordered(code);
            self.end(key, why, code, reason, State::Closing);
            // The rooms expect the effects of one call to be done before the next.
            self.work_off();
        }
        Closed {
            closed: keys.len() as u64,
            left: self.count_of(whose),
        }
    }
}
