//! Outboxes alone: what leaves, what is dropped, and what the consumer is told.

use super::*;
use crate::driver::Slot;

const LIMITS: OutboxLimits = OutboxLimits {
    bytes_max: 100,
    messages_max: 8,
    gather_bytes_max: 50,
    recovery_bytes_max: 2000,
};

fn payload(length: usize, byte: u8) -> Rc<Payload> {
    Payload::kept(Bytes::from(vec![byte; length]))
}

fn message(outbox: &mut Outbox, room: &str, seq: u64, length: usize) {
    let room = room.into();
    outbox.push(Rc::new(Payload {
        bytes: Bytes::from(vec![seq as u8; length]),
        role: Role::Droppable(Origin { room, seq }),
    }));
}

fn encode(late: Late) -> Option<Bytes> {
    Some(Bytes::from(match late {
        Late::Gap(Gap { room, from, to }) => format!("<{room}:{from}-{to}>"),
        Late::Missed(message) => format!("({})", message.seq),
    }))
}

fn next_send(outbox: &mut Outbox) -> Option<Bytes> {
    outbox.next_send(&LIMITS, &mut Gathering::default(), encode)
}

/// Messages 1 to `last`, each of 1000 bytes.
fn missed(last: u64) -> Vec<Arc<Message>> {
    let message = |seq| Message {
        target: crate::hub::Target::Room("a".into()),
        user: "ada".into(),
        content: Bytes::from(vec![b'x'; 1000]),
        seq,
        timestamp_ms: 0,
    };
    (1..=last).map(message).map(Arc::new).collect()
}

fn push_missed(outbox: &mut Outbox, missed: Vec<Arc<Message>>) {
    for message in missed {
        let (room, seq) = ("a".into(), message.seq);
        outbox.push_missed(message, Some(Origin { room, seq }));
    }
}

#[test]
fn a_single_payload_leaves_without_a_copy() {
    let mut outbox = Outbox::default();
    let shared = payload(20, 7);
    outbox.push(Rc::clone(&shared));
    let sent = next_send(&mut outbox);
    assert_eq!(
        sent.as_ref().map(|bytes| bytes.as_ptr()),
        Some(shared.bytes.as_ptr())
    );
}

#[test]
fn small_payloads_leave_together_up_to_the_bound() {
    let mut outbox = Outbox::default();
    for byte in 0..4 {
        outbox.push(payload(20, byte));
    }
    let sent = next_send(&mut outbox);
    assert_eq!(sent.as_ref().map(Bytes::len), Some(40));
    assert_eq!(next_send(&mut outbox), None, "one send in flight");
    assert_eq!(outbox.sent(40), None);
    assert_eq!(next_send(&mut outbox).map(|bytes| bytes.len()), Some(40));
    assert_eq!(outbox.sent(40), None);
    assert!(outbox.is_empty());
}

#[test]
fn a_partial_send_goes_on_where_it_stopped() {
    let mut outbox = Outbox::default();
    outbox.push(Payload::kept(Bytes::from_static(b"abcdef")));
    assert!(next_send(&mut outbox).is_some());
    assert_eq!(outbox.sent(2), Some(Bytes::from_static(b"cdef")));
    assert_eq!(outbox.bytes(), 4);
    assert_eq!(outbox.sent(4), None);
    assert!(outbox.is_empty());
}

#[test]
fn dropping_takes_the_oldest_room_messages_and_names_them() {
    let mut outbox = Outbox::default();
    outbox.push(Payload::kept(Bytes::from_static(b"answer")));
    for seq in 1..=6 {
        message(&mut outbox, if seq == 3 { "b" } else { "a" }, seq, 20);
    }
    assert!(outbox.is_over(&LIMITS));
    assert_eq!(outbox.drop_oldest(&LIMITS), 2);
    assert!(!outbox.is_over(&LIMITS));
    let first = next_send(&mut outbox).unwrap_or_default();
    assert!(first.starts_with(b"answer<a:1-2>"), "{first:?}");
}

