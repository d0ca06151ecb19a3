//! How many bytes a second each connection may send: a token bucket for each of them (capacity `bytes_burst_max`, filled at `bytes_per_second_max`).
//!
//! They stand in a table beside the connections, so that they cost nothing where there is no bound.

use std::collections::HashMap;

use crate::connection::TooFast;
use crate::driver::Slot;
use crate::limits::Limits;

/// The buckets of a shard's connections. One that has sent nothing has none, which is as good as a full one.
#[derive(Debug)]
pub(crate) struct ByteRates {
    /// Bytes a second, and so thousandths of a byte a millisecond; 0 where there is no bound.
    rate: i64,
    /// Thousandths of a byte that a bucket holds.
    full: i64,
    buckets: HashMap<Slot, Bucket>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a byte. Below zero after a step of decoding that took more than there was, which is at most what one receive takes.
    tokens: i64,
    filled_ms: u64,
    /// The peer was told, and has not paused since.
    is_told: bool,
}

/// Thousandths.
const BYTE: i64 = 1000;

/// How long a connection rests at least, so that bytes are taken in groups.
const PAUSE_MS: i64 = 10;

impl ByteRates {
    pub(crate) fn new(limits: &Limits) -> Self {
        // The rows of the table permit no more than 2⁴⁰, which fits a thousandfold.
        Self {
            rate: limits.bytes_per_second_max as i64,
            full: limits.bytes_burst_max as i64 * BYTE,
            buckets: HashMap::new(),
        }
    }

    /// Whether there is a bound at all.
    pub(crate) fn is_on(&self) -> bool {
        self.rate > 0
    }

    /// Bytes a second.
    pub(crate) fn rate(&self) -> i64 {
        self.rate
    }

    /// Whether the connection in this slot may be heard now, where there is a bound.
    ///
    /// # Errors
    /// It may not: for how long, and whether the peer is to be told.
    pub(crate) fn check(&mut self, slot: Slot, now_ms: u64) -> Result<(), TooFast> {
        let Some(bucket) = self.buckets.get_mut(&slot) else {
            return Ok(());
        };
        let passed_ms = i64::try_from(now_ms.saturating_sub(bucket.filled_ms)).unwrap_or(i64::MAX);
        let saved = passed_ms
            .saturating_mul(self.rate)
            .saturating_add(bucket.tokens);
        bucket.tokens = saved.min(self.full);
        bucket.filled_ms = now_ms;
        if bucket.tokens < BYTE {
            let wait_ms = (BYTE - bucket.tokens + self.rate - 1) / self.rate;
            // No longer than until the bucket is full: what comes in after that would be lost.
            let group_ms = PAUSE_MS.min(self.full / self.rate);
            return Err(TooFast {
                wait_ms: wait_ms.max(group_ms) as u64,
                tell: !std::mem::replace(&mut bucket.is_told, true),
            });
        }
        // More than what the pause for the rate alone gives: the peer has paused by itself.
        if saved >= (BYTE + self.rate * (PAUSE_MS + 1)).max(self.full / 2) {
            bucket.is_told = false;
        }
        Ok(())
    }

    /// The connection in this slot has sent so many bytes.
    pub(crate) fn spend(&mut self, slot: Slot, bytes: usize, now_ms: u64) {
        let bucket = self.buckets.entry(slot).or_insert(Bucket {
            tokens: self.full,
            filled_ms: now_ms,
            is_told: false,
        });
        bucket.tokens = bucket.tokens.saturating_sub(bytes as i64 * BYTE);
    }

    /// The connection in this slot is gone.
    pub(crate) fn close(&mut self, slot: Slot) {
        if !self.buckets.is_empty() {
            self.buckets.remove(&slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(rate: u64, burst: u64) -> ByteRates {
        ByteRates::new(&Limits {
            bytes_per_second_max: rate,
            bytes_burst_max: burst,
            ..Limits::default()
        })
    }

    #[test]
    fn whoever_sends_all_the_time_is_heard_at_the_rate_and_told_once() {
        for (rate, burst, step) in [
            (1000, 1, 1),
            (1000, 1000, 7),
            (1_000_000, 1000, 100),
            (1_000_000, 1_048_576, 65_536),
            (10_000, 5000, 65_536),
            (1 << 40, 1 << 40, 1 << 30),
        ] {
            let mut rates = rates(rate, burst);
            let (mut now_ms, mut taken, mut told) = (5, 0, 0);
            while now_ms < 100_005 {
                match rates.check(3, now_ms) {
                    Ok(()) => {
                        rates.spend(3, step, now_ms);
                        taken += step as u64;
                    }
                    Err(TooFast { wait_ms, tell }) => {
                        assert!(wait_ms > 0);
                        told += u32::from(tell);
                        now_ms += wait_ms;
                    }
                }
            }
            assert_eq!(told, 1, "{rate} {burst} {step}");
            let most = burst + 100 * rate + step as u64;
            assert!(
                (99 * rate..=most).contains(&taken),
                "{taken} at {rate}, {burst} at once, {step} a time"
            );
            rates.close(3);
            assert_eq!(rates.check(3, now_ms), Ok(()), "another connection");
        }
    }

    #[test]
    fn whoever_pauses_has_a_burst_again_and_is_told_again() {
        let mut rates = rates(1000, 500);
        for begin_ms in [0, 10_000] {
            assert_eq!(rates.check(1, begin_ms), Ok(()));
            rates.spend(1, 600, begin_ms);
            let too_fast = rates.check(1, begin_ms);
            let wait_ms = 101;
            assert_eq!(
                too_fast,
                Err(TooFast {
                    wait_ms,
                    tell: true
                })
            );
            assert_eq!(rates.check(1, begin_ms + wait_ms), Ok(()));
        }
    }
}
