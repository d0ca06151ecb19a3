//! Who has received what: every delivery of one group on one thread passes here.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::board::Board;
use super::books::{Books, Metric};
use crate::layout::Group;
use crate::stamp::{STREAM_DIRECT, Stamp};
use crate::window::{Arrival, Window};

/// Messages of one publisher whose last receiver is waited for. Beyond it the oldest is given up.
const OUTSTANDING_MAX: usize = 1 << 16;

/// The ledger of one group on one thread.
pub(super) struct Ledger {
    group: Arc<Group>,
    slice: Range<u32>,
    board: Arc<Board>,
    /// For each member of the slice and each publisher of its room.
    windows: Vec<Window>,
    /// For each member of the slice.
    direct: Vec<Window>,
    first_room: u32,
    /// For each room that the slice touches.
    rooms: Vec<RoomPart>,
}

/// The part of a room that lies on this thread.
struct RoomPart {
    receivers: u32,
    parts: u32,
    /// For each publisher.
    streams: Vec<Outstanding>,
}

/// The messages of one publisher that not all receivers here have had.
#[derive(Default)]
struct Outstanding {
    /// The number of the message that the first entry stands for.
    first: u32,
    /// How many receivers lack each.
    lacking: VecDeque<u32>,
}

impl Outstanding {
    /// One receiver more has the message: whether it was the last one here, which one receiver is.
    fn received(&mut self, number: u32, receivers: u32) -> bool {
        let Some(index) = number.checked_sub(self.first) else {
            return false;
        };
        let index = index as usize;
        if index >= OUTSTANDING_MAX {
            // A gap of so many is counted as missing; what came before it is given up.
            self.lacking.clear();
            self.first = number;
            return self.received(number, receivers);
        }
        while self.lacking.len() <= index {
            self.lacking.push_back(receivers);
        }
        // A repetition too old to be recognised must not complete the message once more.
        if self.lacking[index] == 0 {
            return false;
        }
        self.lacking[index] -= 1;
        let last = self.lacking[index] == 0;
        while self.lacking.front() == Some(&0) {
            self.lacking.pop_front();
            self.first += 1;
        }
        last
    }
}

impl Ledger {
    /// An empty ledger. One of a group without publishers takes no memory for each member.
    pub(super) fn new(
        group: Arc<Group>,
        slice: Range<u32>,
        direct: bool,
        board: Arc<Board>,
    ) -> Self {
        let members = slice.len();
        let first_room = group.room(slice.start);
        let rooms = if slice.is_empty() || group.publishers == 0 {
            0..0
        } else {
            first_room..group.room(slice.end - 1) + 1
        };
        let part = |room: u32| {
            let receivers = group.receivers(room);
            RoomPart {
                receivers: receivers
                    .end
                    .min(slice.end)
                    .saturating_sub(receivers.start.max(slice.start)),
                parts: group.parts(room),
                streams: (0..group.publishers)
                    .map(|_| Outstanding::default())
                    .collect(),
            }
        };
        Self {
            windows: vec![Window::default(); members * group.publishers as usize],
            direct: vec![Window::default(); if direct { members } else { 0 }],
            rooms: rooms.map(part).collect(),
            first_room,
            slice,
            board,
            group,
        }
    }

    /// Takes note of a delivery to a member of the slice. `measured` says whether the message belongs to the measured span.
    pub(super) fn delivered(
        &mut self,
        member: u32,
        stamp: Stamp,
        now_ns: u64,
        measured: bool,
        books: &mut Books,
    ) {
        books.tally.deliveries += 1;
        let Some(window) = self.window(member, stamp.stream) else {
            books.tally.astray += 1;
            return;
        };
        match window.arrived(stamp.number) {
            Arrival::InOrder => {}
            Arrival::OutOfOrder => books.tally.out_of_order += 1,
            Arrival::Repeated => {
                books.tally.repeated += 1;
                return;
            }
        }
        let direct = stamp.stream & STREAM_DIRECT != 0;
        let last_ns = if direct {
            None
        } else {
            self.last_ns(member, stamp, now_ns)
        };
        if !measured {
            return;
        }
        books.tally.received += 1;
        let latency_ns = now_ns.saturating_sub(stamp.intended_ns);
        let metric = if direct {
            Metric::Direct
        } else {
            Metric::Delivery
        };
        books.recordings.record(metric, latency_ns);
        if let Some(last_ns) = last_ns {
            let latency_ns = last_ns.saturating_sub(stamp.intended_ns);
            books.recordings.record(Metric::LastReceiver, latency_ns);
        }
    }

    /// What a member has had of a stream; `None` of one that is not meant for it.
    fn window(&mut self, member: u32, stream: u32) -> Option<&mut Window> {
        let index = (member - self.slice.start) as usize;
        if stream & STREAM_DIRECT != 0 {
            let own = stream == STREAM_DIRECT | member;
            return self.direct.get_mut(index).filter(|_| own);
        }
        if self.group.room(stream) != self.group.room(member) {
            return None;
        }
        let publisher = self.group.publisher(stream)? as usize;
        self.windows
            .get_mut(index * self.group.publishers as usize + publisher)
    }

