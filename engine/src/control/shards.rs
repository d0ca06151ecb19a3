//! Asks shards and waits for their answers, for a bounded time.

use std::time::Duration;

use shardcast_shard::driver::ShardId;
use shardcast_shard::orders::{Order, Reply};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::node::Phase;
use super::problem::Problem;
use crate::engine::{Busy, Handle};

/// Why a shard did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// It takes no more orders.
    #[error("too many orders wait for shard {0}; try again shortly")]
    Busy(ShardId),
    /// It had not come to it in time.
    #[error(
        "shard {0} has not answered within {1} ms (admin_wait_ms_max); it may still carry out what it was told"
    )]
    Late(ShardId, u128),
    /// It has ended with the others.
    #[error("the node was drained: its shards have ended")]
    Drained,
    /// It died.
    #[error("shard {0} is being started again; try again shortly")]
    Died(ShardId),
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        Self::unavailable(unanswered.to_string())
    }
}

/// An answer that is under way.
pub(crate) struct Pending<T> {
    shard: ShardId,
    sent: Result<oneshot::Receiver<T>, Unanswered>,
}

/// The shards, as the admin API asks them.
#[derive(Clone)]
pub(crate) struct Shards {
    handle: Handle,
    wait_max: Duration,
    phase: watch::Receiver<Phase>,
}

impl Shards {
    pub(crate) fn new(handle: Handle, wait_max: Duration, phase: watch::Receiver<Phase>) -> Self {
        Self {
            handle,
            wait_max,
            phase,
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// When a request that begins now must have its answers.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.wait_max
    }

    /// Gives an order, whose answer [`Shards::answer`] waits for.
    pub(crate) fn send<T: Send + 'static>(
        &self,
        shard: ShardId,
        order: impl FnOnce(Reply<T>) -> Order,
    ) -> Pending<T> {
        if *self.phase.borrow() == Phase::Drained {
            let sent = Err(Unanswered::Drained);
            return Pending { shard, sent };
        }
        let (sender, receiver) = oneshot::channel();
        let reply = Reply::new(move |answer| {
            // Wakes the control thread where it sleeps: to do that its runtime takes a lock for as long as it takes to put one pointer into a list. Whoever asked
            // may have gone.
            let _: Result<(), T> = sender.send(answer);
        });
        let ordered = self.handle.order(shard, order(reply));
        let sent = ordered.map_or_else(|Busy| Err(Unanswered::Busy(shard)), |()| Ok(receiver));
        Pending { shard, sent }
    }

    /// Waits for an answer.
    pub(crate) async fn answer<T>(
        &self,
        pending: Pending<T>,
        deadline: Instant,
    ) -> Result<T, Unanswered> {
        let Pending { shard, sent } = pending;
        match timeout_at(deadline, sent?).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Unanswered::Died(shard)),
            Err(_) => Err(Unanswered::Late(shard, self.wait_max.as_millis())),
        }
    }

    /// Asks one shard.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        shard: ShardId,
        order: impl FnOnce(Reply<T>) -> Order,
    ) -> Result<T, Unanswered> {
        let deadline = self.deadline();
        self.answer(self.send(shard, order), deadline).await
    }

    /// Asks all shards at once; the answers in their order.
    pub(crate) async fn ask_all<T: Send + 'static>(
        &self,
        order: impl Fn(Reply<T>) -> Order,
    ) -> Vec<Result<T, Unanswered>> {
        let deadline = self.deadline();
        let shards = 0..self.handle.shards();
        let pending: Vec<Pending<T>> = shards.map(|shard| self.send(shard, &order)).collect();
        let mut answers = Vec::with_capacity(pending.len());
        for one in pending {
            answers.push(self.answer(one, deadline).await);
        }
        answers
    }
}