#[test]
fn a_gap_stands_where_its_messages_stood() {
    let mut outbox = Outbox::default();
    message(&mut outbox, "a", 1, 20);
    message(&mut outbox, "b", 7, 20);
    message(&mut outbox, "a", 2, 20);
    // The consumer leaves the room and comes again: what it misses then must not be told before it is in.
    outbox.push(Payload::kept(Bytes::from_static(b"joined")));
    for seq in 12..=16 {
        message(&mut outbox, "a", seq, 20);
    }
    message(&mut outbox, "a", 17, 90);
    assert_eq!(outbox.drop_oldest(&LIMITS), 8);
    let first = next_send(&mut outbox).unwrap_or_default();
    assert_eq!(first, &b"<b:7-7><a:1-2>joined<a:12-16>"[..]);
    assert_eq!(outbox.sent(first.len()), None);
    assert_eq!(outbox.bytes(), 90);
}

#[test]
fn answers_are_never_dropped() {
    let mut outbox = Outbox::default();
    for byte in 0..6 {
        outbox.push(payload(20, byte));
    }
    assert_eq!(outbox.drop_oldest(&LIMITS), 0);
    assert!(outbox.is_over(&LIMITS));
}

#[test]
fn a_run_of_drops_is_one_gap() {
    let mut outbox = Outbox::default();
    for seq in 1..=50 {
        message(&mut outbox, "a", seq, 20);
        outbox.drop_oldest(&LIMITS);
    }
    assert_eq!(outbox.line.gaps_count(), 1);
    let first = next_send(&mut outbox).unwrap_or_default();
    assert!(first.starts_with(b"<a:1-45>"), "{first:?}");
}

#[test]
fn what_was_missed_is_never_too_much_and_keeps_its_place() {
    let mut outbox = Outbox::default();
    outbox.push(Payload::kept(Bytes::from_static(b"joined")));
    assert!(outbox.has_room_for(&missed(20), &LIMITS));
    push_missed(&mut outbox, missed(20));
    assert!(!outbox.is_over(&LIMITS));
    assert!(outbox.bytes() > 20_000, "the client is not read meanwhile");
    assert!(
        !outbox.has_room_for(&missed(1), &LIMITS),
        "the bound holds for rooms together"
    );
    message(&mut outbox, "a", 21, 20);
    let mut sent = Vec::new();
    while let Some(payload) = next_send(&mut outbox) {
        assert!(payload.len() <= LIMITS.gather_bytes_max);
        assert_eq!(outbox.sent(payload.len()), None);
        sent.extend_from_slice(&payload);
    }
    let mut expected = b"joined".to_vec();
    (1..=20).for_each(|seq| expected.extend_from_slice(format!("({seq})").as_bytes()));
    expected.extend_from_slice(&[21; 20]);
    assert_eq!(sent, expected);
    assert!(outbox.is_empty() && outbox.bytes() == 0);
    assert!(outbox.has_room_for(&missed(20), &LIMITS));
}

#[test]
fn what_is_said_meanwhile_counts_and_drops_the_oldest_first() {
    let mut outbox = Outbox::default();
    push_missed(&mut outbox, missed(3));
    for seq in 4..=8 {
        message(&mut outbox, "a", seq, 20);
    }
    assert!(!outbox.is_over(&LIMITS), "100 bytes are permitted");
    message(&mut outbox, "a", 9, 20);
    assert!(outbox.is_over(&LIMITS));
    assert_eq!(outbox.drop_oldest(&LIMITS), 4, "1 to 3 count for nothing");
    let first = next_send(&mut outbox).unwrap_or_default();
    assert!(first.starts_with(b"<a:1-4>\x05"), "{first:?}");
    outbox.clear_waiting();
    assert_eq!(outbox.bytes(), first.len());
}

fn key(slot: Slot) -> ConnectionKey {
    ConnectionKey {
        slot,
        generation: 0,
    }
}

#[test]
fn the_pool_reuses_places_and_memory() {
    let mut pool = OutboxPool::default();
    let mut first = OutboxId::NONE;
    pool.ensure(&mut first, key(1)).push(payload(3, 1));
    let before = first;
    assert_eq!(pool.bytes_of(first), 3);
    pool.release(&mut first);
    assert_eq!((first, pool.used()), (OutboxId::NONE, 0));
    pool.release(&mut first);
    let mut second = OutboxId::NONE;
    assert!(pool.ensure(&mut second, key(2)).is_empty());
    assert_eq!(second, before);
}

