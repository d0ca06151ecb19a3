#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};

type TestMesh = Mesh<u32, u64, &'static str>;
type TestMailbox = Mailbox<u32, u64, &'static str>;

fn mailboxes(shards: u16, mails_max: usize) -> Vec<TestMailbox> {
    let mesh = TestMesh::new(shards, mails_max);
    (0..shards).map(|shard| mesh.mailbox(shard)).collect()
}

/// Drains what an earlier or unknown mailbox may have left, so that only new marks count.
fn settle(mailbox: &mut TestMailbox) {
    assert_eq!(mailbox.receive_request(), None);
    assert_eq!(mailbox.receive_delivery(), None);
    assert_eq!(mailbox.receive_control(), None);
    mailbox.take_wakes(&mut Vec::new());
}

fn wakes(mailbox: &mut TestMailbox) -> Vec<ShardId> {
    let mut wakes = Vec::new();
    mailbox.take_wakes(&mut wakes);
    wakes
}

#[test]
fn a_channel_has_its_share_of_places() {
    for (shards, mails_max, expected) in [
        (1, 256, 256),
        (2, 16_384, 4096),
        (8, 16_384, 2048),
        (120, 16_384, 136),
        (1000, 256, 32),
    ] {
        assert_eq!(
            channel_mails(shards, mails_max),
            expected,
            "{shards} shards"
        );
    }
    assert_eq!(TestMesh::new(4, 1024).channel_mails_max(), 256);
}

#[test]
fn mail_of_one_sender_keeps_its_order_and_lanes_are_apart() {
    let mut mailboxes = mailboxes(3, 1024);
    for number in 0..200 {
        mailboxes[0].send_request(2, number).unwrap();
        mailboxes[0]
            .send_delivery(2, u64::from(number) + 1000)
            .unwrap();
    }
    for number in 0..200 {
        assert_eq!(mailboxes[2].receive_delivery(), Some((0, number + 1000)));
    }
    assert_eq!(mailboxes[2].receive_delivery(), None);
    for number in 0..200 {
        assert_eq!(mailboxes[2].receive_request(), Some((0, number)));
    }
    assert_eq!(mailboxes[2].receive_request(), None);
    assert_eq!(mailboxes[1].receive_request(), None);
}

#[test]
fn a_full_channel_gives_the_mail_back() {
    let mut mailboxes = mailboxes(2, 64);
    for number in 0..32 {
        mailboxes[0].send_request(1, number).unwrap();
    }
    assert_eq!(mailboxes[0].send_request(1, 99), Err(Full(99)));
    // The other lane and the other direction have places of their own.
    mailboxes[0].send_delivery(1, 7).unwrap();
    mailboxes[1].send_request(0, 8).unwrap();

    assert_eq!(mailboxes[1].receive_request(), Some((0, 0)));
    mailboxes[0].send_request(1, 99).unwrap();
    assert_eq!(mailboxes[0].send_request(1, 100), Err(Full(100)));
}

#[test]
fn a_lone_shard_has_no_peer_to_wait_for() {
    let mut mailboxes = mailboxes(1, 1024);
    settle(&mut mailboxes[0]);
    assert!(mailboxes[0].announce_sleep());
}

#[test]
#[should_panic(expected = "no mailbox to itself")]
fn a_shard_does_not_write_to_itself() {
    let _ = mailboxes(2, 64)[0].send_request(0, 1);
}

#[test]
fn senders_take_turns() {
    // 70 shards: marks fill more than one word.
    let mut mailboxes = mailboxes(70, 1);
    for number in 0..10 {
        for sender in [1, 5, 64, 69] {
            mailboxes[sender].send_request(0, number).unwrap();
        }
    }
    for number in 0..10 {
        let senders: Vec<_> = (0..4)
            .map(|_| mailboxes[0].receive_request().unwrap())
            .collect();
        assert_eq!(senders, [1, 5, 64, 69].map(|sender| (sender, number)));
    }
    assert_eq!(mailboxes[0].receive_request(), None);
}

#[test]
fn a_sender_that_is_never_empty_does_not_keep_others_out() {
    let mut mailboxes = mailboxes(3, 96);
    settle(&mut mailboxes[0]);
    mailboxes[1].send_delivery(0, 0).unwrap();
    mailboxes[1].send_delivery(0, 0).unwrap();
    assert_eq!(mailboxes[0].receive_delivery(), Some((1, 0)));
    mailboxes[2].send_delivery(0, 7).unwrap();
    let mut others = 0;
    for _ in 0..4 {
        mailboxes[1].send_delivery(0, 0).unwrap();
        others += usize::from(mailboxes[0].receive_delivery() == Some((2, 7)));
    }
    assert_eq!(others, 1);
}

