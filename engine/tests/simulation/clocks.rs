//! Clocks jump: the one that never goes back leaps ahead, as it does for a machine that was stopped, and the operator sets the
//! other one to any time. Orders, numbers and times of messages do not care, and no connection is lost for it.

use shardcast_shard::sim::{Faults, Random};

use super::cluster::{Cluster, ClusterOptions};
use super::order::{CROWD, add_crowd, exchange_directs};
use super::seeds::{FAULTS, Met, Run, for_each};
use super::world::World;

/// Leaps ahead of one run, so few and so short that ids of messages are remembered over all of them.
const LEAPS_MAX: usize = 8;

const LEAP_MS_MAX: usize = 3_600_000;

/// Somebody who makes the clocks jump, a bounded number of times.
pub(crate) fn jumps(
    random: &mut Random,
    leaps: usize,
    leap_ms_max: usize,
) -> super::world::Stranger {
    let mut random = random.fork();
    let mut leaps_left = leaps;
    let mut wait = random.between(1, 200);
    Box::new(move |cluster: &mut Cluster| {
        if leaps_left == 0 {
            return false;
        }
        wait -= 1;
        if wait > 0 {
            return true;
        }
        // Long enough for clients to answer what a leap makes due.
        wait = random.between(100, 300);
        leaps_left -= 1;
        let network = &cluster.network;
        let unix_ms = network.clock().unix_ms;
        match random.below(3) {
            0 => {
                let leap_us = random.magnitude_between(1, leap_ms_max) as u64 * 1000;
                network.advance(leap_us);
                cluster.leapt_us += leap_us;
            }
            1 => network.set_unix_ms(unix_ms - random.magnitude_between(1, 1 << 38) as u64),
            _ => network.set_unix_ms(unix_ms + random.magnitude_between(1, 1 << 38) as u64),
        }
        cluster.jumps += 1;
        true
    })
}

fn clocks(run: Run) -> Met {
    let mut random = Random::new(run.seed).fork();
    let mut options = ClusterOptions::new(run.seed, Faults::from_seed(run.seed).without_resets());
    options.limits.history_messages_max = [4, 1000][random.index(2)];
    options.limits.ids_age_ms_max = 86_400_000;
    // Whoever has no turn between two leaps has not refused to answer.
    options.limits.heartbeat_missed_max = 100;
    let mut world = World::new(run, options);
    world.rules.losses = true;
    add_crowd(&mut world, CROWD);
    for member in &mut world.members {
        // A handshake can be too slow where an hour passes in between.
        member.comes_back = true;
    }
    let leaps = random.between(1, LEAPS_MAX);
    world.strangers.push(jumps(&mut random, leaps, LEAP_MS_MAX));
    world.run_scripts();
    world.run_until("that every message was seen", |world| {
        world.books.are_seen()
    });
    world.assert_caught_up();
    exchange_directs(&mut world);
    world.books.assert_complete(|_| true, |_| true);
    world.books.assert_without_holes(|_| true);
    world.assert_presence();
    // Heartbeats go on from wherever the clock is now.
    world.pass(3 * world.cluster.limits.heartbeat_ms * 1000);
    for member in &world.members {
        assert!(
            member.open,
            "{} was lost: {:?}",
            member.user, member.endings
        );
    }
    let mut met = Met::default();
    world.meet(&mut met);
    world.end(&mut met);
    met
}

#[test]
fn clocks_that_jump() {
    let must_meet = ["clock jumps", "pings", "recoveries", "losses", "deliveries"];
    let must_meet = [FAULTS, &must_meet].concat();
    for_each("clocks_that_jump", 0..100, &must_meet, clocks);
}
