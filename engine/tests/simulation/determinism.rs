//! A failure can be repeated: the same seed gives the same run, to the last byte.

use shardcast_shard::sim::Faults;

use super::cluster::ClusterOptions;
use super::order::{CROWD, add_crowd};
use super::seeds::{Met, Run, for_each};
use super::world::World;

fn trace(run: Run) -> u64 {
    let mut world = World::new(
        run,
        ClusterOptions::new(run.seed, Faults::from_seed(run.seed)),
    );
    add_crowd(&mut world, CROWD);
    for member in &mut world.members {
        member.comes_back = true;
    }
    world.run_scripts();
    world.cluster.network.trace_hash()
}

#[test]
fn a_seed_gives_one_run() {
    let property = |run| {
        assert_eq!(trace(run), trace(run));
        let seed = run.seed + 1_000_000;
        assert_ne!(trace(run), trace(Run { seed, ..run }));
        Met::default()
    };
    for_each("a_seed_gives_one_run", 0..10, &[], property);
}
