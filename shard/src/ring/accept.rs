//! Accepting: a handful of one-shot operations where a pass is to accept a few at most or the peer's address is wanted, which is the
//! default; otherwise one multishot operation, unless the kernel refuses it.

use std::cell::UnsafeCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use super::ops::{self, Operation, Tag};
use super::queue::Queue;
use crate::driver::Completion;

/// One-shot accepts in flight. Each loop pass accepts up to so many connections.
const ONE_SHOT_COUNT: u32 = 16;

/// The index of the multishot accept, beyond those of the one-shot ones.
const MULTISHOT: u32 = ONE_SHOT_COUNT;

/// Errors that concern one connection that broke before it was accepted, or a passing state of the
/// network (accept(2) asks that they be treated as "try again"): accepting goes on. EOPNOTSUPP is not among them,
/// though that page lists it: it also means a listener that never listened, and trying again would spin.
const PASSING_ERRORS: [i32; 9] = [
    libc::ECONNABORTED,
    libc::EINTR,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::ENETDOWN,
    libc::EHOSTDOWN,
    libc::ENONET,
    libc::EHOSTUNREACH,
    libc::ENETUNREACH,
];

/// A descriptor that is never open. Where there is no listener the kernel itself answers EBADF, and accepting ends.
const NO_LISTENER: RawFd = -1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Multishot,
    OneShot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Accepting,
    /// Waits for what is in flight; `error` is then reported.
    Ending {
        error: Option<i32>,
    },
}

/// Where the kernel writes one peer's address.
#[derive(Clone, Copy)]
struct Address {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

/// The state of a shard's accepting.
pub(super) struct Acceptor {
    listener: Option<Arc<OwnedFd>>,
    mode: Mode,
    state: State,
    /// A bit for each index in flight.
    in_flight: u32,
    /// Multishot has worked on this kernel, so EINVAL means something else.
    multishot_proven: bool,
    /// Cells, as the kernel writes to them while an accept is in flight. Behind a pointer, as they must not move, and not in a `Box`:
    /// that would claim, each time it is moved, that nobody else has the address.
    addresses: Rc<[UnsafeCell<Address>]>,
}

impl Acceptor {
    pub(super) fn new(listener: Option<Arc<OwnedFd>>, with_addresses: bool) -> Self {
        // SAFETY: a socket address is made of integers, and all zeroes is one of the family AF_UNSPEC.
        let storage = unsafe { std::mem::zeroed::<libc::sockaddr_storage>() };
        let address = Address { storage, length: 0 };
        Self {
            listener,
            mode: if with_addresses {
                Mode::OneShot
            } else {
                Mode::Multishot
            },
            state: State::Idle,
            in_flight: 0,
            multishot_proven: false,
            addresses: (0..ONE_SHOT_COUNT)
                .map(|_| UnsafeCell::new(address))
                .collect(),
        }
    }

    /// Whether connections can be accepted at all.
    pub(super) const fn has_listener(&self) -> bool {
        self.listener.is_some()
    }

    /// Starts accepting. Does nothing before the last start's `AcceptEnded`.
    pub(super) fn start(&mut self, queue: &mut Queue) {
        if self.state == State::Idle {
            self.state = State::Accepting;
            self.arm_all(queue);
        }
    }

    /// Asks for accepting to end. Does nothing when it has ended or is about to.
    pub(super) fn stop(&mut self, queue: &mut Queue) {
        if self.state == State::Accepting {
            self.end(None, queue);
        }
    }

    /// Handles the completion of the accept with this index. `false` if none is in flight: it is stale.
    pub(super) fn completed(
        &mut self,
        index: u32,
        result: i32,
        more: bool,
        queue: &mut Queue,
        completions: &mut Vec<Completion>,
    ) -> bool {
        if index > MULTISHOT || self.in_flight & 1 << index == 0 {
            return false;
        }
        if !more {
            self.in_flight &= !(1 << index);
        }
        if result >= 0 {
            self.multishot_proven |= index == MULTISHOT;
            completions.push(Completion::Accepted {
                slot: result.unsigned_abs(),
                peer: self.peer(index),
            });
        } else if self.state == State::Accepting {
            self.failed(index, -result, queue);
        }
        match self.state {
            State::Accepting if !more && self.in_flight & 1 << index == 0 => {
                self.rearm(index, queue);
            }
            State::Ending { error } if self.in_flight == 0 => {
                self.state = State::Idle;
                completions.push(Completion::AcceptEnded { error });
            }
            _ => {}
        }
        true
    }

