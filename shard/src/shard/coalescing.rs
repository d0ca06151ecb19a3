//! When a shard that has no time left lets output wait, so that more of it leaves together.
//!
//! A send costs nearly the same for one message as for fifty, to the server and to whoever receives it. A shard that settles its connections as soon as it can
//! makes small sends of all the time it has, falls behind its consumers' kernels, and has nothing left for a burst. So one that does not come to rest settles
//! more and more seldom, and one that does more and more often, as network cards do with interrupts (`adaptive-rx`, ethtool(8)).

/// Time over which the shard is watched before it changes anything.
const WINDOW_US: u64 = 20_000;

/// The shortest wait there is. A busy pass alone takes about as long.
const WAIT_US_MIN: u64 = 1000;

/// See the module.
#[derive(Debug)]
pub(super) struct Coalescing {
    wait_us_max: u64,
    /// How long output may wait, counted from when output was let go before.
    wait_us: u64,
    settled_us: u64,
    /// Since when there has been nothing to do.
    idle_since_us: Option<u64>,
    window: Window,
}

/// What is known of the time since `began_us`.
#[derive(Debug, Default)]
struct Window {
    began_us: u64,
    idle_us: u64,
    /// As it began.
    sent: Sent,
}

/// Of all time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) deliveries: u64,
    pub(super) sends: u64,
}

impl Coalescing {
    pub(super) fn new(wait_us_max: u64, now_us: u64) -> Self {
        Self {
            wait_us_max,
            wait_us: 0,
            settled_us: 0,
            idle_since_us: None,
            window: Window {
                began_us: now_us,
                ..Window::default()
            },
        }
    }

    /// A pass begins.
    pub(super) fn begin(&mut self, now_us: u64, sent: Sent) {
        if let Some(since_us) = self.idle_since_us.take() {
            self.window.idle_us += now_us - since_us;
        }
        let window_us = now_us - self.window.began_us;
        if window_us < WINDOW_US {
            return;
        }
        let deliveries = sent.deliveries - self.window.sent.deliveries;
        let sends = sent.sends - self.window.sent.sends;
        let idle_percent = self.window.idle_us * 100 / window_us;
        self.wait_us = match idle_percent {
            // Where hardly two messages wait for anybody, there would be nothing to gather.
            0..10 if sends > 0 && deliveries >= 2 * sends => self.wait_us.max(WAIT_US_MIN / 2) * 2,
            // As much less as cannot bring the shard out of breath again.
            0..10 | 40.. => self.wait_us * 4 / 5,
            _ => self.wait_us,
        };
        self.wait_us = match self.wait_us {
            ..WAIT_US_MIN => 0,
            wait_us => wait_us.min(self.wait_us_max),
        };
        self.window = Window {
            began_us: now_us,
            idle_us: 0,
            sent,
        };
    }

    /// Until when output is to wait; `None` where it may leave now.
    pub(super) fn held_until_us(&self, now_us: u64) -> Option<u64> {
        let until_us = self.settled_us + self.wait_us;
        (now_us < until_us).then_some(until_us)
    }

    /// All output has been let go.
    pub(super) fn settled(&mut self, now_us: u64) {
        self.settled_us = now_us;
    }

    /// A pass that found nothing to do began at this time.
    pub(super) fn idle(&mut self, now_us: u64) {
        self.idle_since_us = Some(now_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT_US_MAX: u64 = 20_000;

    /// A machine whose passes take a time for each connection that is sent something, however many messages that is.
    struct Machine {
        coalescing: Coalescing,
        now_us: u64,
        sent: Sent,
    }

    impl Machine {
        fn new() -> Self {
            Self {
                coalescing: Coalescing::new(WAIT_US_MAX, 5),
                now_us: 5,
                sent: Sent::default(),
            }
        }

        /// For a second, each of 1000 connections is sent `rate` messages a second. Answers the wait in the end, and the share of time that was idle then.
        fn run(&mut self, rate: u64, send_us: u64) -> (u64, u64) {
            let end_us = self.now_us + 1_000_000;
            let (mut settled_us, mut idle_us) = (self.now_us, 0);
            while self.now_us < end_us {
                self.coalescing.begin(self.now_us, self.sent);
                let waiting = (self.now_us - settled_us) * rate / 1_000_000;
                if self.coalescing.held_until_us(self.now_us).is_none() && waiting > 0 {
                    self.sent.deliveries += 1000 * waiting;
                    self.sent.sends += 1000;
                    self.coalescing.settled(self.now_us);
                    settled_us = self.now_us;
                    self.now_us += 1000 * send_us;
                } else {
                    self.coalescing.idle(self.now_us);
                    self.now_us += 200;
                    idle_us += if self.now_us > end_us - 500_000 {
                        200
                    } else {
                        0
                    };
                }
            }
            (self.coalescing.wait_us, idle_us * 100 / 500_000)
        }
    }

    #[test]
    fn a_shard_with_time_to_spare_lets_nothing_wait() {
        let mut machine = Machine::new();
        assert_eq!(machine.run(100, 5).0, 0);
    }

    #[test]
    fn a_shard_without_comes_to_rest_and_back() {
        let mut machine = Machine::new();
        let (wait_us, idle_percent) = machine.run(2000, 5);
        assert!((5000..=WAIT_US_MAX).contains(&wait_us), "{wait_us}");
        assert!((5..60).contains(&idle_percent), "{idle_percent} %");
        assert_eq!(machine.run(50, 5).0, 0, "as the load is over");
    }

    #[test]
    fn the_wait_has_a_bound() {
        let mut machine = Machine::new();
        assert_eq!(machine.run(2000, 50).0, WAIT_US_MAX);
        let mut off = Machine::new();
        off.coalescing = Coalescing::new(0, 5);
        assert_eq!(off.run(2000, 50).0, 0);
    }

    #[test]
    fn where_nothing_would_be_gathered_nothing_waits() {
        let mut machine = Machine::new();
        // One message for each send, and no rest.
        for _ in 0..1000 {
            machine.sent.deliveries += 100;
            machine.sent.sends += 100;
            machine.now_us += 1000;
            machine.coalescing.begin(machine.now_us, machine.sent);
            machine.coalescing.settled(machine.now_us);
        }
        assert_eq!(machine.coalescing.wait_us, 0);
    }
}
