//! Small payloads that leave in one send, copied together once for all whom the same payloads wait for.
//!
//! Consumers are settled in the order in which they were first sent something, so the members of a room come one after the other, and the same messages wait
//! for most of them. Whoever follows shares the copy: it costs a comparison of addresses, and the kernel reads it from the processor's cache.

use bytes::Bytes;

/// What was gathered last.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    /// Kept, so that no other payload can take one's address.
    parts: Vec<Bytes>,
    whole: Bytes,
}

/// Parts for which room is kept between passes.
const SPARE_PARTS_MAX: usize = 1024;

impl Gathering {
    /// The payloads one after the other.
    pub(crate) fn gather<'a>(&mut self, parts: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
        if !self.is_of(parts.clone()) {
            self.parts.clear();
            self.parts.extend(parts.cloned());
            self.whole = Bytes::from(self.parts.concat());
        }
        self.whole.clone()
    }

    fn is_of<'a>(&self, parts: impl Iterator<Item = &'a Bytes>) -> bool {
        let place = |part: &Bytes| (part.as_ptr(), part.len());
        self.parts.iter().map(place).eq(parts.map(place))
    }

    /// Lets the payloads go.
    pub(crate) fn clear(&mut self) {
        self.parts.clear();
        self.parts.shrink_to(SPARE_PARTS_MAX);
        self.whole = Bytes::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_payloads_are_copied_once() {
        let (a, b, c) = (
            Bytes::from(vec![b'a'; 3]),
            Bytes::from(vec![b'b'; 2]),
            Bytes::from(vec![b'c'; 2]),
        );
        let mut gathering = Gathering::default();
        let mut gather = |parts: &[Bytes]| gathering.gather(parts.iter());
        let first = gather(&[a.clone(), b.clone()]);
        assert_eq!(first, "aaabb");
        let again = gather(&[a.clone(), b.clone()]);
        assert_eq!(again.as_ptr(), first.as_ptr());
        for (parts, whole) in [
            (vec![a.clone()], "aaa"),
            (vec![a.clone(), b.clone(), c.clone()], "aaabbcc"),
            (vec![b.clone(), a.clone()], "bbaaa"),
            (vec![a.clone(), c], "aaacc"),
            (vec![a.slice(1..), b.clone()], "aabb"),
            (vec![a.slice(..2), b], "aabb"),
            (vec![], ""),
        ] {
            assert_eq!(gather(&parts), whole);
        }
    }

    #[test]
    fn payloads_are_let_go() {
        let payload = Bytes::from(vec![1; 10]);
        let mut gathering = Gathering::default();
        drop(gathering.gather([payload.clone(), payload.clone()].iter()));
        assert!(!payload.is_unique());
        gathering.clear();
        assert!(payload.is_unique());
    }
}
