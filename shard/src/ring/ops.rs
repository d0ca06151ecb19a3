//! What a completion says of itself: the one place that encodes and decodes `user_data`, and the
//! one place that builds submissions.
//!
//! ```text
//! 63      60 59            40 39            20 19             0
//! operation │  generation    │      slot      │   auxiliary
//! ```
//!
//! The auxiliary number is the index of a payload (send), of an address (accept) or of a shard (wake).

use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fd, Fixed, TimeoutFlags, Timespec};

use super::socket::RawAddress;
use super::time::Stamp;
use crate::driver::{ConnectionKey, GENERATION_BITS, ShardId, Shutdown};
use crate::limits::SLOT_BITS;

/// Bits of the auxiliary number.
pub(super) const AUXILIARY_BITS: u32 = 20;

/// The group of the one buffer ring that a driver registers.
pub(super) const BUFFER_GROUP: u16 = 0;

const SLOT_SHIFT: u32 = AUXILIARY_BITS;
const GENERATION_SHIFT: u32 = SLOT_SHIFT + SLOT_BITS;
const OPERATION_SHIFT: u32 = GENERATION_SHIFT + GENERATION_BITS;
const _: () = assert!(
    OPERATION_SHIFT == 60,
    "four bits are left for the operation"
);

/// `IORING_RECVSEND_POLL_FIRST` of `linux/io_uring.h`: wait for bytes before taking a buffer. Without
/// it an empty buffer ring ends receiving at once, even on a silent socket.
const RECEIVE_POLL_FIRST: u16 = 1 << 0;
/// `IORING_RECV_MULTISHOT` of `linux/io_uring.h`: one submission, many completions.
const RECEIVE_MULTISHOT: u16 = 1 << 1;
/// The most bytes that one multishot receive takes; then it ends, and who wants more asks again.
///
/// Without this bound the kernel goes on for as long as the peer sends and buffers are left: in one go a connection that has not been
/// seen to send too much takes all of them, 4 MiB by default, and then waits to be decoded with that much.
pub(super) const RECEIVE_BYTES_MAX: u32 = 64 << 10;

/// The most bytes of one send; of a longer payload the rest is left to the caller.
///
/// A send that is not done after 128 attempts is given to a worker thread of the kernel, where it blocks (`APOLL_MAX_RETRY` of
/// io_uring/poll.c). An attempt is made when a third of the socket's send buffer is free, 5 KiB at the least by default, so
/// a send of this size gets done in 50, unless the peer keeps its window tiny on purpose.
const SEND_BYTES_MAX: usize = 256 << 10;

/// What was asked for. Numbers from 1, so that a zeroed completion is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    /// An accept, multishot or not.
    Accept = 1,
    /// A receive, multishot or not.
    Receive = 2,
    /// A send; the auxiliary number names the payload.
    Send = 3,
    /// A shutdown of one or both directions.
    Shutdown = 4,
    /// The close of a direct descriptor.
    Close = 5,
    /// The request to end another operation. Its own outcome is of no consequence.
    Cancel = 6,
    /// A message to another ring, seen from the sender; the auxiliary number names the shard.
    Message = 7,
    /// A message from another ring, seen from the receiver.
    Woken = 8,
    /// The deadline's timer.
    Timeout = 9,
    /// The request to move the deadline's timer. Its own outcome is of no consequence.
    TimeoutUpdate = 10,
    /// A connect.
    Connect = 11,
    /// The watch over the shard's eventfd, which ordinary threads signal.
    Bell = 12,
    /// A send that leaves at once or not at all; the auxiliary number names the payload.
    SendNow = 13,
    /// The wait for bytes of a connection that is received from quietly.
    Readable = 14,
}

impl Operation {
    const fn decode(bits: u64) -> Option<Self> {
        Some(match bits {
            1 => Self::Accept,
            2 => Self::Receive,
            3 => Self::Send,
            4 => Self::Shutdown,
            5 => Self::Close,
            6 => Self::Cancel,
            7 => Self::Message,
            8 => Self::Woken,
            9 => Self::Timeout,
            10 => Self::TimeoutUpdate,
            11 => Self::Connect,
            12 => Self::Bell,
            13 => Self::SendNow,
            14 => Self::Readable,
            _ => return None,
        })
    }
}

