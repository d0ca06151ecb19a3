//! Whose connection breaks comes back, says how far it got, and misses nothing that the room still remembers.

use shardcast_shard::sim::{Faults, Random};

use super::cluster::ClusterOptions;
use super::order::{CROWD, add_crowd, exchange_directs, held_per_mille};
use super::seeds::{BREAKS, FAULTS, Met, Run, for_each};
use super::world::World;

fn resets(run: Run) -> Met {
    let mut random = Random::new(run.seed).fork();
    let mut faults = Faults::from_seed(run.seed);
    // Connections break in every run, some of them often.
    faults.reset_per_mille = random.between(1, 12) as u16;
    faults.send_error_per_mille = random.between(0, 12) as u16;
    let mut options = ClusterOptions::new(run.seed, faults.clone());
    options.held_per_mille = held_per_mille(run);
    options.limits.history_messages_max = [2, 8, 1000][random.index(3)];
    let mut world = World::new(run, options);
    add_crowd(&mut world, CROWD);
    for member in &mut world.members {
        member.comes_back = true;
        member.unacked_max = random.between(1, 8);
    }
    world.run_scripts();
    world.cluster.network.set_faults(faults.without_resets());
    world.assert_caught_up();
    world.books.assert_ids_recognised(|_| true);
    exchange_directs(&mut world);
    world.assert_presence();
    world.audit();
    let mut met = Met::default();
    world.meet(&mut met);
    world.end(&mut met);
    met
}

#[test]
fn with_resets() {
    let must_meet = [
        "reconnections",
        "recoveries",
        "losses",
        "duplicates",
        "audited",
        "verdicts",
        "stale verdicts",
    ];
    let must_meet = [FAULTS, BREAKS, &must_meet].concat();
    for_each("with_resets", 0..500, &must_meet, resets);
}