    /// When the last receiver of all had the message, if this delivery completes it.
    fn last_ns(&mut self, member: u32, stamp: Stamp, now_ns: u64) -> Option<u64> {
        let room = self.group.room(member);
        let part = self.rooms.get_mut((room - self.first_room) as usize)?;
        let publisher = self.group.publisher(stamp.stream)?;
        let stream = part.streams.get_mut(publisher as usize)?;
        if !stream.received(stamp.number, part.receivers) {
            return None;
        }
        let message = (room, stamp.stream, stamp.number);
        self.board.part_done(message, part.parts, now_ns)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn group(connections: u32, threads: u32) -> Arc<Group> {
        Arc::new(Group {
            name: "g".to_owned(),
            connections,
            room_size: 4,
            publishers: 2,
            slow: 0,
            threads: 0..threads,
        })
    }

    fn ledgers(group: &Arc<Group>) -> Vec<Ledger> {
        let board = Arc::new(Board::default());
        group
            .threads
            .clone()
            .map(|thread| {
                Ledger::new(
                    Arc::clone(group),
                    group.slice(thread),
                    true,
                    Arc::clone(&board),
                )
            })
            .collect()
    }

    fn stamp(stream: u32, number: u32) -> Stamp {
        Stamp {
            intended_ns: 1000,
            stream,
            number,
        }
    }

    #[test]
    fn the_last_receiver_is_found_on_one_thread_and_on_several() {
        for threads in [1, 3] {
            let group = group(12, threads);
            let mut ledgers = ledgers(&group);
            let mut books = Books::default();
            for (step, member) in (4..8).enumerate() {
                let thread = group
                    .threads
                    .clone()
                    .find(|thread| group.slice(*thread).contains(&member))
                    .unwrap();
                let now_ns = 2000 + 1000 * step as u64;
                ledgers[thread as usize].delivered(member, stamp(5, 0), now_ns, true, &mut books);
                let last = books
                    .recordings
                    .of(Metric::LastReceiver)
                    .map_or(0, |recording| recording.len());
                assert_eq!(
                    last,
                    u64::from(member == 7),
                    "{threads} threads, member {member}"
                );
            }
            let last = books.recordings.of(Metric::LastReceiver).unwrap().max();
            assert!((4000..4008).contains(&last), "{last}");
            assert_eq!(books.tally.received, 4);
        }
    }

    #[test]
    fn order_is_kept_for_each_stream_by_itself() {
        let group = group(4, 1);
        let mut ledger = ledgers(&group).remove(0);
        let mut books = Books::default();
        for (stream, number) in [
            (0, 0),
            (1, 0),
            (STREAM_DIRECT | 2, 0),
            (0, 2),
            (0, 1),
            (1, 1),
            (0, 2),
        ] {
            ledger.delivered(2, stamp(stream, number), 5000, true, &mut books);
        }
        assert_eq!(
            (
                books.tally.out_of_order,
                books.tally.repeated,
                books.tally.received
            ),
            (1, 1, 6)
        );
        assert_eq!(books.recordings.of(Metric::Direct).unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_measured_is_checked_all_the_same() {
        let group = group(4, 1);
        let mut ledger = ledgers(&group).remove(0);
        let mut books = Books::default();
        ledger.delivered(0, stamp(0, 0), 5000, false, &mut books);
        ledger.delivered(0, stamp(0, 0), 5000, false, &mut books);
        assert_eq!(
            (
                books.tally.received,
                books.tally.repeated,
                books.tally.deliveries
            ),
            (0, 1, 2)
        );
    }

    #[test]
    fn what_is_meant_for_another_is_astray() {
        let group = group(8, 1);
        let mut ledger = ledgers(&group).remove(0);
        let mut books = Books::default();
        // A publisher of the other room, a member that does not publish, nobody, another's direct message.
        for stream in [4, 2, 99, STREAM_DIRECT | 1, STREAM_DIRECT | 99] {
            ledger.delivered(0, stamp(stream, 0), 5000, true, &mut books);
        }
        assert_eq!((books.tally.astray, books.tally.received), (5, 0));
        // The same streams where they belong.
        ledger.delivered(6, stamp(4, 0), 5000, true, &mut books);
        ledger.delivered(1, stamp(STREAM_DIRECT | 1, 0), 5000, true, &mut books);
        assert_eq!((books.tally.astray, books.tally.received), (5, 2));
    }

    #[test]
    fn a_message_has_one_last_receiver() {
        let mut outstanding = Outstanding::default();
        // Number 0 stays incomplete, so number 1 is remembered after its last receiver.
        let last: Vec<bool> = [0, 1, 1, 1, 1]
            .map(|number| outstanding.received(number, 2))
            .to_vec();
        assert_eq!(last, [false, false, true, false, false]);
    }

    #[test]
    fn a_gap_without_end_takes_no_memory_without_end() {
        let mut outstanding = Outstanding::default();
        for number in [0, 10, u32::MAX / 2, u32::MAX - 1] {
            assert!(!outstanding.received(number, 2));
            assert!(outstanding.lacking.len() <= OUTSTANDING_MAX);
        }
        assert!(outstanding.received(u32::MAX - 1, 2));
    }
}
