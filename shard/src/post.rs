//! Mail to other shards: the mailbox, and what could not be put into one because it was full.
//!
//! A full mailbox never blocks and never loses mail. What does not fit waits here, in order, and while anything
//! waits the shard decodes nothing more from its connections (`Post::is_blocked`): the publishers are read
//! more slowly. While a delivery waits it takes no more requests either, because a request causes deliveries. A request
//! that waits is no reason for that: two shards whose requests wait for each other would wait for ever. So what
//! waits is bounded by what one message of a connection or one request of another shard can cause.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::driver::{Driver, ShardId};
use crate::hub::mail::{Delivery, Mail, Request};
use crate::mailbox::{ControlSender, Full, Mailbox, Mesh};

/// The mesh between the shards of a process. Mail is boxed: a mailbox's places cost 8 bytes each, full or empty.
pub type ShardMesh = Mesh<Box<Request>, Box<Delivery>, crate::shard::Control>;

type ShardMailbox = Mailbox<Box<Request>, Box<Delivery>, crate::shard::Control>;

/// Sends orders to one shard from any thread.
pub type ShardControl = ControlSender<Box<Request>, Box<Delivery>, crate::shard::Control>;

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Box<Request>>,
    deliveries: VecDeque<Box<Delivery>>,
}

/// A shard's end of the mesh.
pub(crate) struct Post {
    mailbox: ShardMailbox,
    waiting: Vec<Waiting>,
    requests_waiting: usize,
    deliveries_waiting: usize,
    /// Taken from the mailbox and given to the driver; empty in between.
    wakes: Vec<ShardId>,
    /// How often a mailbox was found full.
    pub(crate) full_count: u64,
    pub(crate) sent_count: u64,
}

impl Post {
    pub(crate) fn new(mesh: &Arc<ShardMesh>, shard: ShardId, shards: u16) -> Self {
        Self {
            mailbox: mesh.mailbox(shard),
            waiting: (0..shards).map(|_| Waiting::default()).collect(),
            requests_waiting: 0,
            deliveries_waiting: 0,
            wakes: Vec::new(),
            full_count: 0,
            sent_count: 0,
        }
    }

    /// Mail waits for a place: no new work may be taken on.
    pub(crate) fn is_blocked(&self) -> bool {
        self.requests_waiting + self.deliveries_waiting > 0
    }

    /// Sends mail to another shard, behind what already waits for it.
    pub(crate) fn send(&mut self, to: ShardId, mail: Mail) {
        self.sent_count += 1;
        let waiting = &mut self.waiting[usize::from(to)];
        match mail {
            Mail::Request(request) => {
                let request = Box::new(request);
                if !waiting.requests.is_empty() {
                    waiting.requests.push_back(request);
                } else if let Err(Full(request)) = self.mailbox.send_request(to, request) {
                    self.full_count += 1;
                    waiting.requests.push_back(request);
                } else {
                    return;
                }
                self.requests_waiting += 1;
            }
            Mail::Delivery(delivery) => {
                let delivery = Box::new(delivery);
                if !waiting.deliveries.is_empty() {
                    waiting.deliveries.push_back(delivery);
                } else if let Err(Full(delivery)) = self.mailbox.send_delivery(to, delivery) {
                    self.full_count += 1;
                    waiting.deliveries.push_back(delivery);
                } else {
                    return;
                }
                self.deliveries_waiting += 1;
            }
        }
    }

    /// Puts what waits into the mailboxes that have room again. Answers whether the post is blocked no more: then work that
    /// it has held up can go on.
    pub(crate) fn retry(&mut self) -> bool {
        if !self.is_blocked() {
            return false;
        }
        for (to, waiting) in self.waiting.iter_mut().enumerate() {
            let to = to as ShardId;
            while let Some(request) = waiting.requests.pop_front() {
                if let Err(Full(request)) = self.mailbox.send_request(to, request) {
                    waiting.requests.push_front(request);
                    break;
                }
                self.requests_waiting -= 1;
            }
            while let Some(delivery) = waiting.deliveries.pop_front() {
                if let Err(Full(delivery)) = self.mailbox.send_delivery(to, delivery) {
                    waiting.deliveries.push_front(delivery);
                    break;
                }
                self.deliveries_waiting -= 1;
            }
        }
        !self.is_blocked()
    }

    /// The next mail. Deliveries cause no mail and are always taken; requests wait while a delivery does.
    pub(crate) fn receive(&mut self) -> Option<(ShardId, Mail)> {
        if let Some((from, delivery)) = self.mailbox.receive_delivery() {
            return Some((from, Mail::Delivery(*delivery)));
        }
        if self.deliveries_waiting > 0 {
            return None;
        }
        let (from, request) = self.mailbox.receive_request()?;
        Some((from, Mail::Request(*request)))
    }

    pub(crate) fn receive_control(&mut self) -> Option<crate::shard::Control> {
        self.mailbox.receive_control()
    }

    /// Wakes every shard that sleeps although mail was sent to it; answers how many.
    pub(crate) fn wake<D: Driver>(&mut self, driver: &mut D) -> u64 {
        self.mailbox.take_wakes(&mut self.wakes);
        let count = self.wakes.len() as u64;
        for shard in self.wakes.drain(..) {
            driver.wake(shard);
        }
        count
    }

    /// Announces sleep; false where mail has come meanwhile and the shard must stay awake.
    pub(crate) fn announce_sleep(&self) -> bool {
        self.mailbox.announce_sleep()
    }

    pub(crate) fn awake(&self) {
        self.mailbox.awake();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::mailbox::Mesh;

    fn request() -> Mail {
        Mail::Request(Request::InboxOpen {
            user: "ada".into(),
            attempt: 1,
        })
    }

    #[test]
    fn two_shards_with_requests_for_each_other_go_on() {
        let mesh: Arc<ShardMesh> = Mesh::new(2, 64);
        let (mut one, mut other) = (Post::new(&mesh, 0, 2), Post::new(&mesh, 1, 2));
        let mut sent = 0;
        while !(one.is_blocked() && other.is_blocked()) {
            one.send(1, request());
            other.send(0, request());
            sent += 1;
        }
        let mut received = 0;
        for turn in 0..4 {
            let post = if turn % 2 == 0 { &mut one } else { &mut other };
            while post.receive().is_some() {
                received += 1;
            }
            post.retry();
        }
        assert!(
            !one.is_blocked() && !other.is_blocked(),
            "each waited for the other"
        );
        assert_eq!(received, 2 * sent);
    }

    #[test]
    fn requests_wait_while_a_delivery_does() {
        let mesh: Arc<ShardMesh> = Mesh::new(2, 64);
        let (mut home, mut slice) = (Post::new(&mesh, 0, 2), Post::new(&mesh, 1, 2));
        while !home.is_blocked() {
            home.send(1, Mail::Delivery(Delivery::Hello));
        }
        slice.send(0, request());
        assert!(
            home.receive().is_none(),
            "a request could cause more deliveries"
        );
        while slice.receive().is_some() {}
        home.retry();
        assert_eq!(home.receive(), Some((1, request())));
    }
}
