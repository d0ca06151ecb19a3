//! One large run: what only shows with many members and many messages.

use shardcast_shard::sim::Faults;

use super::cluster::ClusterOptions;
use super::member::Act;
use super::order::MAIN;
use super::seeds::{Met, Run, for_few};
use super::world::World;

const MEMBERS: usize = 200;

const PUBLISHERS: usize = 8;

const MESSAGES: usize = 10_000;

fn large_room(run: Run) -> Met {
    let mut faults = Faults::from_seed(run.seed).without_resets();
    (faults.pipe_bytes_min, faults.pipe_bytes_max) = (8192, 65_536);
    let mut options = ClusterOptions::new(run.seed, faults);
    options.setup.slots = 64 + MEMBERS as u32;
    options.setup.buffers = 64;
    // No time passes while the publishers are at work.
    options.limits.messages_per_second_max = 0;
    // Only the count of so large a room is told.
    options.limits.presence_individual_max = 0;
    options.limits.outbox_bytes_max = 1 << 30;
    options.limits.outbox_messages_max = 1 << 20;
    let mut world = World::new(run, options);
    for index in 0..MEMBERS {
        let shard = world.cluster.any_shard();
        let member = world.add(format!("u{index}"), shard);
        member.read_max = 8192;
        member.unacked_max = 4;
        member.script.push_back(Act::Join(MAIN.to_owned()));
    }
    world.run_scripts();
    for index in 0..PUBLISHERS {
        let publish = |number: usize| Act::Publish {
            room: MAIN.to_owned(),
            has_id: number.is_multiple_of(2),
        };
        world.members[index]
            .script
            .extend((0..MESSAGES / PUBLISHERS).map(publish));
    }
    world.run_scripts();
    world.assert_caught_up();
    world.books.assert_complete(|_| true, |_| true);
    world.books.assert_without_holes(|_| true);
    let heard: u64 = world
        .members
        .iter()
        .map(|member| member.rooms[MAIN].heard)
        .sum();
    assert_eq!(heard, (MEMBERS * MESSAGES) as u64);
    let mut met = Met::default();
    world.meet(&mut met);
    world.end(&mut met);
    met
}

#[test]
fn a_large_room() {
    for_few(
        "a_large_room",
        1..2,
        &["wakes", "sleeps", "coalesced passes"],
        large_room,
    );
}
