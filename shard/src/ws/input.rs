//! The bytes that a session has not looked at yet.

/// A cursor over received bytes. They are borrowed mutably because payloads are unmasked in place.
#[derive(Debug)]
pub struct Input<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Input<'a> {
    /// A cursor at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been taken yet.
    #[must_use]
    pub fn remaining(&self) -> &[u8] {
        self.bytes
    }

    /// How many bytes have not been taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether everything has been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the next `count` bytes, or all that are left where there are fewer.
    pub(super) fn take(&mut self, count: usize) -> &'a mut [u8] {
        let bytes = std::mem::take(&mut self.bytes);
        let (taken, rest) = bytes.split_at_mut(count.min(bytes.len()));
        self.bytes = rest;
        taken
    }
}
