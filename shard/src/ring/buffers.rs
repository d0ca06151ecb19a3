//! The receive buffers: one ring of them, shared with the kernel, from which every connection's
//! multishot receive takes what it needs. So an idle connection owns no buffer.
//!
//! Two anonymous mappings: the ring of descriptors (16 bytes a buffer) and the buffers. Pages of the
//! second are touched first by the kernel, when bytes arrive.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::ops::BUFFER_GROUP;
use crate::driver::BufferId;

/// Private anonymous memory, unmapped when dropped.
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    /// Stays mapped for ever instead.
    leaked: bool,
}

impl Mapping {
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory in use.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(base.cast())
            .map(|base| Self {
                base,
                bytes,
                leaked: false,
            })
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: the range is exactly what `mmap` returned, and this is its only owner. The kernel no
        // longer writes to it: see `BufferRing::register`.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert_eq!(result, 0, "a whole mapping can always be unmapped");
    }
}

/// The buffers and the ring that lends them.
///
/// The kernel reads descriptors and writes buffers only while this thread is inside `io_uring_enter`
/// (`DEFER_TASKRUN`, and no worker thread ever runs a multishot operation), and that call needs the driver
/// exclusively. So no reference handed out here lives while the kernel writes.
pub(super) struct BufferRing {
    descriptors: Mapping,
    memory: Mapping,
    buffer_bytes: usize,
    /// Descriptors written so far, modulo 2^16; the kernel takes buffers up to it.
    tail: u16,
    /// Which buffers the caller holds: one returned twice would receive two connections' bytes at once.
    lent: Vec<bool>,
}

impl BufferRing {
    /// Maps `count` buffers of `buffer_bytes` each; `count` is a power of two up to 32,768.
    ///
    /// # Errors
    /// There is no room for that many bytes.
    pub(super) fn new(count: u16, buffer_bytes: usize) -> io::Result<Self> {
        let bytes = usize::from(count)
            .checked_mul(buffer_bytes)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        let descriptors = Mapping::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::new(bytes)?;
        Ok(Self {
            descriptors,
            memory,
            buffer_bytes,
            tail: 0,
            lent: vec![true; usize::from(count)],
        })
    }

    /// Makes the ring known to the kernel and gives it every buffer.
    ///
    /// # Errors
    /// The kernel's answer to the registration.
    ///
    /// # Safety
    /// From now on a receive on this ring writes here. The buffers are not dropped (or are leaked first) until every receive that
    /// was submitted has reported its end.
    pub(super) unsafe fn register(&mut self, ring: &IoUring) -> io::Result<()> {
        let descriptors = self.descriptors.base.as_ptr() as u64;
        let submitter = ring.submitter();
        // SAFETY: the mapping is page aligned and holds one descriptor a buffer. The kernel keeps its pages for itself; that the
        // buffers stay, the caller promises.
        unsafe {
            submitter.register_buf_ring_with_flags(descriptors, self.count(), BUFFER_GROUP, 0)?;
        }
        for buffer in 0..self.count() {
            self.release(buffer);
        }
        Ok(())
    }

    /// Where the buffers lie.
    #[cfg(test)]
    pub(super) fn address(&self) -> usize {
        self.memory.base.as_ptr() as usize
    }

    /// Keeps the buffers mapped for ever.
    pub(super) const fn leak(&mut self) {
        self.memory.leaked = true;
    }

    fn count(&self) -> u16 {
        // `new` made it from a `u16`.
        self.lent.len() as u16
    }

    /// Notes that the kernel filled a buffer. `false` for a number that is not ours to take.
    pub(super) fn lend(&mut self, buffer: BufferId) -> bool {
        match self.lent.get_mut(usize::from(buffer)) {
            Some(lent) => !std::mem::replace(lent, true),
            None => false,
        }
    }

