//! Who reads too slowly is dealt with as the policy says, and nobody else notices.

use shardcast_shard::driver::ShardId;
use shardcast_shard::outbox::SlowConsumer;
use shardcast_shard::sim::{Faults, Random};

use super::cluster::ClusterOptions;
use super::member::{Act, Ending, Member};
use super::order::MAIN;
use super::seeds::{Met, Run, for_each};
use super::world::World;

const SIDE: &str = "side";

/// Messages of each publisher: all together many times what an outbox and a socket hold.
const MESSAGES: usize = 200;

const PUBLISHERS: usize = 3;

/// How often some of the slow leave a room and join it again. That somebody came or went is never dropped, so it must not fill an outbox.
const COMINGS: usize = 4;

fn options(run: Run, policy: SlowConsumer, random: &mut Random) -> ClusterOptions {
    let mut faults = Faults::from_seed(run.seed).without_resets();
    // Large enough that who reads keeps up, small enough that who does not is noticed.
    faults.pipe_bytes_min = 2048;
    faults.pipe_bytes_max = 8192;
    let mut options = ClusterOptions::new(run.seed, faults);
    options.slow_consumer = policy;
    options.limits.outbox_bytes_max = random.between(8192, 12_288) as u64;
    options.limits.outbox_unread_bytes_max = 4096;
    // Also more than fits into an outbox: whoever comes back and asks for it must not be too slow by that alone.
    options.limits.history_messages_max = [16, 1000][random.index(2)];
    options.limits.outbox_messages_max = [64, 8192][random.index(2)];
    options.limits.gather_bytes_max = random.magnitude_between(1024, 65_536) as u64;
    options
}

/// Adds publishers, others who read, and in the end those who will not; answers how many read.
fn add_members(world: &mut World, random: &mut Random) -> usize {
    let shards = u64::from(world.cluster.shards());
    let (fast, slow) = (PUBLISHERS + random.between(3, 6), random.between(1, 4));
    for index in 0..fast + slow {
        let member = world.add(format!("u{index}"), random.below(shards) as ShardId);
        member
            .script
            .extend([MAIN, SIDE].map(|room| Act::Join(room.to_owned())));
        member.comes_back = true;
        member.idle_per_mille = random.below(200) as u16;
    }
    fast
}

/// Has the publishers publish, and the slow read little from now on.
fn slow_down(world: &mut World, fast: usize, random: &mut Random) {
    for member in &mut world.members[..PUBLISHERS] {
        // They go on at the pace of their acknowledgements, so that who reads can keep up.
        member.unacked_max = 2;
        member.script.extend((0..MESSAGES).map(|_| {
            let room = if random.chance(700) { MAIN } else { SIDE };
            Act::Publish {
                room: room.to_owned(),
                has_id: true,
            }
        }));
    }
    for member in &mut world.members[fast..] {
        match random.below(3) {
            0 => member.read_max = 0,
            1 => {
                member.read_max = random.magnitude_between(1, 64);
                member.idle_per_mille = 990;
            }
            // These hear enough to come and go, so that some of what they miss stands right behind their joining.
            _ => {
                member.read_max = random.magnitude_between(64, 1024);
                member.idle_per_mille = 900;
                let comings = [Act::Leave(SIDE.to_owned()), Act::Join(SIDE.to_owned())];
                member
                    .script
                    .extend(std::iter::repeat_n(comings, COMINGS).flatten());
            }
        }
    }
}

fn slow_consumers(run: Run, policy: SlowConsumer) -> Met {
    let mut random = Random::new(run.seed).fork();
    let options = options(run, policy, &mut random);
    let close_us_max = options.limits.close_ms_max * 1000;
    let mut world = World::new(run, options);
    world.rules.gaps = policy == SlowConsumer::DropOldest;
    let fast = add_members(&mut world, &mut random);
    world.run_scripts();
    slow_down(&mut world, fast, &mut random);
    world.run_until(
        "that everything is published and heard by those who read",
        |world| {
            let mut reading = world.members[..fast].iter();
            reading.all(Member::is_done)
        },
    );
    if random.coin() {
        // Long enough for the server to lose its patience with whoever does not even read its close frame.
        world.pass(close_us_max * 2);
    }
    for member in &mut world.members[fast..] {
        member.read_max = 1 << 20;
        member.idle_per_mille = 100;
    }
    world.run_scripts();
    world.assert_caught_up();
    world.books.assert_complete(|_| true, |_| true);
    world.books.assert_without_holes();
    world.assert_presence();
    let mut met = Met::default();
    for (index, member) in world.members.iter().enumerate() {
        let dropped: u64 = member.rooms.values().map(|view| view.dropped).sum();
        let (endings, who) = (&member.endings, &member.user);
        if index < fast {
            assert!(
                endings.is_empty() && dropped == 0,
                "{who} is not slow: {endings:?}, {dropped} dropped"
            );
        } else if policy == SlowConsumer::DropOldest {
            assert_eq!(*endings, [], "{who} must be left connected");
        } else {
            let expected =
                |ending: &Ending| !matches!(ending, Ending::Closed { code } if *code != Some(1013));
            assert!(
                endings.iter().all(expected) && dropped == 0,
                "{who}: {endings:?}"
            );
            let told = endings
                .iter()
                .filter(|ending| matches!(ending, Ending::Closed { .. }))
                .count();
            met.add("closed 1013", told as u64);
            met.add(
                "dropped connections",
                u64::from(told == 0 && !endings.is_empty()),
            );
        }
    }
    world.meet(&mut met);
    world.end(&mut met);
    met
}

#[test]
fn slow_consumers_are_disconnected() {
    let must_meet = ["closed 1013", "dropped connections", "losses"];
    let property = |run| slow_consumers(run, SlowConsumer::Disconnect);
    for_each(
        "slow_consumers_are_disconnected",
        0..100,
        &must_meet,
        property,
    );
}

#[test]
fn slow_consumers_are_told_what_they_missed() {
    let property = |run| slow_consumers(run, SlowConsumer::DropOldest);
    for_each(
        "slow_consumers_are_told_what_they_missed",
        0..100,
        &["dropped", "gaps behind a join"],
        property,
    );
}
