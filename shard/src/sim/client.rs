//! The other end of a simulated connection.

use super::link::{SharedLink, Toward};
use super::network::SimNetwork;

/// A client's socket. Its calls take effect at once and never wait.
///
/// Dropping it closes the descriptor, as a client's process would at its end: FIN, or RST where bytes were
/// left unread.
#[derive(Debug)]
pub struct SimClient {
    network: SimNetwork,
    link: SharedLink,
}

impl SimClient {
    pub(super) fn new(network: SimNetwork, link: SharedLink) -> Self {
        Self { network, link }
    }

    /// Sends what there is room for and says how many bytes that was: 0 where the buffer is full, and where
    /// nothing can be sent any more.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let world = &mut *self.network.world_mut();
        self.link
            .borrow_mut()
            .client_write(bytes, &mut world.random, &world.faults)
    }

    /// The bytes that have arrived, at most `bytes_max`. A slow consumer asks for few or not at all.
    #[must_use]
    pub fn read(&self, bytes_max: usize) -> Vec<u8> {
        let bytes = self.link.borrow_mut().client_read(bytes_max);
        self.network.world_mut().trace.bytes(&bytes);
        bytes
    }

    /// Bytes that have arrived and were not read.
    #[must_use]
    pub fn readable(&self) -> usize {
        self.link.borrow().client_readable()
    }

    /// Sends FIN after everything written. What the shard sends can still be read.
    pub fn close(&self) {
        self.link.borrow_mut().client_finish();
    }

    /// Breaks the connection off with RST. Nothing more can be read.
    pub fn reset(&self) {
        let world = &mut *self.network.world_mut();
        self.link
            .borrow_mut()
            .client_reset(&mut world.random, &world.faults);
    }

    /// Has the connection break (RST) when so many more bytes have passed toward one end: that end still has the last of them, and
    /// nothing more.
    pub fn break_after(&self, toward: Toward, bytes: usize) {
        self.link.borrow_mut().break_after(toward, bytes);
    }

    /// Whether the shard has ended its stream (FIN) and all of it was read.
    #[must_use]
    pub fn is_end_of_stream(&self) -> bool {
        self.link.borrow().client_at_end_of_stream()
    }

    /// Whether the connection was refused or broke (RST), be it from this end, and everything before it was read.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.link.borrow().client_is_reset()
    }

    /// Whether nothing more can be read: [`SimClient::is_end_of_stream`] or [`SimClient::is_reset`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_end_of_stream() || self.is_reset()
    }

    pub(super) fn network(&self) -> &SimNetwork {
        &self.network
    }
}

impl Drop for SimClient {
    fn drop(&mut self) {
        let world = &mut *self.network.world_mut();
        self.link
            .borrow_mut()
            .client_close(&mut world.random, &world.faults);
    }
}
