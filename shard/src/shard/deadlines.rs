//! What happens by time: handshakes that take too long, heartbeats, close handshakes that are not answered,
//! connections that may be read again, and the application's timer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Core;
use crate::app::App;
use crate::close_reason::CloseReason;
use crate::connection::{Flags, Pace, State};
use crate::driver::{Clock, ConnectionKey, Slot};
use crate::limits::Limits;
use crate::timer::TimerWheel;
use crate::ws::close::UNAUTHORIZED;
use crate::ws::{Rejection, frame};

/// How finely deadlines of connections are kept. A heartbeat of 10 ms is the shortest permitted.
const TICK_MS: u64 = 10;

/// Deadlines of connections handled in one pass; the rest waits for the next pass. Connections that came together reach theirs together, and
/// each of them may be sent something: more of them would keep all others waiting.
const EXPIRED_PER_PASS_MAX: usize = 64;

/// Heartbeats of a shard that leave together, about. A shard with idle connections alone wakes once for all of them; each of them for itself would cost it
/// more to wake up for than to handle. More of them would gain little and keep messages waiting, on this shard and on those that share its core.
const HEARTBEATS_TOGETHER: u64 = 8;

/// How long a heartbeat waits for others at most.
const HEARTBEAT_WAIT_MS_MAX: u64 = 250;

/// How long accepting rests after an error, such as a full table of descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;

/// How long accepting rests where more come than may, in microseconds. What the bound permits in that time is then accepted at once.
const ACCEPT_REST_US: u64 = 5000;

/// How long a shard sleeps at most while mail waits for a full mailbox.
const BLOCKED_SLEEP_US: u64 = 1000;

/// All timers of a shard but those of the rooms.
pub(super) struct Deadlines {
    /// One for each connection; its state says what it means.
    wheel: TimerWheel,
    /// Rate-limited connections by the time at which they go on.
    resumes: BinaryHeap<Reverse<(u64, ConnectionKey)>>,
    pub(super) app_timer_ms: Option<u64>,
    accept_after_ms: Option<u64>,
    accept_pace: AcceptPace,
    heartbeat_ms: u64,
    /// The wheel's times are later than the clock's by this: shards must not all wake for their ticks and groups of heartbeats at the same moments.
    phase_ms: u64,
    expired: Vec<Slot>,
}