/// A message of a conflating room.
fn latest(outbox: &mut Outbox, room: &str, seq: u64, length: usize) {
    let room = room.into();
    outbox.push(Rc::new(Payload {
        bytes: Bytes::from(vec![seq as u8; length]),
        role: Role::Latest(Origin { room, seq }),
    }));
}

fn fence(outbox: &mut Outbox, room: &str, bytes: &'static [u8]) {
    outbox.push(Rc::new(Payload {
        bytes: Bytes::from_static(bytes),
        role: Role::Fence(room.into()),
    }));
}

/// All that leaves, send by send.
fn drain(outbox: &mut Outbox) -> Vec<u8> {
    let mut sent = Vec::new();
    while let Some(payload) = next_send(outbox) {
        sent.extend_from_slice(&payload);
        assert_eq!(outbox.sent(payload.len()), None);
    }
    assert!(outbox.is_empty());
    assert_eq!(outbox.bytes(), 0);
    sent
}

#[test]
fn of_a_conflating_room_only_the_latest_waits_behind_what_was_said_before() {
    let mut outbox = Outbox::default();
    latest(&mut outbox, "a", 1, 3);
    outbox.push(payload(2, b'x'));
    latest(&mut outbox, "a", 2, 3);
    latest(&mut outbox, "b", 9, 1);
    latest(&mut outbox, "a", 3, 3);
    assert_eq!(outbox.take_conflated_count(), 2);
    assert_eq!(outbox.line.counted(), 3);
    assert_eq!(drain(&mut outbox), b"xx\x09<a:1-2>\x03\x03\x03");
}

#[test]
fn what_is_in_flight_gives_way_to_nothing() {
    let mut outbox = Outbox::default();
    latest(&mut outbox, "a", 1, 3);
    assert!(next_send(&mut outbox).is_some());
    latest(&mut outbox, "a", 2, 3);
    assert_eq!(outbox.take_conflated_count(), 0);
    latest(&mut outbox, "a", 3, 3);
    assert_eq!(outbox.take_conflated_count(), 1);
    assert_eq!(outbox.sent(3), None);
    assert_eq!(drain(&mut outbox), b"<a:2-2>\x03\x03\x03");
}

#[test]
fn a_gap_that_was_told_is_not_told_again() {
    let mut outbox = Outbox::default();
    for seq in 1..=3 {
        latest(&mut outbox, "a", seq, 60);
    }
    // The gap leaves alone, as the message does not fit into the same send.
    assert_eq!(next_send(&mut outbox).as_deref(), Some(&b"<a:1-2>"[..]));
    latest(&mut outbox, "a", 4, 1);
    assert_eq!(outbox.sent(7), None);
    assert_eq!(drain(&mut outbox), b"<a:3-3>\x04");
}

#[test]
fn what_tells_of_a_stay_in_a_room_stays_within_it() {
    let mut outbox = Outbox::default();
    latest(&mut outbox, "a", 1, 1);
    latest(&mut outbox, "a", 2, 1);
    fence(&mut outbox, "a", b"left");
    fence(&mut outbox, "a", b"joined");
    // The next number, though the one before is of another stay.
    latest(&mut outbox, "a", 3, 1);
    latest(&mut outbox, "a", 4, 1);
    assert_eq!(
        drain(&mut outbox),
        b"<a:1-1>\x02leftjoined<a:3-3>\x04".to_vec()
    );
}

#[test]
fn the_latest_of_a_room_is_never_dropped() {
    let mut outbox = Outbox::default();
    latest(&mut outbox, "a", 1, 60);
    message(&mut outbox, "b", 1, 20);
    latest(&mut outbox, "c", 1, 60);
    assert_eq!(outbox.drop_oldest(&LIMITS), 1);
    assert!(outbox.is_over(&LIMITS), "the two are too much together");
    assert_eq!(outbox.drop_oldest(&LIMITS), 0);
    latest(&mut outbox, "c", 2, 10);
    assert!(!outbox.is_over(&LIMITS), "the newer one is smaller");
}

