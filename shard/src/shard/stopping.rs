//! The end of a shard that was told to stop: connections are closed a few at a time, so that their clients do
//! not all come back at once, and what waits for them still goes out.

use super::Core;
use super::accepting::unavailable;
use crate::app::App;
use crate::close_reason::CloseReason;
use crate::connection::State;
use crate::driver::{ConnectionKey, Slot};

/// How a shard stops. All times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopPlan {
    /// The close frames are spread over this time, or over half of `stop_ms_max` where that is less.
    pub window_ms: u64,
    /// After this time whatever is left is dropped.
    pub stop_ms_max: u64,
    /// What clients are told to wait at least before they connect again; each is told up to one window more.
    pub reconnect_after_ms: u64,
}

/// How often the window is looked at.
const STEP_MS: u64 = 10;

/// A stop under way.
pub(super) struct Stopping {
    plan: StopPlan,
    started_ms: u64,
    /// Slots that were in use at the start, and how many of them were told.
    slots: Slot,
    told: Slot,
    dropped: bool,
}

impl<A: App> Core<A> {
    pub(super) fn stop(&mut self, plan: StopPlan) {
        if self.stopping.is_none() {
            // Whoever is told last still has time to answer.
            let window_ms = plan.window_ms.min(plan.stop_ms_max / 2);
            self.stopping = Some(Stopping {
                plan: StopPlan { window_ms, ..plan },
                started_ms: self.clock.monotonic_ms(),
                slots: self.table.connections.slots(),
                told: 0,
                dropped: false,
            });
        }
    }

    /// Tells as many connections as are due; answers whether there were any.
    pub(super) fn run_stopping(&mut self) -> bool {
        let now_ms = self.clock.monotonic_ms();
        let Some(stopping) = &mut self.stopping else {
            return false;
        };
        let passed_ms = now_ms.saturating_sub(stopping.started_ms);
        let Stopping { plan, slots, .. } = *stopping;
        if passed_ms >= plan.stop_ms_max && !stopping.dropped {
            stopping.dropped = true;
            self.for_slots(0, self.table.connections.slots(), |core, key| {
                core.stats.stop_dropped.add(1);
                core.terminate(key, CloseReason::Shutdown);
            });
            return true;
        }
        let due = match plan.window_ms {
            0 => slots,
            window_ms => {
                let share = u128::from(slots) * u128::from(passed_ms.min(window_ms));
                (share / u128::from(window_ms)) as Slot
            }
        };
        let told = std::mem::replace(&mut stopping.told, due);
        self.for_slots(told, due, |core, key| core.tell_to_reconnect(key, plan));
        told < due
    }

    fn for_slots(&mut self, from: Slot, to: Slot, mut each: impl FnMut(&mut Self, ConnectionKey)) {
        for slot in from..to {
            if let Some(key) = self.table.connections.key_at(slot) {
                each(self, key);
            }
        }
    }

    fn tell_to_reconnect(&mut self, key: ConnectionKey, plan: StopPlan) {
        match self.table.state(key) {
            State::Handshake => self.refuse(key, unavailable().response()),
            State::Unnamed | State::Held | State::Opening | State::Open => {
                let wait_ms = plan.reconnect_after_ms + self.random.below(plan.window_ms + 1);
                let reason = format!("server is shutting down; reconnect in {wait_ms} ms");
                self.end(key, CloseReason::Shutdown, 1001, &reason, State::Closing);
                self.work_off();
            }
            _ => {}
        }
    }

    pub(super) fn stopping_due_ms(&self) -> Option<u64> {
        let stopping = self
            .stopping
            .as_ref()
            .filter(|stopping| !stopping.dropped)?;
        if stopping.told < stopping.slots {
            return Some(self.clock.monotonic_ms() + STEP_MS);
        }
        Some(stopping.started_ms + stopping.plan.stop_ms_max)
    }

    /// The shard was told to stop, and its time is up: nobody is waited for any more.
    pub(super) fn has_dropped(&self) -> bool {
        self.stopping
            .as_ref()
            .is_some_and(|stopping| stopping.dropped)
    }

    /// The shard was told to stop, and nobody is left.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopping.is_some() && self.table.connections.used() == 0 && !self.accepting
    }
}
