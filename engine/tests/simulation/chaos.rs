//! Thousands of clients on several shards, and everything goes wrong at once: sends and receives in pieces, connections that
//! break, buffers and queues that are full, readers that stall, clocks that jump, shards that die. What a client hears is checked
//! as it hears it, and when the storm is over all agree, and nothing is left.

use shardcast_shard::driver::ShardId;
use shardcast_shard::outbox::SlowConsumer;
use shardcast_shard::sim::{Faults, Random};

use super::clocks::jumps;
use super::cluster::ClusterOptions;
use super::member::Act;
use super::seeds::{BREAKS, FAULTS, Met, Run, for_few};
use super::world::World;

/// No more than one connection may be in: the audit is in all of them.
const ROOMS: usize = 120;

/// Times that some readers stall and go on again; at most of them a shard dies.
const PHASES: usize = 5;

/// Rounds of a phase: together well within the time that the crowd is busy.
const ROUNDS: usize = 120;

/// Leaps so short that nothing that a client may ask for is forgotten over all of them.
const LEAP_MS_MAX: usize = 5000;

const fn faults() -> Faults {
    Faults {
        split_per_mille: 100,
        receive_end_per_mille: 30,
        no_buffers_per_mille: 30,
        short_send_per_mille: 50,
        send_error_per_mille: 2,
        reset_per_mille: 2,
        loss_per_mille: 500,
        delay_per_mille: 100,
        delay_polls_max: 4,
        accept_error_per_mille: 50,
        queue_full_per_mille: 100,
        cut_short_per_mille: 20,
        pipe_bytes_min: 512,
        pipe_bytes_max: 16_384,
    }
}

fn options(run: Run, members: usize, random: &mut Random) -> ClusterOptions {
    let mut options = ClusterOptions::new(run.seed, faults());
    options.shards = random.between(4, 6) as u16;
    options.slow_consumer = match run.seed % 2 {
        0 => SlowConsumer::Disconnect,
        _ => SlowConsumer::DropOldest,
    };
    // Little more than all of them need, so that some have to try again elsewhere.
    options.setup.slots = 64 + (members * 5 / 4 / usize::from(options.shards)) as u32;
    options.setup.buffers = 64;
    let limits = &mut options.limits;
    limits.history_messages_max = 100_000;
    limits.history_bytes_max = 1 << 30;
    limits.ids_max = 100_000;
    limits.presence_individual_max = 20;
    limits.presence_list_max = 1_000_000;
    limits.outbox_bytes_max = 16_384;
    limits.outbox_unread_bytes_max = 8192;
    limits.mailbox_mails_max = 256;
    limits.mail_per_pass_max = random.between(64, 1024) as u64;
    options
}

/// A room as many are drawn to: the first one most of all.
fn any_room(random: &mut Random) -> String {
    let number = random.magnitude_between(1, ROOMS);
    format!("room {number}")
}

fn add_crowd(world: &mut World, count: usize, random: &mut Random) {
    for index in 0..count {
        let shard = random.below(u64::from(world.cluster.shards())) as ShardId;
        let member = world.add(format!("u{index}"), shard);
        member.comes_back = true;
        member.ack_us_max = Some(2_000_000);
        member.unacked_max = random.between(1, 3);
        member.idle_per_mille = random.between(500, 980) as u16;
        member.read_max = random.magnitude_between(256, 65_536);
        let (first, second) = (any_room(random), any_room(random));
        member.script.push_back(Act::Join(first.clone()));
        if second != first {
            member.script.push_back(Act::Join(second.clone()));
        }
        for _ in 0..random.below(5) {
            member.script.push_back(match random.below(10) {
                0 => Act::Repeat,
                1 => Act::Presence(first.clone()),
                _ => Act::Publish {
                    room: first.clone(),
                    has_id: random.chance(900),
                },
            });
            if second != first && random.chance(100) {
                member.script.push_back(Act::Leave(second.clone()));
                member.script.push_back(Act::Join(second.clone()));
            }
        }
    }
}

/// Some readers stall, then a shard dies, then they read again, over and over.
fn storm(world: &mut World, random: &mut Random) -> u64 {
    let mut stalled = 0;
    let shards = u64::from(world.cluster.shards());
    for _ in 0..PHASES {
        let mut stalls = Vec::new();
        for (index, member) in world.members.iter_mut().enumerate() {
            if random.chance(50) {
                stalls.push((index, std::mem::take(&mut member.read_max)));
            }
        }
        stalled += stalls.len() as u64;
        world.run_rounds(random.between(1, ROUNDS));
        let doomed = random.below(shards) as ShardId;
        if random.chance(700) && world.cluster.is_alive(doomed) {
            world.cluster.crash(doomed);
        }
        world.run_rounds(random.between(1, ROUNDS));
        for (index, read_max) in stalls {
            world.members[index].read_max = read_max;
        }
    }
    stalled
}

fn chaos(run: Run) -> Met {
    let mut random = Random::new(run.seed).fork();
    let count = random.between(2000, 3000);
    let options = options(run, count, &mut random);
    let mut world = World::new(run, options);
    (world.rules.resets, world.rules.gaps) = (true, run.seed % 2 == 1);
    world.cluster.tardy = Some((world.cluster.any_shard(), 600));
    add_crowd(&mut world, count, &mut random);
    world.strangers.push(jumps(&mut random, 6, LEAP_MS_MAX));
    let mut met = Met::default();
    met.add("stalled readers", storm(&mut world, &mut random));
    let calm = faults().without_resets();
    world.cluster.network.set_faults(calm);
    world.run_scripts();
    world.assert_caught_up();
    let homes: Vec<bool> = (0..world.cluster.shards())
        .map(|shard| !world.cluster.crashed.contains(&shard))
        .collect();
    let lives_on = |room: &str| homes[usize::from(world.cluster.home_of(room))];
    world.books.assert_ids_recognised(lives_on);
    world.assert_presence();
    world.audit();
    met.add("clients", count as u64);
    let stats = [
        (
            "closed 1013",
            world
                .cluster
                .count(|stats| stats.close_slow_consumer.value()),
        ),
        (
            "refused as full",
            world.cluster.count(|stats| stats.refused_full.value()),
        ),
    ];
    stats
        .into_iter()
        .for_each(|(what, count)| met.add(what, count));
    world.meet(&mut met);
    world.end(&mut met);
    met
}

#[test]
fn chaos_of_thousands() {
    let must_meet = [
        "stalled readers",
        "closed 1013",
        "refused as full",
        "clock jumps",
        "shard deaths",
        "resets",
        "reconnections",
        "recoveries",
        "duplicates",
        "mailboxes found full",
        "audited",
    ];
    let must_meet = [FAULTS, BREAKS, &must_meet].concat();
    for_few("chaos_of_thousands", 2..4, &must_meet, chaos);
}
