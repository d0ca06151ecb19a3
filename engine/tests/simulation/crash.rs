//! A shard dies and is started again: its connections are gone, the others stay; the rooms that it ordered lose
//! their memory and say so; everything else goes on as if nothing had happened.

use std::cell::RefCell;
use std::rc::Rc;

use shardcast_shard::driver::ShardId;
use shardcast_shard::sim::{Faults, Random};

use super::cluster::ClusterOptions;
use super::member::Act;
use super::order::{Crowd, add_crowd, exchange_directs};
use super::seeds::{FAULTS, Met, Run, for_each};
use super::world::World;

const CROWD: Crowd = Crowd {
    members: (8, 20),
    publishers: (3, 8),
    messages: 80,
};

/// Rounds within which a shard dies: well within the time that the crowd is busy.
const ROUNDS_MAX: u64 = 400;

/// The shards that die, each after so many rounds: one, or two after each other, or one twice.
type Plan = Rc<RefCell<Vec<(u64, ShardId)>>>;

fn plan_crashes(world: &mut World, random: &mut Random) {
    let shards = u64::from(world.cluster.shards());
    let mut plan = Vec::new();
    for _ in 0..random.between(1, 2) {
        plan.push((
            1 + random.below(ROUNDS_MAX),
            random.below(shards) as ShardId,
        ));
    }
    let plan: Plan = Rc::new(RefCell::new(plan));
    world.strangers.push(Box::new(move |cluster| {
        let mut plan = plan.borrow_mut();
        let Some((rounds, shard)) = plan.last_mut() else {
            return false;
        };
        *rounds -= 1;
        if *rounds == 0 && cluster.is_alive(*shard) {
            cluster.crash(*shard);
        }
        if *rounds == 0 {
            plan.pop();
        }
        true
    }));
}

/// A member makes its shard panic, in the middle of a pass, at some point of its script.
fn plan_panic(world: &mut World, random: &mut Random) {
    let index = random.index(world.members.len());
    let script = &mut world.members[index].script;
    let place = random.between(1, script.len());
    script.insert(place, Act::PanicShard);
}

fn crash(run: Run) -> Met {
    let mut random = Random::new(run.seed).fork();
    let mut options = ClusterOptions::new(run.seed, Faults::from_seed(run.seed).without_resets());
    options.shards = random.between(2, 5) as u16;
    options.limits.history_messages_max = 1000;
    let mut world = World::new(run, options);
    world.rules.resets = true;
    add_crowd(&mut world, CROWD);
    for member in &mut world.members {
        member.comes_back = true;
        member.ack_us_max = Some(500_000);
        member.unacked_max = random.between(1, 20);
    }
    // Where each connection was made first: some will be moved.
    let shards: Vec<ShardId> = world.members.iter().map(|member| member.shard).collect();
    match random.below(5) {
        0 => plan_panic(&mut world, &mut random),
        1 | 2 => world.cluster.doomed = Some((world.cluster.any_shard(), 1 + random.below(40))),
        _ => plan_crashes(&mut world, &mut random),
    }
    world.run_scripts();
    world.run_until("that the shards have died and are back", |world| {
        let mut all = 0..world.cluster.shards();
        let died = !world.cluster.crashed.is_empty() || world.cluster.doomed.is_some();
        died && all.all(|shard| world.cluster.is_alive(shard))
    });
    // Who has not woken others often enough lives.
    world.cluster.doomed = None;
    world.run_scripts();
    world.assert_caught_up();
    assert_others_unharmed(&world, &shards);
    exchange_directs(&mut world);
    world.assert_presence();
    world.audit();
    let mut met = Met::default();
    world.meet(&mut met);
    world.end(&mut met);
    met
}

/// Asserts that what did not touch a shard that has died has gone on as if nothing had happened.
fn assert_others_unharmed(world: &World, shards: &[ShardId]) {
    let is_unharmed = |shard: &ShardId| !world.cluster.crashed.contains(shard);
    for (member, shard) in world.members.iter().zip(shards) {
        if is_unharmed(shard) {
            assert_eq!(
                (&member.endings[..], member.connections),
                (&[][..], 1),
                "{}@{shard} was disturbed",
                member.user
            );
        }
        for (room, view) in &member.rooms {
            let home = world.cluster.home_of(room);
            assert!(
                view.resets == 0 || !is_unharmed(&home),
                "{} saw {room} reset: {view:?}",
                member.user
            );
        }
    }
    let unharmed = |user: &str| {
        let mut connections = world
            .members
            .iter()
            .zip(shards)
            .filter(|(member, _)| member.user == user);
        connections.all(|(_, shard)| is_unharmed(shard))
    };
    world
        .books
        .assert_complete(|room| is_unharmed(&world.cluster.home_of(room)), unharmed);
}

#[test]
fn shard_crash() {
    let must_meet = [
        "shard deaths",
        "audited",
        "resets",
        "recoveries",
        "losses",
        "reconnections",
    ];
    let must_meet = [FAULTS, &must_meet].concat();
    for_each("shard_crash", 0..500, &must_meet, crash);
}
