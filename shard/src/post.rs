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

/// Mail of one lane that found its mailbox full.
struct Waiting<T> {
    /// By receiver, in order.
    queues: Vec<VecDeque<Box<T>>>,
    count: usize,
}

impl<T> Waiting<T> {
    fn new(shards: u16) -> Self {
        Self {
            queues: (0..shards).map(|_| VecDeque::new()).collect(),
            count: 0,
        }
    }

    /// Sends mail by `send`, or keeps it behind what already waits. Answers whether a mailbox was found full.
    fn send(
        &mut self,
        to: ShardId,
        mail: T,
        send: impl FnOnce(ShardId, Box<T>) -> Result<(), Full<Box<T>>>,
    ) -> bool {
        let (queue, mail) = (&mut self.queues[usize::from(to)], Box::new(mail));
        let tried = queue.is_empty();
        let sent = if tried {
            send(to, mail)
        } else {
            Err(Full(mail))
        };
        let Err(Full(mail)) = sent else {
            return false;
        };
        queue.push_back(mail);
        self.count += 1;
        tried
    }

    /// Sends by `send` what its mailboxes have room for again.
    fn retry(&mut self, mut send: impl FnMut(ShardId, Box<T>) -> Result<(), Full<Box<T>>>) {
        if self.count == 0 {
            return;
        }
        for (to, queue) in self.queues.iter_mut().enumerate() {
            while let Some(mail) = queue.pop_front() {
                if let Err(Full(mail)) = send(to as ShardId, mail) {
                    queue.push_front(mail);
                    break;
                }
                self.count -= 1;
            }
        }
    }
}

/// A shard's end of the mesh.
pub(crate) struct Post {
    mailbox: ShardMailbox,
    requests: Waiting<Request>,
    deliveries: Waiting<Delivery>,
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
            requests: Waiting::new(shards),
            deliveries: Waiting::new(shards),
            wakes: Vec::new(),
            full_count: 0,
            sent_count: 0,
        }
    }

    /// Mail waits for a place: no new work may be taken on.
    pub(crate) fn is_blocked(&self) -> bool {
        self.waiting() > 0
    }

    /// Mails that wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.count + self.deliveries.count
    }

    /// Sends mail to another shard, behind what already waits for it.
    pub(crate) fn send(&mut self, to: ShardId, mail: Mail) {
        let mailbox = &mut self.mailbox;
        let full = match mail {
            Mail::Request(request) => self
                .requests
                .send(to, request, |to, mail| mailbox.send_request(to, mail)),
            Mail::Delivery(delivery) => self
                .deliveries
                .send(to, delivery, |to, mail| mailbox.send_delivery(to, mail)),
        };
        self.sent_count += 1;
        self.full_count += u64::from(full);
    }

    /// Puts what waits into the mailboxes that have room again. Answers whether the post is blocked no more: then work that
    /// it has held up can go on.
    pub(crate) fn retry(&mut self) -> bool {
        if !self.is_blocked() {
            return false;
        }
        let mailbox = &mut self.mailbox;
        self.requests
            .retry(|to, mail| mailbox.send_request(to, mail));
        self.deliveries
            .retry(|to, mail| mailbox.send_delivery(to, mail));
        !self.is_blocked()
    }

    /// The next mail. Deliveries cause no mail and are always taken; requests wait while a delivery does.
    pub(crate) fn receive(&mut self) -> Option<(ShardId, Mail)> {
        if let Some((from, delivery)) = self.mailbox.receive_delivery() {
            return Some((from, Mail::Delivery(*delivery)));
        }
        if self.deliveries.count > 0 {
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
            open: 0,
            waiting: 1,
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