/// The decoded `user_data` of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// What was asked for.
    pub(super) operation: Operation,
    /// On which connection; zero for operations on none.
    pub(super) key: ConnectionKey,
    /// See [`Operation`].
    pub(super) auxiliary: u32,
}

impl Tag {
    /// An operation on a connection.
    pub(super) const fn connection(operation: Operation, key: ConnectionKey) -> Self {
        Self {
            operation,
            key,
            auxiliary: 0,
        }
    }

    /// An operation on no connection.
    pub(super) const fn ring(operation: Operation, auxiliary: u32) -> Self {
        Self {
            operation,
            key: ConnectionKey::new(0, 0),
            auxiliary,
        }
    }

    /// The number that travels through the kernel.
    pub(super) const fn encode(self) -> u64 {
        (self.operation as u64) << OPERATION_SHIFT
            | (self.key.generation as u64) << GENERATION_SHIFT
            | (self.key.slot as u64) << SLOT_SHIFT
            | (self.auxiliary as u64 & ((1 << AUXILIARY_BITS) - 1))
    }

    /// What a completion names, or `None` for a number that this driver never makes.
    pub(super) const fn decode(user_data: u64) -> Option<Self> {
        let Some(operation) = Operation::decode(user_data >> OPERATION_SHIFT) else {
            return None;
        };
        Some(Self {
            operation,
            // Both casts cut to 32 bits what `ConnectionKey::new` masks to 20.
            key: ConnectionKey::new(
                (user_data >> SLOT_SHIFT) as u32,
                (user_data >> GENERATION_SHIFT) as u32,
            ),
            auxiliary: (user_data & ((1 << AUXILIARY_BITS) - 1)) as u32,
        })
    }
}

/// A submission that names no memory of this process, so queueing it is safe whatever happens next.
///
/// Only this file makes them.
pub(super) struct Plain(Entry);

impl Plain {
    fn new(entry: Entry, tag: Tag) -> Self {
        Self(entry.user_data(tag.encode()))
    }

    /// The entry for the kernel.
    pub(super) fn into_entry(self) -> Entry {
        self.0
    }
}

/// Receives until ended, each time into a buffer of the ring's group. Where `bounded`, it ends by itself after [`RECEIVE_BYTES_MAX`].
pub(super) fn receive(key: ConnectionKey, bounded: bool) -> Plain {
    let entry = opcode::Recv::new(Fixed(key.slot), std::ptr::null_mut(), 0)
        .ioprio(RECEIVE_MULTISHOT | RECEIVE_POLL_FIRST)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(Flags::BUFFER_SELECT);
    let bytes_max = if bounded { RECEIVE_BYTES_MAX } else { 0 };
    let tag = Tag::connection(Operation::Receive, key);
    Plain::new(with_optlen(entry, bytes_max), tag)
}

/// Sets `optlen` of the kernel's `struct io_uring_sqe`: for a multishot receive the bytes after which it ends (Linux 6.17; kernels
/// before refuse it with EINVAL). The crate has no name for it.
fn with_optlen(mut entry: Entry, value: u32) -> Entry {
    /// Where it lies (`linux/io_uring.h`).
    const OPTLEN_AT: usize = 44;
    const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() >= 4);
    let start = (&raw mut entry).cast::<u8>();
    // SAFETY: an entry is that structure as C lays it out, 64 bytes of integers, and these four, which are aligned, are within it.
    unsafe { start.add(OPTLEN_AT).cast::<u32>().write(value) };
    entry
}

/// Receives once, into one buffer of the ring's group.
pub(super) fn receive_once(key: ConnectionKey) -> Plain {
    let entry = opcode::Recv::new(Fixed(key.slot), std::ptr::null_mut(), 0)
        .ioprio(RECEIVE_POLL_FIRST)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(Flags::BUFFER_SELECT);
    Plain::new(entry, Tag::connection(Operation::Receive, key))
}

