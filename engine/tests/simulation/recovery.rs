//! Whoever was away and comes back to more than its outbox may hold recovers all of it, at the pace at which it reads: what
//! was missed does not make it too slow a consumer.

use shardcast_shard::driver::ShardId;
use shardcast_shard::outbox::SlowConsumer;
use shardcast_shard::sim::{Faults, Random};

use super::cluster::ClusterOptions;
use super::member::{Act, Member};
use super::seeds::{Met, Run, for_each};
use super::world::World;

/// They publish while others are away.
const PUBLISHERS: usize = 2;

/// Messages of each publisher.
const MESSAGES: usize = 150;

fn options(run: Run, policy: SlowConsumer, random: &mut Random) -> ClusterOptions {
    let mut faults = Faults::from_seed(run.seed).without_resets();
    (faults.pipe_bytes_min, faults.pipe_bytes_max) = (512, 4096);
    let mut options = ClusterOptions::new(run.seed, faults);
    options.slow_consumer = policy;
    options.limits.history_messages_max = 1000;
    options.limits.outbox_bytes_max = random.between(4096, 8192) as u64;
    options.limits.outbox_unread_bytes_max = random.magnitude_between(1024, 4096) as u64;
    options.limits.outbox_messages_max = 128;
    options.limits.gather_bytes_max = random.magnitude_between(1024, 65_536) as u64;
    // Too little for two rooms, or enough for all.
    options.limits.recovery_bytes_max = [4096, 1 << 30][random.index(2)];
    options
}

fn recovery(run: Run, policy: SlowConsumer) -> Met {
    let mut random = Random::new(run.seed).fork();
    let options = options(run, policy, &mut random);
    let (outbox_bytes_max, is_tight) = (
        options.limits.outbox_bytes_max,
        options.limits.recovery_bytes_max == 4096,
    );
    let mut world = World::new(run, options);
    world.rules.losses = is_tight;
    let rooms: Vec<String> = (0..random.between(1, 4))
        .map(|number| format!("room {number}"))
        .collect();
    let returning = random.between(1, 3);
    for index in 0..PUBLISHERS + returning {
        let shard = random.below(u64::from(world.cluster.shards())) as ShardId;
        let member = world.add(format!("u{index}"), shard);
        member.script.extend(rooms.iter().cloned().map(Act::Join));
        member.comes_back = true;
        member.unacked_max = 2;
    }
    world.run_scripts();
    // So late that nobody is back before all is published.
    let back_us = world.cluster.now_us() + 5_000_000;
    for member in &mut world.members[PUBLISHERS..] {
        member.break_off(back_us);
    }
    for member in &mut world.members[..PUBLISHERS] {
        let publish = |_| Act::Publish {
            room: rooms[random.index(rooms.len())].clone(),
            has_id: true,
        };
        member.script.extend((0..MESSAGES).map(publish));
    }
    world.run_until("that all is published", |world| {
        world.members[..PUBLISHERS].iter().all(Member::is_done)
    });
    world.run_scripts();
    world.assert_caught_up();
    world.books.assert_complete(|_| true, |_| true);
    world.books.assert_without_holes(|_| true);
    let mut met = Met::default();
    for member in &world.members {
        let views = || member.rooms.values();
        let losses: u64 = views().map(|view| view.losses).sum();
        let who = &member.user;
        assert_eq!(member.endings, [], "{who} was not left to recover");
        assert!(losses == 0 || is_tight, "{who} lost what was remembered");
        let dropped: u64 = views().map(|view| view.dropped).sum();
        assert_eq!(dropped, 0, "nothing was said while {who} recovered");
    }
    let recovered = world.books.bytes() as u64;
    met.add(
        "more than an outbox",
        u64::from(!is_tight && recovered > outbox_bytes_max),
    );
    met.add(
        "recoveries refused",
        world
            .cluster
            .count(|stats| stats.recoveries_refused.value()),
    );
    world.meet(&mut met);
    world.end(&mut met);
    met
}

#[test]
fn recovery_never_overflows() {
    let must_meet = [
        "recoveries",
        "losses",
        "more than an outbox",
        "recoveries refused",
    ];
    let property = |run: Run| {
        let policy = match run.seed % 2 {
            0 => SlowConsumer::Disconnect,
            _ => SlowConsumer::DropOldest,
        };
        recovery(run, policy)
    };
    for_each("recovery_never_overflows", 0..150, &must_meet, property);
}
