//! The interleaved order: each round visits all servers, in an order that no earlier round had while there are others.

use shardcast_shard::random::Random;

/// The order of each round, as indices below `servers`. The seed alone decides.
pub(super) fn orders(seed: u64, rounds: u32, servers: usize) -> Vec<Vec<usize>> {
    let mut random = Random::new(seed);
    let possible = (1..=servers)
        .try_fold(1_usize, usize::checked_mul)
        .unwrap_or(usize::MAX);
    let mut orders: Vec<Vec<usize>> = Vec::new();
    for _ in 0..rounds {
        // Every order has been had once more each time that all possible ones have been used up.
        let already = orders.len() / possible;
        let order = loop {
            let order = shuffled(&mut random, servers);
            if orders.iter().filter(|earlier| **earlier == order).count() <= already {
                break order;
            }
        };
        orders.push(order);
    }
    orders
}

/// Fisher and Yates: every order is as likely as any other.
fn shuffled(random: &mut Random, servers: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..servers).collect();
    for last in (1..servers).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_round_visits_every_server_once() {
        for order in orders(3, 5, 10) {
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 10);
        }
    }

    #[test]
    fn no_order_comes_again_while_there_are_others() {
        for seed in 0..50 {
            let orders = orders(seed, 6, 3);
            assert_eq!(orders.iter().collect::<BTreeSet<_>>().len(), 6);
        }
        assert_eq!(orders(1, 3, 1), vec![vec![0]; 3]);
        let two = orders(1, 4, 2);
        assert_eq!(two.iter().filter(|order| **order == [0, 1]).count(), 2);
        assert_eq!(orders(1, 2, 0), vec![Vec::<usize>::new(); 2]);
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(orders(7, 4, 8), orders(7, 4, 8));
        assert_ne!(orders(7, 4, 8), orders(8, 4, 8));
    }
}
