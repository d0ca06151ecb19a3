//! Nobody does or hears what its grant does not permit, whatever is under way while grants end and are replaced; and whoever has no grant,
//! or a grant that permits it, misses nothing for it. What is checked stands in `guard`.

use shardcast_shard::driver::ShardId;
use shardcast_shard::sim::{Faults, Random};

use super::cluster::ClusterOptions;
use super::granting::KINDS;
use super::guard::Guard;
use super::member::Act;
use super::order::{MAIN, held_per_mille};
use super::seeds::{FAULTS, Met, Run, for_each};
use super::world::World;

const ROOMS: [&str; 4] = [MAIN, "side", "a room with ünïcode", "x"];

/// Members without grants, who are in all rooms and publish there.
const PUBLISHERS: usize = 3;

/// Messages of each publisher.
const MESSAGES: usize = 20;

fn any_room(random: &mut Random) -> String {
    ROOMS[random.index(ROOMS.len())].to_owned()
}

fn any_act(random: &mut Random) -> Vec<Act> {
    let room = any_room(random);
    match random.below(10) {
        0..3 => vec![Act::Publish {
            room,
            has_id: random.coin(),
        }],
        3 => vec![Act::Direct {
            to: format!("u{}", random.below(12)),
            has_id: random.coin(),
        }],
        4 => vec![Act::Presence(room)],
        5 => vec![Act::History(room)],
        6 => vec![Act::Renew(random.below(KINDS))],
        7 => vec![Act::Repeat],
        _ => vec![Act::Leave(room.clone()), Act::Join(room)],
    }
}

fn add_crowd(world: &mut World, random: &mut Random) {
    let shards = u64::from(world.cluster.shards());
    for index in 0..PUBLISHERS {
        let member = world.add(format!("u{index}"), random.below(shards) as ShardId);
        let rooms = ROOMS.iter().map(|room| Act::Join((*room).to_owned()));
        member.script.extend(rooms);
        member.script.extend((0..MESSAGES).map(|_| Act::Publish {
            room: any_room(random),
            has_id: random.coin(),
        }));
    }
    for index in PUBLISHERS..random.between(8, 16) {
        // Some are over before all that is asked for is done, over and over.
        let lasts_ms = random.magnitude_between(20, 3000) as u64;
        let guard = Guard::new(random.below(KINDS), lasts_ms, random.coin());
        let shard = random.below(shards) as ShardId;
        let member = world.add_guarded(format!("u{index}"), shard, Some(guard));
        member.comes_back = true;
        member.idle_per_mille = random.below(900) as u16;
        member.read_max = random.magnitude_between(64, 65_536);
        member.unacked_max = random.between(1, 4);
        let rooms = ROOMS.iter().filter(|_| random.chance(800));
        let joins: Vec<Act> = rooms.map(|room| Act::Join((*room).to_owned())).collect();
        member.script.extend(joins);
        let acts = random.between(5, 40);
        let acts: Vec<Act> = (0..acts).flat_map(|_| any_act(random)).collect();
        member.script.extend(acts);
    }
}

fn grants(run: Run) -> Met {
    let mut random = Random::new(run.seed).fork();
    let faults = Faults::from_seed(run.seed).without_resets();
    let mut options = ClusterOptions::new(run.seed, faults);
    options.held_per_mille = held_per_mille(run);
    options.shards = random.between(1, 4) as u16;
    options.limits.messages_per_pass_max = random.magnitude_between(1, 64) as u64;
    let mut world = World::new(run, options);
    // Not everybody who asks for what it missed may have it.
    world.rules.losses = true;
    add_crowd(&mut world, &mut random);
    world.run_scripts();
    // From now on everybody stays.
    for member in &mut world.members {
        if let Some(guard) = &mut member.guard {
            guard.lasts_ms = 3_600_000;
            member.script.push_back(Act::Renew(random.below(KINDS)));
        }
    }
    world.run_scripts();
    world.assert_caught_up();
    let is_publisher = |user: &str| (0..PUBLISHERS).any(|index| user == format!("u{index}"));
    world.books.assert_complete(|_| true, is_publisher);
    world.assert_presence();
    world.audit();
    let mut met = Met::default();
    for member in &world.members {
        if let Some(guard) = &member.guard {
            met.add("refusals", guard.refusals);
        } else {
            assert_eq!(member.errors, [""; 0], "{}", member.user);
        }
    }
    let count =
        |counter: fn(&shardcast_shard::stats::ShardStats) -> u64| world.cluster.count(counter);
    met.add("forbidden", count(|stats| stats.forbidden.value()));
    met.add("expired", count(|stats| stats.close_expired.value()));
    world.meet(&mut met);
    world.end(&mut met);
    met
}

#[test]
fn what_grants_permit() {
    let must_meet = [
        "refusals",
        "forbidden",
        "expired",
        "expulsions",
        "reconnections",
        "recoveries",
        "losses",
        "deliveries",
        "audited",
        "verdicts",
    ];
    let must_meet = [FAULTS, &must_meet].concat();
    for_each("what_grants_permit", 0..200, &must_meet, grants);
}