    /// The index was the multishot's and the mode has changed meanwhile: all one-shots are armed then.
    fn rearm(&mut self, index: u32, queue: &mut Queue) {
        if (index == MULTISHOT) == (self.mode == Mode::Multishot) {
            self.arm(index, queue);
        } else {
            self.arm_all(queue);
        }
    }

    fn failed(&mut self, index: u32, error: i32, queue: &mut Queue) {
        if index == MULTISHOT && error == libc::EINVAL && !self.multishot_proven {
            tracing::warn!("this kernel refuses multishot accept; accepting one by one instead");
            queue.counters.accept_downgrades += 1;
            self.mode = Mode::OneShot;
        } else if !PASSING_ERRORS.contains(&error) {
            self.end(Some(error), queue);
        }
    }

    fn end(&mut self, error: Option<i32>, queue: &mut Queue) {
        self.state = State::Ending { error };
        for index in (0..=MULTISHOT).filter(|index| self.in_flight & 1 << index != 0) {
            queue.push(ops::cancel(Tag::ring(Operation::Accept, index)));
        }
    }

    fn arm_all(&mut self, queue: &mut Queue) {
        match self.mode {
            Mode::Multishot => self.arm(MULTISHOT, queue),
            Mode::OneShot => (0..ONE_SHOT_COUNT).for_each(|index| self.arm(index, queue)),
        }
    }

    fn arm(&mut self, index: u32, queue: &mut Queue) {
        if self.in_flight & 1 << index != 0 {
            debug_assert!(false, "accept {index} is armed once");
            return;
        }
        self.in_flight |= 1 << index;
        let listener = self
            .listener
            .as_ref()
            .map_or(NO_LISTENER, AsRawFd::as_raw_fd);
        let Some(cell) = self.addresses.get(index as usize) else {
            queue.push(ops::accept_multishot(listener, index));
            return;
        };
        let cell = cell.get();
        // SAFETY: nothing was in flight for this index, so the cell is ours alone.
        let address = unsafe { &mut *cell };
        address.length = size_of_val(&address.storage) as libc::socklen_t;
        let (storage, length) = (&raw mut address.storage, &raw mut address.length);
        let entry = ops::accept_once(listener, index, storage.cast(), length);
        // SAFETY: nobody looks at the cell until the completion has cleared the bit of this index, and a driver leaks the cells
        // if that has not come by its end.
        unsafe { queue.push_pointing(entry) };
    }

    /// Whether the kernel may still write an address.
    pub(super) const fn addresses_in_flight(&self) -> bool {
        self.in_flight & !(1 << MULTISHOT) != 0
    }

    /// Never frees the addresses.
    pub(super) fn leak(&self) {
        std::mem::forget(Rc::clone(&self.addresses));
    }

