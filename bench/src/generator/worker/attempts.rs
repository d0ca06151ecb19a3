//! Attempts under way: how many there are, and which of them have taken too long.

use std::collections::VecDeque;

use shardcast_shard::driver::ConnectionKey;

use super::super::client::{Client, Phase};

/// The attempts of one thread, both to become a member and to leave in good order.
#[derive(Debug)]
pub(super) struct Attempts {
    in_flight: u32,
    in_flight_max: u32,
    duration_ns_max: u64,
    /// When each began, the oldest first. Those that have ended are dropped as they come to the front.
    begun: VecDeque<(u64, ConnectionKey)>,
}

impl Attempts {
    pub(super) const fn new(in_flight_max: u32, duration_ns_max: u64) -> Self {
        Self {
            in_flight: 0,
            in_flight_max,
            duration_ns_max,
            begun: VecDeque::new(),
        }
    }

    /// No more connects may begin until an attempt has ended.
    pub(super) const fn are_many(&self) -> bool {
        self.in_flight >= self.in_flight_max
    }

    /// The client attempts this phase from now on. Answered by exactly one [`Attempts::end`].
    pub(super) fn begin(&mut self, client: &mut Client, index: u32, phase: Phase, now_ns: u64) {
        debug_assert!(phase.is_attempt() && !client.phase.is_attempt());
        client.phase = phase;
        client.began_ns = now_ns;
        self.in_flight += 1;
        self.begun.push_back((now_ns, client.key(index)));
    }

    /// An attempt has led to something or has failed.
    pub(super) fn end(&mut self) {
        debug_assert!(self.in_flight > 0, "an attempt ends once");
        self.in_flight -= 1;
    }

    /// The number of a client whose attempt has taken too long; the caller ends it.
    pub(super) fn overdue(&mut self, clients: &[Client], now_ns: u64) -> Option<u32> {
        while let Some((began_ns, key)) = self.begun.front().copied() {
            let client = clients.get(key.slot as usize);
            // The same use of a slot attempts twice when it leaves: the later attempt has an entry of its own.
            let goes_on = client.is_some_and(|client| {
                client.key(key.slot) == key
                    && client.phase.is_attempt()
                    && client.began_ns == began_ns
            });
            if goes_on && began_ns + self.duration_ns_max > now_ns {
                return None;
            }
            self.begun.pop_front();
            if goes_on {
                return Some(key.slot);
            }
        }
        if self.begun.is_empty() {
            // A ramp leaves room for all that were ever under way at once.
            self.begun.shrink_to(self.in_flight_max as usize);
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    const TOO_LONG_NS: u64 = 100;

    fn two() -> (Attempts, [Client; 2]) {
        (
            Attempts::new(2, TOO_LONG_NS),
            [Client::new(0, 0), Client::new(0, 1)],
        )
    }

    #[test]
    fn an_attempt_is_overdue_once_and_not_before_its_time() {
        let (mut attempts, mut clients) = two();
        attempts.begin(&mut clients[0], 0, Phase::Connecting, 10);
        assert_eq!(attempts.overdue(&clients, 109), None);
        assert_eq!(attempts.overdue(&clients, 110), Some(0));
        assert_eq!(attempts.overdue(&clients, 110), None);
    }

    #[test]
    fn an_old_attempt_does_not_cut_the_next_one_of_its_connection_short() {
        let (mut attempts, mut clients) = two();
        attempts.begin(&mut clients[0], 0, Phase::Connecting, 10);
        attempts.begin(&mut clients[1], 1, Phase::Connecting, 10);
        // The second one joins, and its entry stays behind that of the first.
        clients[1].phase = Phase::Ready;
        attempts.end();
        attempts.begin(&mut clients[1], 1, Phase::Leaving, 90);
        assert_eq!(attempts.overdue(&clients, 110), Some(0));
        clients[0].phase = Phase::Ending;
        attempts.end();
        assert_eq!(attempts.overdue(&clients, 189), None, "leaves since 90");
        assert_eq!(attempts.overdue(&clients, 190), Some(1));
    }

    #[test]
    fn the_next_use_of_a_slot_is_another_attempt() {
        let (mut attempts, mut clients) = two();
        attempts.begin(&mut clients[0], 0, Phase::Connecting, 10);
        attempts.end();
        clients[0].phase = Phase::Free;
        clients[0].generation = clients[0].key(0).next().generation;
        attempts.begin(&mut clients[0], 0, Phase::Connecting, 10);
        assert_eq!(attempts.overdue(&clients, 110), Some(0));
        assert_eq!(attempts.overdue(&clients, 110), None);
    }

    #[test]
    fn the_bound_counts_attempts_that_have_not_ended() {
        let (mut attempts, mut clients) = two();
        attempts.begin(&mut clients[0], 0, Phase::Connecting, 1);
        assert!(!attempts.are_many());
        attempts.begin(&mut clients[1], 1, Phase::Connecting, 2);
        assert!(attempts.are_many());
        attempts.end();
        assert!(!attempts.are_many());
    }
}