    /// The first `length` bytes of a buffer.
    ///
    /// # Panics
    /// The caller does not hold the buffer, or it is shorter.
    pub(super) fn bytes(&mut self, buffer: BufferId, length: usize) -> &mut [u8] {
        assert!(
            self.lent.get(usize::from(buffer)) == Some(&true) && length <= self.buffer_bytes,
            "a buffer is read between `Received` and its release"
        );
        let offset = usize::from(buffer) * self.buffer_bytes;
        // SAFETY: number and length were checked, so the range lies in the mapping, whose bytes are
        // initialised (zero, or what was received). The borrow of `self` keeps others away, the kernel included.
        unsafe { std::slice::from_raw_parts_mut(self.memory.base.as_ptr().add(offset), length) }
    }

    /// Gives a buffer back to the kernel. Does nothing for one that is not lent.
    pub(super) fn release(&mut self, buffer: BufferId) {
        let count = self.count();
        let Some(lent) = self.lent.get_mut(usize::from(buffer)) else {
            debug_assert!(false, "no buffer has the number {buffer}");
            return;
        };
        debug_assert!(*lent, "buffer {buffer} is released once");
        if !std::mem::replace(lent, false) {
            return;
        }
        let offset = usize::from(buffer) * self.buffer_bytes;
        // SAFETY: the number was checked, so the address lies in the mapping.
        let address = unsafe { self.memory.base.as_ptr().add(offset) };
        let descriptors = self.descriptors.base.as_ptr().cast::<BufRingEntry>();
        let index = usize::from(self.tail & (count - 1));
        // SAFETY: the index is below the count of descriptors, the mapping is page aligned and zeroed at first, and
        // the kernel, which only reads here, does so inside `io_uring_enter`, not while this reference lives.
        let descriptor = unsafe { &mut *descriptors.add(index) };
        descriptor.set_addr(address as u64);
        // At most 1 MiB, by the table of limits.
        descriptor.set_len(self.buffer_bytes as u32);
        descriptor.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the pointer is to the first descriptor of a ring, whose unused field is the tail.
        let tail = unsafe { BufRingEntry::tail(descriptors) }.cast::<AtomicU16>();
        // SAFETY: the tail is aligned to 2 and lives as long as the mapping; the kernel reaches it atomically, too.
        // Release: the kernel sees the descriptor once it sees the tail.
        unsafe { (*tail).store(self.tail, Ordering::Release) };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_counts_what_was_given_and_wraps() {
        let mut ring = BufferRing::new(8, 512).unwrap();
        for buffer in 0..8 {
            ring.release(buffer);
        }
        assert_eq!(ring.tail, 8);
        // Miri is slow: it starts where the other has come by then.
        let rounds = if cfg!(miri) {
            ring.tail = 65_000;
            1000_u32
        } else {
            70_000
        };
        let before = u32::from(ring.tail);
        for _ in 0..rounds {
            assert!(ring.lend(3));
            ring.release(3);
        }
        assert_eq!(ring.tail, ((before + rounds) % 65_536) as u16);
    }

    #[test]
    fn more_bytes_than_can_be_counted_are_refused() {
        assert!(BufferRing::new(8, usize::MAX / 4).is_err());
    }

    #[test]
    fn a_buffer_is_lent_once() {
        let mut ring = BufferRing::new(8, 512).unwrap();
        (0..8).for_each(|buffer| ring.release(buffer));
        assert!(ring.lend(5));
        assert!(!ring.lend(5), "twice");
        assert!(!ring.lend(8), "no such buffer");
    }

    #[test]
    fn buffers_do_not_overlap() {
        let mut ring = BufferRing::new(8, 512).unwrap();
        for buffer in 0..8 {
            ring.bytes(buffer, 512).fill(buffer as u8 + 1);
        }
        for buffer in 0..8 {
            assert!(
                ring.bytes(buffer, 512)
                    .iter()
                    .all(|byte| *byte == buffer as u8 + 1)
            );
        }
    }

    #[test]
    #[should_panic(expected = "between `Received` and its release")]
    fn a_buffer_of_the_kernel_is_not_read() {
        let mut ring = BufferRing::new(8, 512).unwrap();
        ring.release(0);
        ring.bytes(0, 1);
    }

    #[test]
    #[should_panic(expected = "between `Received` and its release")]
    fn a_buffer_is_not_read_past_its_end() {
        BufferRing::new(8, 512).unwrap().bytes(0, 513);
    }
}