impl Deadlines {
    pub(super) fn new(limits: &Limits, is_tls: bool, phase_ms: u64) -> Self {
        Self {
            wheel: TimerWheel::new(TICK_MS),
            resumes: BinaryHeap::new(),
            app_timer_ms: None,
            accept_after_ms: None,
            accept_pace: AcceptPace::new(limits.accept_pace(is_tls)),
            heartbeat_ms: limits.heartbeat_ms,
            phase_ms: phase_ms % HEARTBEAT_WAIT_MS_MAX,
            expired: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, slot: Slot, deadline_ms: u64) {
        self.wheel
            .set(slot, deadline_ms.saturating_add(self.phase_ms));
    }

    /// When something is to happen to a connection.
    pub(super) fn due_ms(&self, slot: Slot) -> Option<u64> {
        let due_ms = self.wheel.deadline_ms(slot)?;
        Some(due_ms.saturating_sub(self.phase_ms))
    }

    /// When a heartbeat of this time leaves: a little later, together with others of so many connections.
    fn heartbeat_due_ms(&self, at_ms: u64, connections: usize) -> u64 {
        let wait_ms_max = (self.heartbeat_ms / 16).clamp(1, HEARTBEAT_WAIT_MS_MAX);
        let group_ms = HEARTBEATS_TOGETHER * self.heartbeat_ms / connections.max(1) as u64;
        let group_ms = group_ms.clamp(1, wait_ms_max);
        let due_ms = (at_ms + self.phase_ms).next_multiple_of(group_ms);
        due_ms - self.phase_ms
    }

    /// Appends those of at most `max` connections whose deadline has passed.
    fn expire(&mut self, now_ms: u64, max: usize, expired: &mut Vec<Slot>) {
        self.wheel.expire(now_ms + self.phase_ms, max, expired);
    }

    pub(super) fn cancel(&mut self, slot: Slot) {
        self.wheel.cancel(slot);
    }

    pub(super) fn resume_at(&mut self, key: ConnectionKey, due_ms: u64) {
        self.resumes.push(Reverse((due_ms, key)));
    }

    fn next_resume(&mut self, now_ms: u64) -> Option<ConnectionKey> {
        let Reverse((due_ms, key)) = *self.resumes.peek()?;
        (due_ms <= now_ms).then(|| {
            self.resumes.pop();
            key
        })
    }

    pub(super) fn pause_accept(&mut self, now_ms: u64) {
        self.accept_after_ms = Some(now_ms + ACCEPT_PAUSE_MS);
    }

    pub(super) fn resume_accept(&mut self) {
        self.accept_after_ms = None;
    }

    fn accept_pause_is_over(&self, now_ms: u64) -> bool {
        self.accept_after_ms
            .is_none_or(|after_ms| after_ms <= now_ms)
    }

    /// A connection was accepted; answers whether accepting rests now, as too many come.
    pub(super) fn note_accept(&mut self, now_us: u64) -> bool {
        self.accept_pace.note(now_us)
    }

    pub(super) fn may_accept(&self, clock: Clock) -> bool {
        self.accept_pause_is_over(clock.monotonic_ms())
            && self
                .accept_pace
                .rests_until_us(clock.monotonic_us)
                .is_none()
    }

    fn next_due_ms(&self) -> Option<u64> {
        let wheel = self.wheel.next_due_ms();
        let resume = self.resumes.peek().map(|Reverse((due_ms, _))| *due_ms);
        [
            wheel.map(|due_ms| due_ms.saturating_sub(self.phase_ms)),
            resume,
            self.app_timer_ms,
            self.accept_after_ms,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Bounds how many are accepted a second, by the time at which the next one would come if all came as fast as they may (the virtual scheduling
/// algorithm of ITU-T I.371, A.1).
#[derive(Debug)]
struct AcceptPace {
    /// Between two; 0 where there is no bound.
    interval_us: u64,
    next_us: u64,
    rests_until_us: u64,
}

impl AcceptPace {
    fn new(per_second_max: u64) -> Self {
        Self {
            interval_us: 1_000_000_u64.checked_div(per_second_max).unwrap_or(0),
            next_us: 0,
            rests_until_us: 0,
        }
    }

    fn note(&mut self, now_us: u64) -> bool {
        if self.interval_us == 0 {
            return false;
        }
        self.next_us = self.next_us.max(now_us.saturating_sub(ACCEPT_REST_US)) + self.interval_us;
        let was_resting = self.rests_until_us(now_us).is_some();
        if self.next_us > now_us {
            self.rests_until_us = self.next_us + ACCEPT_REST_US;
        }
        !was_resting && self.rests_until_us(now_us).is_some()
    }

    fn rests_until_us(&self, now_us: u64) -> Option<u64> {
        (self.rests_until_us > now_us).then_some(self.rests_until_us)
    }
}

impl<A: App> Core<A> {
    /// Fires what is due.
    pub(super) fn run_due(&mut self) -> bool {
        let now_ms = self.clock.monotonic_ms();
        let mut busy = false;
        if self.deadlines.accept_pause_is_over(now_ms) {
            // A pause that is over is no deadline any more: the shard would never sleep again.
            self.deadlines.resume_accept();
        }
        if self
            .hub
            .next_due_ms()
            .is_some_and(|due_ms| due_ms <= now_ms)
            && !self.post.is_blocked()
        {
            self.hub.run_due(self.clock, &mut self.effects);
            self.work_off();
            busy = true;
        }
        while let Some(key) = self.deadlines.next_resume(now_ms) {
            if let Some(connection) = self.table.find(key)
                && connection.pace == Pace::Limited
            {
                connection.pace = Pace::Told;
            }
            self.resume(key);
            self.table.mark_dirty(key);
            busy = true;
        }
        busy |= self.run_undecided();
        self.log_left_out();
        let mut expired = std::mem::take(&mut self.deadlines.expired);
        self.deadlines
            .expire(now_ms, EXPIRED_PER_PASS_MAX, &mut expired);
        busy |= !expired.is_empty();
        self.stats.timers_fired.add(expired.len() as u64);
        for slot in expired.drain(..) {
            if let Some(key) = self.table.connections.key_at(slot) {
                self.deadline_passed(key);
            }
        }
        self.deadlines.expired = expired;
        if self
            .deadlines
            .app_timer_ms
            .is_some_and(|due_ms| due_ms <= now_ms)
            && !self.post.is_blocked()
        {
            self.deadlines.app_timer_ms = None;
            self.call_app(|app, context| app.on_timer(context));
            self.work_off();
            busy = true;
        }
        self.run_stopping() || busy
    }

    /// When the shard must be called again without a completion or mail, in monotonic microseconds.
    pub(super) fn next_due_us(&self) -> Option<u64> {
        if self.post.is_blocked() {
            // What is due and would cause mail waits too, and must not keep the shard awake.
            return Some(self.clock.monotonic_us + BLOCKED_SLEEP_US);
        }
        [
            self.deadlines.next_due_ms(),
            self.hub.next_due_ms(),
            self.stopping_due_ms(),
            self.held.due_ms(),
            self.close_log.due_ms(),
        ]
        .into_iter()
        .flatten()
        .map(|due_ms| due_ms * 1000)
        .chain(
            self.deadlines
                .accept_pace
                .rests_until_us(self.clock.monotonic_us),
        )
        .min()
    }

    /// Heartbeats begin at a random moment of the first interval, so that connections that came together do
    /// not beat together.
    pub(super) fn set_first_heartbeat(&mut self, key: ConnectionKey) {
        let interval_ms = self.deadlines.heartbeat_ms;
        let first_ms = interval_ms / 2 + self.random.below(interval_ms / 2 + 1);
        self.set_heartbeat(key, first_ms);
    }

    fn set_heartbeat(&mut self, key: ConnectionKey, in_ms: u64) {
        let at_ms = self.clock.monotonic_ms() + in_ms;
        let connections = self.table.connections.used();
        let due_ms = self.deadlines.heartbeat_due_ms(at_ms, connections);
        self.set_deadline(key.slot, due_ms);
    }

    fn deadline_passed(&mut self, key: ConnectionKey) {
        if self.grants.has_ended(key.slot, self.clock) {
            self.expire(key);
            self.work_off();
            return;
        }
        match self.table.state(key) {
            State::Handshake => {
                self.stats.handshakes_rejected.add(1);
                self.refuse(key, Rejection::TimedOut.response());
            }
            State::Unnamed => {
                self.stats.close_unnamed.add(1);
                let why = CloseReason::Unnamed(UNAUTHORIZED);
                self.end(key, why, UNAUTHORIZED, "no token in time", State::Closing);
            }
            State::Open => self.heartbeat(key),
            State::Held => self.undecided(key),
            State::Opening | State::Closing | State::Finishing | State::Leaving => {
                self.terminate(key, CloseReason::OpeningTimedOut);
            }
            State::Terminating | State::Closed | State::Free => {}
        }
    }

    fn heartbeat(&mut self, key: ConnectionKey) {
        let Some(connection) = self.table.find(key) else {
            return;
        };
        connection.receives_reset();
        // While somebody decides about its message it is not always read.
        let silent = !connection.take(Flags::ALIVE) && connection.pace != Pace::Held;
        if !silent {
            connection.heartbeats_missed = 0;
        } else if u64::from(connection.heartbeats_missed) >= self.limits.heartbeat_missed_max {
            self.stats.close_heartbeat.add(1);
            let why = CloseReason::Heartbeat;
            self.end(key, why, 1001, "no heartbeat", State::Closing);
            self.work_off();
            return;
        } else {
            connection.heartbeats_missed += 1;
            self.stats.pings_sent.add(1);
            self.table.queue_control(key, frame::ping(b""));
        }
        self.set_heartbeat(key, self.deadlines.heartbeat_ms);
        // It may be time to receive from it in another way.
        self.table.mark_dirty(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn accepting_rests_so_that_the_average_is_what_may_come() {
        for per_second_max in [50, 5000, 300_000] {
            let mut pace = AcceptPace::new(per_second_max);
            let (mut accepted, mut rests) = (0, 0);
            for now_us in (1_000_000..11_000_000).step_by(100) {
                // Sixteen come at a time, as long as any may come.
                if pace.rests_until_us(now_us).is_none() {
                    accepted += 16;
                    rests += (0..16).filter(|_| pace.note(now_us)).count() as u64;
                }
            }
            let expected = (10 * per_second_max).min(16 * 100_000);
            assert!(
                accepted >= expected * 9 / 10 && accepted <= expected + 64,
                "{accepted} of {expected}"
            );
            assert_eq!(rests > 0, per_second_max < 160_000);
        }
    }

    #[test]
    fn few_who_come_now_and_then_never_wait() {
        let mut pace = AcceptPace::new(1000);
        for now_us in (1_000_000..2_000_000).step_by(2000) {
            assert!(!pace.note(now_us), "at {now_us} µs");
            assert_eq!(pace.rests_until_us(now_us), None);
        }
        let mut unbounded = AcceptPace::new(0);
        assert!((0..100_000).all(|_| !unbounded.note(5)));
    }

    /// Heartbeats of so many connections, asked for evenly over an interval: how many leave at each time.
    fn groups(connections: u64, heartbeat_ms: u64) -> BTreeMap<u64, usize> {
        let limits = Limits {
            heartbeat_ms,
            ..Limits::default()
        };
        let mut deadlines = Deadlines::new(&limits, false, 123);
        let asked = |slot: u64| 1_000_000 + slot * heartbeat_ms / connections;
        for slot in 0..connections {
            let due_ms = deadlines.heartbeat_due_ms(asked(slot), connections as usize);
            deadlines.set(slot as Slot, due_ms);
        }
        let mut groups = BTreeMap::new();
        let late_ms_max = (heartbeat_ms / 16).clamp(1, HEARTBEAT_WAIT_MS_MAX) + TICK_MS;
        for now_ms in (1_000_000..1_000_000 + 2 * heartbeat_ms + late_ms_max).step_by(1) {
            let mut expired = Vec::new();
            deadlines.expire(now_ms, usize::MAX, &mut expired);
            for slot in &expired {
                let late_ms = now_ms - asked(u64::from(*slot));
                assert!(late_ms <= late_ms_max, "{late_ms} ms late");
            }
            if !expired.is_empty() {
                groups.insert(now_ms, expired.len());
            }
        }
        assert_eq!(groups.values().sum::<usize>() as u64, connections);
        groups
    }

    #[test]
    fn heartbeats_leave_in_groups_and_never_in_a_wave() {
        // 20,000 in 25 s are 8 in 10 ms; of fewer no group waits longer than a quarter of a second.
        let many = groups(20_000, 25_000);
        assert!(many.len() <= 25_000 / 10 + 2, "{} groups", many.len());
        assert!(many.values().all(|count| *count <= 16), "{many:?}");
        let few = groups(100, 25_000);
        assert!((50..=101).contains(&few.len()), "{} groups", few.len());
        // So many that each tick has more than a group.
        let most = groups(200_000, 1000);
        assert!(most.values().all(|count| *count <= 2500), "{most:?}");
        // The shortest heartbeat is not put off.
        groups(10, 10);
    }
}
