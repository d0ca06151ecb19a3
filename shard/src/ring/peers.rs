//! How shards are reached from outside their thread: one table for the whole process, made before
//! the first shard starts and kept while shards come and go.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::driver::ShardId;

/// One shard's row.
struct Peer {
    /// Signalled by whoever wakes the shard without a ring; the shard's ring polls it.
    /// It outlives the ring, so a wake during a restart ends nowhere bad and is seen by the successor.
    eventfd: Arc<File>,
    /// A descriptor number that names the shard's ring while it runs, and the eventfd while it does not.
    ///
    /// Messages are sent to this number, not to the ring's own: that one is closed with the ring and
    /// might by then name another ring of the process, which would receive a completion it never asked
    /// for. This number changes its meaning in one step (`dup3`) and is never free.
    door: OwnedFd,
    up: AtomicBool,
}

/// The table of shards. See the module's documentation.
pub struct Peers {
    peers: Box<[Peer]>,
}

impl Peers {
    /// A table for `shards` shards, none of which runs yet. Takes two descriptors a shard.
    ///
    /// # Errors
    /// The process has no descriptors left (EMFILE, ENFILE).
    pub fn new(shards: ShardId) -> io::Result<Self> {
        let peers = (0..shards)
            .map(|_| {
                // Not blocking: whoever signals it must not wait, however full its counter is.
                // SAFETY: the call takes no memory.
                let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
                if raw < 0 {
                    return Err(io::Error::last_os_error());
                }
                // SAFETY: the descriptor is new, valid and owned by nobody else.
                let eventfd = unsafe { OwnedFd::from_raw_fd(raw) };
                Ok(Peer {
                    door: eventfd.try_clone()?,
                    eventfd: Arc::new(File::from(eventfd)),
                    up: AtomicBool::new(false),
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { peers })
    }

    /// How many shards the table has room for.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.peers.len()
    }

    /// Whether a ring runs for this shard at the moment.
    #[must_use]
    pub fn is_up(&self, shard: ShardId) -> bool {
        self.peer(shard)
            .is_some_and(|peer| peer.up.load(Ordering::Acquire))
    }

    /// Wakes a shard from any thread by signalling its eventfd; its ring reports a [`Woken`](crate::driver::Completion::Woken).
    /// A shard that is down finds the signal when it starts. `false` if there is no such shard.
    pub fn wake_from_thread(&self, shard: ShardId) -> bool {
        // A write fails only when the counter is at its end (2^64 - 2), and then the shard is awake.
        self.peer(shard).is_some_and(|peer| {
            peer.eventfd
                .as_ref()
                .write_all(&1_u64.to_ne_bytes())
                .is_ok()
        })
    }

    /// The shard's eventfd.
    pub(super) fn eventfd_shared(&self, shard: ShardId) -> Option<Arc<File>> {
        self.peer(shard).map(|peer| Arc::clone(&peer.eventfd))
    }

    fn peer(&self, shard: ShardId) -> Option<&Peer> {
        self.peers.get(usize::from(shard))
    }

    /// The descriptor to send messages to, while the shard runs.
    pub(super) fn door(&self, shard: ShardId) -> Option<RawFd> {
        self.peer(shard)
            .filter(|peer| peer.up.load(Ordering::Acquire))
            .map(|peer| peer.door.as_raw_fd())
    }

    /// Opens the shard's door to a new ring.
    ///
    /// # Errors
    /// EINVAL: no such shard. EBUSY: a ring runs for it already.
    pub(super) fn ring_up(&self, shard: ShardId, ring: RawFd) -> io::Result<()> {
        let peer = self
            .peer(shard)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        if peer.up.swap(true, Ordering::AcqRel) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        redirect(&peer.door, ring).inspect_err(|_| peer.up.store(false, Ordering::Release))
    }

    /// Shuts the shard's door: messages on their way fail instead of reaching a ring that ends.
    pub(super) fn ring_down(&self, shard: ShardId) {
        if let Some(peer) = self.peer(shard) {
            let result = redirect(&peer.door, peer.eventfd.as_raw_fd());
            debug_assert!(result.is_ok(), "both descriptors are open");
            peer.up.store(false, Ordering::Release);
        }
    }
}

/// Makes `door` name what `target` names, in one step.
fn redirect(door: &OwnedFd, target: RawFd) -> io::Result<()> {
    // SAFETY: the call takes no memory. `door` is owned by the table and keeps its number: what it names is replaced.
    let result = unsafe { libc::dup3(target, door.as_raw_fd(), libc::O_CLOEXEC) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn wakes_add_up_in_the_eventfd() {
        let peers = Peers::new(2).unwrap();
        assert!(peers.wake_from_thread(1));
        assert!(peers.wake_from_thread(1));
        assert!(!peers.wake_from_thread(2), "no such shard");
        let mut count = [0; 8];
        (&*peers.peers[1].eventfd).read_exact(&mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 2);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no rings")]
    fn one_ring_runs_for_a_shard_at_a_time() {
        let peers = Peers::new(1).unwrap();
        let ring = io_uring::IoUring::new(2).unwrap();
        assert_eq!(peers.door(0), None);
        peers.ring_up(0, ring.as_raw_fd()).unwrap();
        let door = peers.door(0).unwrap();
        assert_ne!(door, ring.as_raw_fd());
        let second = peers.ring_up(0, ring.as_raw_fd()).unwrap_err();
        assert_eq!(second.raw_os_error(), Some(libc::EBUSY));
        peers.ring_down(0);
        assert!(!peers.is_up(0));
        peers.ring_up(0, ring.as_raw_fd()).unwrap();
        assert_eq!(peers.door(0), Some(door), "the number stays");
        let unknown = peers.ring_up(1, ring.as_raw_fd()).unwrap_err();
        assert_eq!(unknown.raw_os_error(), Some(libc::EINVAL));
    }
}