#[test]
fn a_sleeper_is_woken_once_a_burst() {
    let mut mailboxes = mailboxes(3, 1024);
    mailboxes.iter_mut().for_each(settle);
    assert!(mailboxes[2].announce_sleep());
    for number in 0..10 {
        mailboxes[0].send_request(2, number).unwrap();
        mailboxes[0].send_delivery(2, 1).unwrap();
        mailboxes[0].send_request(1, number).unwrap();
    }
    assert_eq!(wakes(&mut mailboxes[0]), [2]);
    assert!(wakes(&mut mailboxes[0]).is_empty());
    mailboxes[1].send_request(2, 0).unwrap();
    assert!(
        wakes(&mut mailboxes[1]).is_empty(),
        "the first sender's wake serves all"
    );
    mailboxes[2].awake();
    assert!(!mailboxes[2].announce_sleep(), "mail is waiting");
    mailboxes[1].send_request(2, 1).unwrap();
    assert!(
        wakes(&mut mailboxes[1]).is_empty(),
        "a sleep that was called off is no sleep"
    );
}

#[test]
fn mail_that_was_left_undrained_forbids_sleep() {
    let mut mailboxes = mailboxes(2, 1024);
    mailboxes.iter_mut().for_each(settle);
    mailboxes[0].send_request(1, 1).unwrap();
    mailboxes[0].send_request(1, 2).unwrap();
    assert!(!mailboxes[1].announce_sleep());
    assert_eq!(mailboxes[1].receive_request(), Some((0, 1)));
    assert!(
        !mailboxes[1].announce_sleep(),
        "the mark is taken but mail is left"
    );
    assert_eq!(mailboxes[1].receive_request(), Some((0, 2)));
    assert_eq!(mailboxes[1].receive_request(), None);
    assert!(mailboxes[1].announce_sleep());
}

#[test]
fn control_mail_wakes_and_comes_in_order() {
    let mesh = TestMesh::new(2, 1024);
    let mut mailbox = mesh.mailbox(1);
    settle(&mut mailbox);
    let control = mesh.control(1);
    assert_eq!(control.send("first"), Ok(false));
    assert!(!mailbox.announce_sleep());
    assert_eq!(mailbox.receive_control(), Some("first"));
    assert_eq!(mailbox.receive_control(), None);
    assert!(mailbox.announce_sleep());
    assert_eq!(control.send("second"), Ok(true));
    assert_eq!(control.clone().send("third"), Ok(false));
    mailbox.awake();
    assert_eq!(mailbox.receive_control(), Some("second"));
    assert_eq!(mailbox.receive_control(), Some("third"));
    assert_eq!(mailbox.receive_control(), None);
    let sent = (0..=CONTROL_MAILS_MAX)
        .take_while(|_| control.send("more").is_ok())
        .count();
    assert_eq!(sent, CONTROL_MAILS_MAX);
    assert_eq!(control.send("too much"), Err(Full("too much")));
}

#[test]
fn a_restarted_shard_finds_its_mail_and_pays_the_wakes_owed() {
    let mesh = TestMesh::new(4, 1024);
    let mut peer = mesh.mailbox(0);
    let mut sleeper = mesh.mailbox(2);
    let mut told = mesh.mailbox(3);
    settle(&mut peer);
    settle(&mut sleeper);
    settle(&mut told);
    let mut old = mesh.mailbox(1);
    settle(&mut old);
    for number in 0..3 {
        peer.send_request(1, number).unwrap();
        peer.send_delivery(1, 10).unwrap();
    }
    // The old mailbox has taken the marks and told a sleeper something, when its shard fails.
    assert_eq!(old.receive_request(), Some((0, 0)));
    assert_eq!(old.receive_delivery(), Some((0, 10)));
    assert!(sleeper.announce_sleep() && told.announce_sleep());
    // One wake was named, but its driver went down before it carried the wake out; the other was not even named.
    old.send_delivery(3, 5).unwrap();
    assert_eq!(wakes(&mut old), [3]);
    old.send_delivery(2, 5).unwrap();
    drop(old);
    peer.send_request(1, 3).unwrap();

    let mut new = mesh.mailbox(1);
    assert!(!new.announce_sleep());
    assert_eq!(wakes(&mut new), [0, 2, 3]);
    assert!(wakes(&mut new).is_empty(), "each once");
    for number in 1..=3 {
        assert_eq!(new.receive_request(), Some((0, number)));
    }
    assert_eq!(new.receive_request(), None);
    assert_eq!(new.receive_delivery(), Some((0, 10)));
    assert_eq!(new.receive_delivery(), Some((0, 10)));
    assert_eq!(new.receive_delivery(), None);
}

