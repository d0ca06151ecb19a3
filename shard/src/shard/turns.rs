//! Whose turn it is: connections with bytes left to decode, those that send little before those that send much.

use std::collections::VecDeque;

use crate::driver::ConnectionKey;

/// Two lines of connections. Each connection stands in one of them once, at the most.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Those that send no more than they may for long.
    light: VecDeque<ConnectionKey>,
    /// Those that are behind what they may send. They wait until nobody stands in the other line, which cannot last: whoever keeps standing
    /// there comes here.
    heavy: VecDeque<ConnectionKey>,
}

impl Turns {
    /// Puts a connection at the end of its line.
    pub(super) fn push(&mut self, key: ConnectionKey, is_heavy: bool) {
        if is_heavy {
            self.heavy.push_back(key);
        } else {
            self.light.push_back(key);
        }
    }

    /// Who is next.
    pub(super) fn pop(&mut self) -> Option<ConnectionKey> {
        self.light.pop_front().or_else(|| self.heavy.pop_front())
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.light.len() + self.heavy.len()
    }

    /// Nobody waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