    /// The address that a one-shot accept left, if it is of the Internet.
    fn peer(&self, index: u32) -> Option<IpAddr> {
        if self.in_flight & 1 << index != 0 {
            return None;
        }
        let address = self.addresses.get(index as usize)?.get();
        // SAFETY: no accept of this cell is in flight, so the kernel does not write to it.
        let storage = unsafe { &(*address).storage };
        match i32::from(storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the storage is aligned and large enough for each address, and each is made of integers.
                let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
                Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
                // A v4 peer of a listener on [::] counts as the same address as elsewhere.
                Some(Ipv6Addr::from(address.sin6_addr.s6_addr).to_canonical())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::ring::setup;

    fn acceptor(with_addresses: bool) -> (Acceptor, Queue) {
        let limits = Limits::default();
        let listener = setup::listen("127.0.0.1:0".parse().unwrap(), &limits).unwrap();
        let queue = Queue::new(setup::ring_create(&limits).unwrap());
        let listener = Some(Arc::new(listener));
        (Acceptor::new(listener, with_addresses), queue)
    }

    /// What the kernel does, at the address that it was told. For Miri, which knows whether that is still permitted.
    #[test]
    fn an_address_is_read_from_where_the_kernel_wrote_it() {
        let acceptor = Acceptor::new(None, true);
        let told = acceptor.addresses[3].get();
        let moved = Box::new(acceptor);
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: u32::from(Ipv4Addr::new(127, 0, 0, 9)).to_be(),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: the cell is alive, nobody looks at it meanwhile, and its storage is large enough.
        unsafe {
            (&raw mut (*told).storage)
                .cast::<libc::sockaddr_in>()
                .write(address)
        };
        assert_eq!(moved.peer(3), Some(Ipv4Addr::new(127, 0, 0, 9).into()));
        assert_eq!(moved.peer(4), None);
    }

    #[test]
    fn an_address_is_not_read_while_the_kernel_may_write_it() {
        let mut acceptor = Acceptor::new(None, true);
        acceptor.in_flight = 1 << 3;
        assert_eq!(acceptor.peer(3), None);
        assert!(acceptor.addresses_in_flight());
        acceptor.in_flight = 1 << MULTISHOT;
        assert!(!acceptor.addresses_in_flight(), "it writes none");
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no rings")]
    fn a_refused_multishot_becomes_one_shots() {
        let (mut acceptor, mut queue) = acceptor(false);
        let mut completions = Vec::new();
        acceptor.start(&mut queue);
        assert_eq!(acceptor.in_flight, 1 << MULTISHOT);
        assert!(acceptor.completed(
            MULTISHOT,
            -libc::EINVAL,
            false,
            &mut queue,
            &mut completions
        ));
        assert_eq!(acceptor.in_flight, (1 << ONE_SHOT_COUNT) - 1);
        assert_eq!(queue.counters.accept_downgrades, 1);
        assert_eq!(completions, []);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no rings")]
    fn einval_after_a_success_is_an_error() {
        let (mut acceptor, mut queue) = acceptor(false);
        let mut completions = Vec::new();
        acceptor.start(&mut queue);
        acceptor.completed(MULTISHOT, 3, true, &mut queue, &mut completions);
        acceptor.completed(
            MULTISHOT,
            -libc::EINVAL,
            false,
            &mut queue,
            &mut completions,
        );
        assert_eq!(
            completions,
            [
                Completion::Accepted {
                    slot: 3,
                    peer: None
                },
                Completion::AcceptEnded {
                    error: Some(libc::EINVAL)
                },
            ]
        );
        assert_eq!(acceptor.state, State::Idle);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no rings")]
    fn passing_errors_and_interrupted_multishots_go_on() {
        let (mut acceptor, mut queue) = acceptor(false);
        let mut completions = Vec::new();
        acceptor.start(&mut queue);
        for error in PASSING_ERRORS {
            acceptor.completed(MULTISHOT, -error, false, &mut queue, &mut completions);
            assert_eq!(acceptor.in_flight, 1 << MULTISHOT, "{error}");
        }
        acceptor.completed(MULTISHOT, 1, false, &mut queue, &mut completions);
        assert_eq!(acceptor.in_flight, 1 << MULTISHOT);
        assert_eq!(completions.len(), 1);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no rings")]
    fn the_end_comes_last_and_once() {
        let (mut acceptor, mut queue) = acceptor(true);
        let mut completions = Vec::new();
        acceptor.start(&mut queue);
        acceptor.completed(0, -libc::ENFILE, false, &mut queue, &mut completions);
        acceptor.stop(&mut queue);
        for index in 1..ONE_SHOT_COUNT {
            assert_eq!(completions.len(), usize::from(index > 8));
            // One of the others accepted before its cancellation.
            let result = if index == 8 { 5 } else { -libc::ECANCELED };
            assert!(acceptor.completed(index, result, false, &mut queue, &mut completions));
        }
        assert_eq!(
            completions.last(),
            Some(&Completion::AcceptEnded {
                error: Some(libc::ENFILE)
            })
        );
        assert_eq!(completions.len(), 2);
        assert!(!acceptor.completed(1, 0, false, &mut queue, &mut completions));
        assert!(!acceptor.completed(99, 0, false, &mut queue, &mut completions));
    }
}