#[test]
fn conflating_costs_no_places_however_long_a_consumer_stays_behind() {
    let mut outbox = Outbox::default();
    let rooms: Vec<String> = (0..10).map(|room| format!("room {room}")).collect();
    outbox.push(payload(1, b'x'));
    for seq in 1..=10_000 {
        for room in &rooms {
            latest(&mut outbox, room, seq, 1);
        }
        if seq % 1000 == 0 {
            outbox.push(payload(1, b'x'));
        }
        assert!(outbox.line.places() < 200, "{}", outbox.line.places());
    }
    assert_eq!(outbox.take_conflated_count(), 10 * 9_999);
    assert_eq!(outbox.line.counted(), 10 + 11);
    let told = String::from_utf8_lossy(&drain(&mut outbox)).into_owned();
    assert_eq!(told.matches("-9999>").count(), 10);
}

#[test]
fn what_may_not_be_dropped_is_not_looked_at_again_and_again() {
    let limits = OutboxLimits {
        bytes_max: usize::MAX,
        messages_max: 50_000,
        ..LIMITS
    };
    let mut outbox = Outbox::default();
    (0..50_000).for_each(|_| outbox.push(payload(1, b'x')));
    let begun = std::time::Instant::now();
    for seq in 1..=50_000 {
        message(&mut outbox, "a", seq, 1);
        assert_eq!(outbox.drop_oldest(&limits), 1);
    }
    // Each look at all of them would take a minute in all.
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    assert_eq!(outbox.line.gaps_count(), 1);
}

mod property {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        /// Of the room of this number, whose policy follows from it; so long.
        Message(u8, usize),
        /// The consumer is told that it has joined the room, as of now.
        Join(u8),
        Answer(usize),
        Send,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0_u8..6, 20_usize..60).prop_map(|(room, size)| Step::Message(room, size)),
            1 => (0_u8..6).prop_map(Step::Join),
            1 => (5_usize..20).prop_map(Step::Answer),
            2 => Just(Step::Send),
        ]
    }

    /// What a consumer is told, as words that end with a semicolon.
    fn padded(word: String, size: usize) -> Bytes {
        Bytes::from(format!("{word:_<size$};"))
    }

    fn role(room: u8, seq: u64) -> Role {
        let origin = Origin {
            room: room.to_string().into(),
            seq,
        };
        match room % 3 {
            0 => Role::Kept,
            1 => Role::Droppable(origin),
            _ => Role::Latest(origin),
        }
    }

    /// Where a consumer stands in each room, from what it is told; every number must be accounted for.
    #[derive(Default)]
    struct Consumer {
        rooms: BTreeMap<u8, u64>,
    }

    impl Consumer {
        fn hear(&mut self, sent: &[u8]) {
            let text = std::str::from_utf8(sent).expect("words");
            for word in text.split_terminator(';') {
                let word = word.trim_end_matches('_');
                let (kind, rest) = word.split_at(1);
                let numbers: Vec<u64> = rest
                    .split([':', '-'])
                    .filter_map(|number| number.parse().ok())
                    .collect();
                let Some((room, numbers)) = numbers.split_first() else {
                    continue;
                };
                let place = self.rooms.entry(*room as u8).or_default();
                match (kind, numbers) {
                    ("m", [seq]) => {
                        assert_eq!(*place + 1, *seq, "{word} in {text}");
                        *place = *seq;
                    }
                    ("g", [from, to]) => {
                        assert_eq!(*place + 1, *from, "{word} in {text}");
                        assert!(from <= to && room % 3 != 0, "{word}");
                        *place = *to;
                    }
                    ("j", [seq]) => *place = *seq,
                    _ => panic!("{word}"),
                }
            }
        }
    }

    fn told(late: Late) -> Option<Bytes> {
        let Late::Gap(Gap { room, from, to }) = late else {
            return None;
        };
        Some(padded(format!("g{room}:{from}-{to}"), 1))
    }

    proptest! {
        #[test]
        fn every_number_is_heard_or_told_missing_in_order(steps in proptest::collection::vec(step(), 0..300)) {
            let limits = OutboxLimits { bytes_max: 400, messages_max: 12, ..LIMITS };
            let mut outbox = Outbox::default();
            let mut consumer = Consumer::default();
            let mut last = BTreeMap::<u8, u64>::new();
            let mut gathering = Gathering::default();
            let mut send = |outbox: &mut Outbox| {
                let sent = outbox.next_send(&limits, &mut gathering, told)?;
                consumer.hear(&sent);
                assert_eq!(outbox.sent(sent.len()), None);
                Some(())
            };
            for step in steps {
                match step {
                    Step::Message(room, size) => {
                        let seq = last.entry(room).or_default();
                        *seq += 1;
                        let bytes = padded(format!("m{room}:{seq}"), size);
                        outbox.push(Rc::new(Payload { bytes, role: role(room, *seq) }));
                    }
                    Step::Join(room) => {
                        let seq = last.get(&room).copied().unwrap_or(0);
                        let bytes = padded(format!("j{room}:{seq}"), 1);
                        let role = match room % 3 {
                            2 => Role::Fence(room.to_string().into()),
                            _ => Role::Kept,
                        };
                        outbox.push(Rc::new(Payload { bytes, role }));
                    }
                    Step::Answer(size) => outbox.push(Payload::kept(padded("x".to_owned(), size))),
                    Step::Send => {
                        send(&mut outbox);
                    }
                }
                if outbox.is_over(&limits) {
                    outbox.drop_oldest(&limits);
                    if outbox.is_over(&limits) {
                        // Only what may not be dropped is left; the consumer would be closed.
                        while send(&mut outbox).is_some() {}
                    }
                }
            }
            while send(&mut outbox).is_some() {}
            prop_assert!(outbox.is_empty());
            prop_assert_eq!((outbox.bytes(), outbox.line.counted(), outbox.line.gaps_count()), (0, 0, 0));
            for (room, seq) in last {
                prop_assert_eq!(consumer.rooms.get(&room).copied(), Some(seq), "room {}", room);
            }
        }
    }
}

