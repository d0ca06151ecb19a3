//! When which publisher sends: an open loop. The times are fixed ahead, whatever the server does.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The times at which publishers are to send, the earliest first.
#[derive(Debug, Default)]
pub struct Schedule {
    due: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Schedule {
    /// Forgets all times.
    pub fn clear(&mut self) {
        self.due.clear();
    }

    /// Adds a time, in nanoseconds of the harness's clock, for a publisher.
    pub fn add(&mut self, due_ns: u64, publisher: u32) {
        self.due.push(Reverse((due_ns, publisher)));
    }

    /// The earliest time; `None` when nothing is planned.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    /// Takes the earliest time and its publisher if it is due.
    pub fn take(&mut self, now_ns: u64) -> Option<(u64, u32)> {
        if self.next_ns()? > now_ns {
            return None;
        }
        self.due.pop().map(|Reverse(entry)| entry)
    }
}

/// The first time of the publisher with this rank among those that send at the same rate: multiples of the golden ratio
/// keep any number of successive ranks evenly apart in one interval (Knuth, TAOCP 3, 6.4, theorem S). Ranks must have
/// no gaps: with steps of a Fibonacci number between them all would send at once.
#[must_use]
pub fn phase_ns(rank: u64, interval_ns: u64) -> u64 {
    let hash = rank.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((u128::from(hash) * u128::from(interval_ns)) >> 64) as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_order_and_not_before_they_are_due() {
        let mut schedule = Schedule::default();
        for (due, publisher) in [(30, 1), (10, 2), (20, 3)] {
            schedule.add(due, publisher);
        }
        assert_eq!(schedule.take(9), None);
        assert_eq!(schedule.take(25), Some((10, 2)));
        assert_eq!(schedule.take(25), Some((20, 3)));
        assert_eq!(schedule.take(25), None);
        assert_eq!(schedule.next_ns(), Some(30));
    }

    #[test]
    fn a_few_publishers_keep_away_from_each_other() {
        for count in [2, 10, 13, 89, 100] {
            let mut phases: Vec<u64> = (0..count).map(|rank| phase_ns(rank, 1_000_000)).collect();
            phases.sort_unstable();
            let nearest = phases.windows(2).map(|pair| pair[1] - pair[0]).min();
            assert!(
                nearest.is_some_and(|nearest| nearest > 1_000_000 / count / 3),
                "{count} publishers: {nearest:?} ns"
            );
        }
    }

    #[test]
    fn phases_fill_the_interval_evenly() {
        let mut tenths = [0_u32; 10];
        for index in 0..10_000 {
            let phase = phase_ns(index, 1000);
            assert!(phase < 1000);
            tenths[phase as usize / 100] += 1;
        }
        assert!(
            tenths.iter().all(|count| (950..=1050).contains(count)),
            "{tenths:?}"
        );
    }
}