/// Completes once there are bytes to receive, or the peer has ended its stream, or the connection is broken. It holds 256 bytes of the
/// kernel's memory while it waits, where a receive holds 864.
pub(super) fn readable(key: ConnectionKey) -> Plain {
    let events = libc::POLLIN | libc::POLLRDHUP;
    let entry = opcode::PollAdd::new(Fixed(key.slot), events as u32).build();
    Plain::new(entry, Tag::connection(Operation::Readable, key))
}

/// Receives what is there, into one buffer of the ring's group. EAGAIN where nothing is.
pub(super) fn receive_now(key: ConnectionKey) -> Plain {
    let entry = opcode::Recv::new(Fixed(key.slot), std::ptr::null_mut(), 0)
        .flags(libc::MSG_DONTWAIT)
        .buf_group(BUFFER_GROUP)
        .build()
        .flags(Flags::BUFFER_SELECT);
    Plain::new(entry, Tag::connection(Operation::Receive, key))
}

/// Ends the operation that carries `tag`, if it is still there.
pub(super) fn cancel(tag: Tag) -> Plain {
    let entry = opcode::AsyncCancel::new(tag.encode())
        .build()
        .flags(Flags::SKIP_SUCCESS);
    Plain::new(entry, Tag::connection(Operation::Cancel, tag.key))
}