#[test]
fn the_pool_knows_what_waits_in_all_outboxes() {
    let mut pool = OutboxPool::default();
    let (mut one, mut other) = (OutboxId::NONE, OutboxId::NONE);
    pool.push(&mut one, key(1), payload(10, 1));
    pool.note(one);
    assert_eq!(pool.bytes(), 0, "alone it leaves with the next settle");
    pool.push(&mut one, key(1), payload(5, 2));
    pool.ensure(&mut other, key(2)).push(payload(7, 3));
    pool.note(one);
    pool.note(other);
    pool.note(other);
    assert_eq!(pool.bytes(), 22);
    let page = |pool: &OutboxPool, from, most| {
        let (page, next) = pool.page(from, most);
        (page.collect::<Vec<_>>(), next)
    };
    let (ones, others) = ((key(1), 15), (key(2), 7));
    assert_eq!(page(&pool, 0, 9), (vec![ones, others], 0));
    assert_eq!(page(&pool, 0, 1), (vec![ones], 1));
    assert_eq!(page(&pool, 1, 1), (vec![others], 0));
    assert_eq!(page(&pool, 7, 1), (vec![], 0), "places may have gone since");
    let sent = pool.find(one).and_then(next_send).unwrap();
    pool.note(one);
    assert_eq!(pool.bytes(), 22, "what is in flight counts");
    pool.find(one).unwrap().sent(sent.len() - 1);
    pool.note(one);
    assert_eq!(pool.bytes(), 8);
    pool.find(one).unwrap().push(payload(50, 4));
    pool.release(&mut one);
    assert_eq!(pool.bytes(), 7, "whatever was not noted is not taken off");
    pool.release(&mut other);
    assert_eq!(pool.bytes(), 0);
    pool.ensure(&mut other, key(2)).push(payload(9, 5));
    pool.note(other);
    assert_eq!(pool.bytes(), 9, "an outbox of the pool begins anew");
}
