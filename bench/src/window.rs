//! What one receiver has had of one stream: told apart with a sliding window, as in RFC 4303 section 3.4.3 (anti-replay).

/// How many numbers before the newest one are remembered singly.
const WINDOW_SIZE: u32 = 64;

/// How a message arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Newer than all before it.
    InOrder,
    /// For the first time, but after a newer one. So is one that is too old to be told from a repetition.
    OutOfOrder,
    /// Once more.
    Repeated,
}

/// What has arrived of one stream at one receiver. 16 bytes: there is one for each pair of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Bit `n` stands for the number `next - 1 - n`.
    seen: u64,
    /// One above the newest number that has arrived.
    next: u32,
}

impl Window {
    /// Takes note of a message.
    pub const fn arrived(&mut self, number: u32) -> Arrival {
        if number >= self.next {
            let shift = number - self.next + 1;
            self.seen = match self.seen.checked_shl(shift) {
                Some(seen) => seen | 1,
                None => 1,
            };
            self.next = number.saturating_add(1);
            return Arrival::InOrder;
        }
        let age = self.next - 1 - number;
        if age >= WINDOW_SIZE {
            return Arrival::OutOfOrder;
        }
        if self.seen & 1 << age != 0 {
            return Arrival::Repeated;
        }
        self.seen |= 1 << age;
        Arrival::OutOfOrder
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        /// The oracle remembers every number.
        #[test]
        fn arrivals_equal_those_of_a_full_memory(numbers in prop::collection::vec(0_u32..200, 0..300)) {
            let mut window = Window::default();
            let mut seen = HashSet::new();
            let mut newest: Option<u32> = None;
            for number in numbers {
                let first = seen.insert(number);
                let wanted = if newest.is_none_or(|newest| number > newest) {
                    newest = Some(number);
                    Arrival::InOrder
                } else if newest.unwrap() - number >= WINDOW_SIZE || first {
                    Arrival::OutOfOrder
                } else {
                    Arrival::Repeated
                };
                prop_assert_eq!(window.arrived(number), wanted);
            }
        }
    }

    #[test]
    fn a_long_gap_forgets_what_was_before_it() {
        let mut window = Window::default();
        assert_eq!(window.arrived(0), Arrival::InOrder);
        assert_eq!(window.arrived(1_000_000), Arrival::InOrder);
        assert_eq!(window.arrived(1_000_000), Arrival::Repeated);
        assert_eq!(window.arrived(999_999), Arrival::OutOfOrder);
        assert_eq!(window.arrived(u32::MAX), Arrival::InOrder);
    }
}
