//! When a request that failed is sent again.

use std::time::Duration;

use shardcast_shard::random::Random;

/// The pause after the first failure; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The attempts to send one request. Knows no clock: times count from the first attempt.
#[derive(Debug)]
pub(super) struct Attempts {
    /// How long it may be tried.
    time_max: Duration,
    failures: u32,
}

impl Attempts {
    pub(super) fn new(time_max: Duration) -> Self {
        Self {
            time_max,
            failures: 0,
        }
    }

    /// An attempt has failed, so long after the first began. Answers how long to wait before the next; `None` where the request is given up.
    ///
    /// The pause is drawn from the upper half of what it may be, so that servers which failed together do not come back together.
    pub(super) fn failed(&mut self, passed: Duration, random: &mut Random) -> Option<Duration> {
        let most = PAUSE_MAX.min(PAUSE * (1 << self.failures.min(10)));
        self.failures = self.failures.saturating_add(1);
        let half_ms = most.as_millis() as u64 / 2;
        let pause = Duration::from_millis(half_ms + random.below(half_ms + 1));
        (passed + pause < self.time_max).then_some(pause)
    }

    /// How often it has failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let time_max = Duration::from_secs(600);
            let mut attempts = Attempts::new(time_max);
            let (mut passed, mut most) = (Duration::ZERO, PAUSE);
            while let Some(pause) = attempts.failed(passed, &mut random) {
                assert!(pause >= most / 2 && pause <= most, "{pause:?} of {most:?}");
                most = PAUSE_MAX.min(most * 2);
                passed += pause;
                assert!(passed < time_max);
            }
            // About sixty long pauses and a few short ones.
            assert!((60..140).contains(&attempts.failures()), "{attempts:?}");
            assert!(passed + PAUSE_MAX >= time_max);
        }
    }

    #[test]
    fn where_there_is_no_time_there_is_one_attempt() {
        let mut attempts = Attempts::new(Duration::ZERO);
        assert_eq!(attempts.failed(Duration::ZERO, &mut Random::new(1)), None);
    }
}