/// Ends one or both directions. The kernel runs this one on a worker thread, as it may block.
pub(super) fn shutdown(key: ConnectionKey, how: Shutdown) -> Plain {
    let how = match how {
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    let entry = opcode::Shutdown::new(Fixed(key.slot), how).build();
    Plain::new(entry, Tag::connection(Operation::Shutdown, key))
}

/// Closes a direct descriptor.
pub(super) fn close(key: ConnectionKey) -> Plain {
    let entry = opcode::Close::new(Fixed(key.slot)).build();
    Plain::new(entry, Tag::connection(Operation::Close, key))
}

/// Accepts until ended, each connection into a free slot of the kernel's choice.
pub(super) fn accept_multishot(listener: RawFd, index: u32) -> Plain {
    let entry = opcode::AcceptMulti::new(Fd(listener))
        .allocate_file_index(true)
        .build();
    Plain::new(entry, Tag::ring(Operation::Accept, index))
}

/// Posts a [`Operation::Woken`] to the ring behind `door`. It says there when it was asked for ([`Stamp`](super::time::Stamp)): the
/// length of the message is the result of its completion (IORING_OP_MSG_RING of io_uring_enter(2)).
pub(super) fn message(door: RawFd, shard: ShardId, asked: Stamp) -> Plain {
    let woken = Tag::ring(Operation::Woken, 0);
    let entry = opcode::MsgRingData::new(Fd(door), asked.bits(), woken.encode(), None)
        .build()
        .flags(Flags::SKIP_SUCCESS);
    Plain::new(entry, Tag::ring(Operation::Message, u32::from(shard)))
}

/// Completes at each signal of an eventfd, until ended. Nobody reads it: the poll is edge-triggered (IORING_POLL_ADD_MULTI of
/// io_uring_enter(2)), so each signal counts once, also where the counter is not zero.
pub(super) fn bell(eventfd: RawFd) -> Plain {
    let entry = opcode::PollAdd::new(Fd(eventfd), libc::POLLIN as u32)
        .multi(true)
        .build();
    Plain::new(entry, Tag::ring(Operation::Bell, 0))
}

/// Accepts one connection into a free slot. The address and its length stay valid until the completion.
pub(super) fn accept_once(
    listener: RawFd,
    index: u32,
    address: *mut libc::sockaddr,
    length: *mut libc::socklen_t,
) -> Entry {
    opcode::Accept::new(Fd(listener), address, length)
        .file_index(Some(DestinationSlot::auto_target()))
        .build()
        .user_data(Tag::ring(Operation::Accept, index).encode())
}

/// Connects the socket in the key's slot. The address stays valid until the submission: the kernel copies it then
/// (IORING_FEAT_SUBMIT_STABLE of io_uring_setup(2), in every kernel that is supported).
pub(super) fn connect(key: ConnectionKey, address: &RawAddress) -> Entry {
    opcode::Connect::new(Fixed(key.slot), address.as_ptr(), address.length())
        .build()
        .user_data(Tag::connection(Operation::Connect, key).encode())
}

/// Sends a payload. Its bytes stay valid until the completion.
pub(super) fn send(key: ConnectionKey, payload: &[u8], index: u32) -> Entry {
    let tag = Tag {
        operation: Operation::Send,
        key,
        auxiliary: index,
    };
    // The caller is told how much was sent and sends the rest; the cast holds what `min` left.
    let length = payload.len().min(SEND_BYTES_MAX) as u32;
    opcode::Send::new(Fixed(key.slot), payload.as_ptr(), length)
        // The kernel goes on until all is sent, and a closed peer is an error, not a signal.
        .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
        .user_data(tag.encode())
}

/// Sends what leaves at once of a payload, inside the `io_uring_enter` that takes the entry: `MSG_DONTWAIT` makes the kernel neither wait
/// for room nor hand the operation to a worker thread (`REQ_F_NOWAIT` in io_uring/net.c). So the bytes need not stay valid any longer. It completes only where less
/// than all has left, which `MSG_WAITALL` makes a failure.
pub(super) fn send_now(key: ConnectionKey, payload: &[u8], index: u32) -> Entry {
    let tag = Tag {
        operation: Operation::SendNow,
        key,
        auxiliary: index,
    };
    // The caller sends no more than `SEND_NOW_BYTES_MAX` this way.
    opcode::Send::new(Fixed(key.slot), payload.as_ptr(), payload.len() as u32)
        .flags(libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(tag.encode())
}

/// The tag of the deadline's timer. There is never more than one.
const TIMEOUT: Tag = Tag::ring(Operation::Timeout, 0);

/// Completes at a time of the monotonic clock. `time` stays valid until the submission.
pub(super) fn timeout(time: *const Timespec) -> Entry {
    opcode::Timeout::new(time)
        .flags(TimeoutFlags::ABS)
        .build()
        .user_data(TIMEOUT.encode())
}

/// Moves the timer to another time. `time` stays valid until the submission.
pub(super) fn timeout_update(time: *const Timespec) -> Entry {
    opcode::TimeoutUpdate::new(TIMEOUT.encode(), time)
        .flags(TimeoutFlags::ABS)
        .build()
        .flags(Flags::SKIP_SUCCESS)
        .user_data(Tag::ring(Operation::TimeoutUpdate, 0).encode())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn operations() -> impl Strategy<Value = Operation> {
        (1_u64..=14).prop_map(|bits| Operation::decode(bits).unwrap())
    }

    proptest! {
        #[test]
        fn a_tag_survives_the_kernel(
            operation in operations(),
            slot in 0_u32..1 << SLOT_BITS,
            generation in 0_u32..1 << GENERATION_BITS,
            auxiliary in 0_u32..1 << AUXILIARY_BITS,
        ) {
            let tag = Tag { operation, key: ConnectionKey::new(slot, generation), auxiliary };
            prop_assert_eq!(Tag::decode(tag.encode()), Some(tag));
        }

        #[test]
        fn every_number_decodes_to_what_encodes_to_it(user_data: u64) {
            if let Some(tag) = Tag::decode(user_data) {
                prop_assert_eq!(tag.encode(), user_data);
            } else {
                let bits = user_data >> OPERATION_SHIFT;
                prop_assert!(bits == 0 || bits > 14);
            }
        }
    }

    #[test]
    fn an_auxiliary_number_never_spills_into_the_slot() {
        let tag = Tag::ring(Operation::Accept, u32::MAX);
        let decoded = Tag::decode(tag.encode()).unwrap();
        assert_eq!(decoded.key, ConnectionKey::new(0, 0));
        assert_eq!(decoded.auxiliary, (1 << AUXILIARY_BITS) - 1);
    }
}
