//! Random numbers that follow from a seed.

/// The xoshiro256** generator of Blackman and Vigna (2018), its state filled from the seed by SplitMix64.
///
/// Written here rather than taken from a crate, so that a seed gives the same run for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of a seed. Seeds that differ in one bit give unrelated numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut filling = crate::random::Random::new(seed);
        Self {
            state: std::array::from_fn(|_| filling.next()),
        }
    }

    /// A generator whose numbers are unrelated to those that this one still gives.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number from 0 to `bound - 1`.
    ///
    /// # Panics
    /// `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        // The high half of the product (Lemire 2019). Its bias, below bound / 2^64, is of no matter here.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// An index into something of `length` entries.
    ///
    /// # Panics
    /// `length` is 0.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// A number from `least` to `most`, both included.
    ///
    /// # Panics
    /// `least` is above `most`.
    pub fn between(&mut self, least: usize, most: usize) -> usize {
        assert!(least <= most, "no number from {least} to {most}");
        least + self.index(most - least + 1)
    }

    /// A number from `least` to `most`, both included, where each power of two is about as likely as the next.
    /// Sizes are drawn so: small ones must be as frequent as large ones to find what depends on them.
    ///
    /// # Panics
    /// `least` is 0 or above `most`.
    pub fn magnitude_between(&mut self, least: usize, most: usize) -> usize {
        assert!(
            0 < least && least <= most,
            "no magnitude from {least} to {most}"
        );
        let exponent = self.between(least.ilog2() as usize, most.ilog2() as usize);
        let low = 1_usize << exponent;
        self.between(low.max(least), (low - 1 + low).min(most))
    }

    /// True in `per_mille` of 1000 cases.
    pub fn chance(&mut self, per_mille: u16) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// True in half of all cases.
    pub fn coin(&mut self) -> bool {
        self.chance(500)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_both_ends() {
        let mut random = Random::new(7);
        let mut seen = [0_u32; 5];
        for _ in 0..10_000 {
            seen[random.index(5)] += 1;
            assert!((3..=3).contains(&random.between(3, 3)));
            assert!((5..=1000).contains(&random.magnitude_between(5, 1000)));
        }
        assert!(
            seen.iter().all(|&count| (1800..2200).contains(&count)),
            "{seen:?}"
        );
        assert!((0..1000).all(|_| !random.chance(0) && random.chance(1000)));
    }

    #[test]
    fn a_seed_gives_the_same_numbers_and_a_fork_gives_others() {
        let (mut one, mut other) = (Random::new(1), Random::new(1));
        let mut fork = other.fork();
        assert_ne!(fork.next_u64(), other.next_u64());
        one.next_u64();
        one.next_u64();
        assert_eq!(one.next_u64(), other.next_u64());
        assert_ne!(Random::new(1).next_u64(), Random::new(2).next_u64());
    }
}