/// Shards on threads that really sleep: every request is answered by a delivery, in order, and no wake is lost.
#[test]
fn threads_that_sleep_lose_nothing() {
    const SHARDS: u16 = 4;
    const REQUESTS: u32 = if cfg!(miri) { 50 } else { 5000 };
    type Stress = Mesh<u32, u32, ()>;

    struct Run {
        mesh: Arc<Stress>,
        threads: Vec<OnceLock<Thread>>,
        finished: AtomicUsize,
    }

    fn shard(run: &Run, shard: ShardId) {
        run.threads[usize::from(shard)]
            .set(thread::current())
            .unwrap();
        let mut mailbox = run.mesh.mailbox(shard);
        let peers: Vec<ShardId> = (0..SHARDS).filter(|&peer| peer != shard).collect();
        let mut sent: HashMap<ShardId, u32> = peers.iter().map(|&peer| (peer, 0)).collect();
        let mut asked = sent.clone();
        let mut answered = sent.clone();
        let mut unanswered = None;
        let mut finished = false;
        let mut wakes = Vec::new();
        loop {
            let mut progress = false;
            while let Some((from, number)) = mailbox.receive_delivery() {
                assert_eq!(answered.insert(from, number + 1), Some(number));
                progress = true;
            }
            // An answer that finds its channel full is kept, and no request is taken before it has left.
            while let Some((from, number)) = unanswered.take().or_else(|| mailbox.receive_request())
            {
                if let Err(Full(number)) = mailbox.send_delivery(from, number) {
                    unanswered = Some((from, number));
                    break;
                }
                assert_eq!(asked.insert(from, number + 1), Some(number));
                progress = true;
            }
            for &peer in &peers {
                let number = sent.get_mut(&peer).unwrap();
                for _ in 0..5 {
                    if *number < REQUESTS && mailbox.send_request(peer, *number).is_ok() {
                        *number += 1;
                        progress = true;
                    }
                }
            }
            while mailbox.receive_control().is_some() {}
            mailbox.take_wakes(&mut wakes);
            for woken in wakes.drain(..) {
                run.threads[usize::from(woken)].get().unwrap().unpark();
            }
            if !finished
                && answered
                    .values()
                    .chain(asked.values())
                    .all(|&number| number == REQUESTS)
            {
                finished = true;
                run.finished.fetch_add(1, Ordering::SeqCst);
                for peer in (0..SHARDS).filter(|&peer| peer != shard) {
                    if run.mesh.control(peer).send(()).unwrap() {
                        run.threads[usize::from(peer)].get().unwrap().unpark();
                    }
                }
            }
            if run.finished.load(Ordering::SeqCst) == usize::from(SHARDS) {
                return;
            }
            // Full channels empty without a mail in return, so a shard with something to say does not sleep.
            let unsent = sent.values().any(|&number| number < REQUESTS);
            if !progress && !unsent && unanswered.is_none() && mailbox.announce_sleep() {
                thread::park();
                mailbox.awake();
            }
        }
    }

    let run = Run {
        mesh: Stress::new(SHARDS, 256),
        threads: (0..SHARDS).map(|_| OnceLock::new()).collect(),
        finished: AtomicUsize::new(0),
    };
    thread::scope(|scope| {
        for number in 0..SHARDS {
            let run = &run;
            scope.spawn(move || shard(run, number));
        }
    });
}

#[test]
fn anybody_can_see_how_much_waits() {
    let mut mailboxes = mailboxes(3, 1024);
    let control = mailboxes[0].mesh.control(2);
    assert_eq!(control.depth(), Depth::default());
    mailboxes[0].send_request(2, 1).unwrap();
    mailboxes[1].send_request(2, 2).unwrap();
    mailboxes[1].send_request(0, 3).unwrap();
    mailboxes[1].send_delivery(2, 4).unwrap();
    control.send("order").unwrap();
    let depth = Depth {
        requests: 2,
        deliveries: 1,
        orders: 1,
    };
    assert_eq!(control.depth(), depth);
    while mailboxes[2].receive_request().is_some() {}
    assert_eq!(
        control.depth(),
        Depth {
            requests: 0,
            ..depth
        }
    );
}
