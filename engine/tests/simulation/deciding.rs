//! Somebody outside of the shards who decides whether connections may come in and messages be published: always that they may, but not at once, and not in the order of the questions.

use std::sync::{Arc, Mutex};

use shardcast_shard::driver::ShardId;
use shardcast_shard::sim::Random;
use shardcast_shard::verdict::{Question, Ruling, Standing, Verdict};

/// What is asked and not answered yet, shared by the applications of all shards and the cluster.
#[derive(Clone, Default)]
pub(crate) struct Decider(Arc<Mutex<State>>);

struct State {
    random: Random,
    /// So many of 1000 questions are not answered at once.
    held_per_mille: u16,
    asked: Vec<(ShardId, Question)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            random: Random::new(0),
            held_per_mille: 0,
            asked: Vec::new(),
        }
    }
}

impl Decider {
    pub(crate) fn new(seed: u64, held_per_mille: u16) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Random::new(seed ^ 0x6465_6369_6465),
            held_per_mille,
            asked: Vec::new(),
        })))
    }

    /// Whether anything is ever asked.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.lock().unwrap().held_per_mille > 0
    }

    pub(crate) fn ask(&self, shard: ShardId, question: Question) -> Standing {
        let mut state = self.0.lock().unwrap();
        let held_per_mille = state.held_per_mille;
        if !state.random.chance(held_per_mille) {
            return Standing::Decided(Ruling::Allow);
        }
        state.asked.push((shard, question));
        Standing::Held
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn has_open(&self) -> bool {
        !self.0.lock().unwrap().asked.is_empty()
    }

    /// The answer to any of the questions.
    pub(crate) fn answer(&self) -> Option<(ShardId, Verdict)> {
        let mut state = self.0.lock().unwrap();
        let count = state.asked.len();
        if count == 0 {
            return None;
        }
        let index = state.random.index(count);
        let (shard, question) = state.asked.swap_remove(index);
        let ruling = Ruling::Allow;
        Some((shard, Verdict { question, ruling }))
    }
}
