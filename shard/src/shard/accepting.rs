//! Who comes in: accepting, and what those are told whom there is no place for.

use std::net::IpAddr;

use bytes::Bytes;

use super::Core;
use crate::admission::Refused;
use crate::app::App;
use crate::close_reason::CloseReason;
use crate::connection::{Allowance, Flags, State};
use crate::driver::{ConnectionKey, Driver, Slot};
use crate::ws::{Refusal, RefusalStatus};

/// Descriptors of the table that are kept for answering 503.
pub const TABLE_RESERVE: u32 = 64;

/// Connections being turned away above which further ones wait to be accepted. Before it hears of that the kernel takes all who wait already,
/// and drops without an answer the first that the table has no place for.
const TURNED_AWAY_MAX: usize = TABLE_RESERVE as usize / 2;

/// What a refused client is told to wait, in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;

/// The answer where the server is full or going down.
pub(super) fn unavailable() -> Refusal {
    Refusal::new(
        RefusalStatus::Unavailable,
        "the server takes no more connections now",
    )
    .retry_after(RETRY_AFTER_SECONDS)
}

impl<A: App> Core<A> {
    /// A connection was accepted; it is let in or turned away.
    pub(super) fn accepted(&mut self, slot: Slot, peer: Option<IpAddr>) {
        self.stats.connections_accepted.add(1);
        self.stats.connections_open.add(1);
        let rests = self.deadlines.note_accept(self.clock.monotonic_us);
        self.stats.accepts_paced.add(u64::from(rests));
        let over = self.table.connections.used() - self.turned_away >= self.connections_max;
        let dropped = self.has_dropped();
        let (key, connection) = self.table.connections.insert(slot);
        if dropped {
            self.turned_away += 1;
            self.terminate(key, CloseReason::Shutdown);
            return;
        }
        let entered = match (over, &self.stopping) {
            (false, None) => self.admission.enter(peer),
            _ => Err(Refused::Full),
        };
        if let Err(refused) = entered {
            let refusal = match refused {
                Refused::Full => {
                    self.stats.refused_full.add(1);
                    unavailable()
                }
                Refused::Address => {
                    self.stats.refused_address.add(1);
                    Refusal::new(
                        RefusalStatus::TooManyRequests,
                        "too many connections from this address",
                    )
                }
            };
            self.turned_away += 1;
            self.refuse(key, refusal.response());
            return;
        }
        connection.flags.insert(Flags::ADMITTED);
        if self.admission.needs_addresses()
            && let Some(peer) = peer
        {
            self.table.addresses.insert(slot, peer);
        }
        let (rate_burst, now_ms) = (self.limits.messages_burst_max, self.clock.monotonic_ms());
        connection.allowance = Allowance::full(rate_burst, now_ms);
        self.deadlines
            .set(key.slot, now_ms + self.limits.handshake_ms_max);
        self.table.mark_dirty(key);
        if let Err(error) = self.table.open_tls(key) {
            self.tls_failed(key, &error);
        }
    }

    /// Accepting has ended, as was asked or by an error; then it pauses.
    pub(super) fn accept_ended(&mut self, error: Option<i32>) {
        self.accepting = false;
        self.accept_stop_submitted = false;
        if let Some(error) = error {
            self.stats.accept_errors.add(1);
            tracing::debug!(
                shard = self.id,
                error,
                "accepting has ended, it goes on shortly"
            );
            self.deadlines.pause_accept(self.clock.monotonic_ms());
        }
    }

    /// Has accepting started or stopped, as is wanted.
    pub(super) fn settle_accepting(&mut self, driver: &mut impl Driver) {
        let accept = self.wants_accept();
        if accept && !self.accepting {
            self.accepting = true;
            driver.accept_start();
        } else if !accept && self.accepting && !self.accept_stop_submitted {
            self.accept_stop_submitted = true;
            driver.accept_stop();
        }
    }

    fn wants_accept(&self) -> bool {
        self.stopping.is_none()
            && self.turned_away < TURNED_AWAY_MAX
            && self.deadlines.may_accept(self.clock)
    }

    /// Sends an HTTP answer other than 101 and ends the connection.
    pub(super) fn refuse(&mut self, key: ConnectionKey, response: Bytes) {
        let close_ms_max = self.limits.close_ms_max;
        if let Some(connection) = self.table.find(key) {
            connection.state = State::Finishing;
        }
        self.table.drop_stash(key);
        match self.table.is_tls() {
            // What could be read only after a handshake would cost one.
            true if self.table.tls(key).is_none_or(|tls| tls.is_handshaking()) => {
                self.table.dismiss_tls(key);
            }
            _ => self.table.queue_response(key, response),
        }
        self.deadlines
            .set(key.slot, self.clock.monotonic_ms() + close_ms_max);
    }
}
