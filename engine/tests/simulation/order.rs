//! Every member of a room sees the same messages in the same order, none missing and none twice, whatever the
//! network does short of breaking connections.

use shardcast_shard::driver::ShardId;
use shardcast_shard::sim::{Faults, Random};

use super::cluster::ClusterOptions;
use super::member::Act;
use super::seeds::{FAULTS, Met, Run, for_each};
use super::world::World;

/// The room that everybody is in.
pub(crate) const MAIN: &str = "main";

const SIDE_ROOMS: [&str; 3] = ["side", "a room with ünïcode", "x"];

/// How much goes on in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    pub(crate) members: (usize, usize),
    pub(crate) publishers: (usize, usize),
    /// Messages of all publishers together.
    pub(crate) messages: usize,
}

pub(crate) const CROWD: Crowd = Crowd {
    members: (12, 24),
    publishers: (3, 8),
    messages: 100,
};

/// Adds members with scripts: all join the main room, some others too; some come late, go and come again; some publish.
pub(crate) fn add_crowd(world: &mut World, crowd: Crowd) {
    let mut random = world.cluster.random.fork();
    let count = random.between(crowd.members.0, crowd.members.1);
    let publishers = random.between(crowd.publishers.0, crowd.publishers.1);
    let shards = u64::from(world.cluster.shards());
    for index in 0..count {
        // Some users have more than one connection. Publishers have one, so that an order of their own exists.
        let user = match index >= publishers && random.chance(200) {
            true => format!("u{}", publishers + random.index(count - publishers)),
            false => format!("u{index}"),
        };
        let member = world.add(user, random.below(shards) as ShardId);
        member.idle_per_mille = random.below(900) as u16;
        member.read_max = random.magnitude_between(16, 65_536);
        member.script.push_back(Act::Join(MAIN.to_owned()));
        let mut rooms = vec![MAIN.to_owned()];
        for room in SIDE_ROOMS {
            if random.chance(300) {
                member.script.push_back(Act::Join(room.to_owned()));
                rooms.push(room.to_owned());
            }
        }
        let mut acts = Vec::new();
        if index < publishers {
            acts.extend(
                (0..crowd.messages / publishers).flat_map(|_| publish(&rooms, &mut random)),
            );
        } else {
            let comings = random.below(3);
            acts.extend((0..comings).flat_map(|_| come_and_go(&mut rooms, &mut random)));
        }
        for _ in 0..random.below(2) {
            let place = random.index(acts.len() + 1);
            acts.insert(place, Act::Presence(MAIN.to_owned()));
        }
        member.script.extend(acts);
    }
}

fn publish(rooms: &[String], random: &mut Random) -> Vec<Act> {
    let room = match random.chance(800) {
        true => MAIN.to_owned(),
        false => rooms[random.index(rooms.len())].clone(),
    };
    let has_id = random.coin();
    let mut acts = vec![Act::Publish { room, has_id }];
    if random.chance(100) {
        acts.push(Act::Repeat);
    }
    acts
}

fn come_and_go(rooms: &mut Vec<String>, random: &mut Random) -> Vec<Act> {
    let room = rooms[random.index(rooms.len())].clone();
    let mut acts = vec![Act::Leave(room.clone()), Act::Join(room.clone())];
    if room != MAIN && random.coin() {
        rooms.retain(|other| *other != room);
        acts.push(Act::Leave(room));
    }
    acts
}

/// Everybody who is there writes to somebody: to a user with one or more connections, to itself, or to nobody. All of it must
/// arrive.
pub(crate) fn exchange_directs(world: &mut World) {
    let mut random = world.cluster.random.fork();
    let users: Vec<String> = world
        .members
        .iter()
        .map(|member| member.user.clone())
        .collect();
    for member in &mut world.members {
        for _ in 0..random.below(4) {
            let to = match random.chance(50) {
                true => "nobody".to_owned(),
                false => users[random.index(users.len())].clone(),
            };
            member.script.push_back(Act::Direct {
                to,
                has_id: random.coin(),
            });
        }
    }
    world.run_scripts();
    world.run_until(
        "that every direct message was heard",
        World::are_directs_heard,
    );
    world.assert_directs_heard();
}

/// In one run of four somebody outside decides about some of the connections and messages.
pub(crate) fn held_per_mille(run: Run) -> u16 {
    match run.seed % 4 {
        3 => 300,
        _ => 0,
    }
}

/// Bounds that make the engine take a little or much at a time.
fn options(run: Run, random: &mut Random) -> ClusterOptions {
    let mut options = ClusterOptions::new(run.seed, Faults::from_seed(run.seed).without_resets());
    if random.coin() {
        options.shards = random.between(1, 6) as u16;
    }
    options.held_per_mille = held_per_mille(run);
    options.setup.buffers = random.magnitude_between(2, 64) as u16;
    options.setup.buffer_bytes = random.magnitude_between(64, 8192);
    let limits = &mut options.limits;
    // Everything of a run is remembered, or too little of it.
    limits.history_messages_max = [4, 20, 1000][random.index(3)];
    limits.mail_per_pass_max = random.magnitude_between(16, 1024) as u64;
    limits.messages_per_pass_max = random.magnitude_between(1, 64) as u64;
    limits.gather_bytes_max = random.magnitude_between(1024, 65_536) as u64;
    if random.chance(200) {
        limits.messages_per_second_max = random.between(50, 500) as u64;
        limits.messages_burst_max = random.between(1, 10) as u64;
    }
    if random.chance(200) {
        limits.accepts_per_second_max = random.magnitude_between(10, 10_000) as u64;
    }
    options
}

/// The operator sets the clock back while messages are under way.
fn set_clock_back(world: &mut World, random: &mut Random) {
    let back_ms = random.below(3_600_000);
    let mut after = random.between(1, 1000);
    world.strangers.push(Box::new(move |cluster| {
        after = after.saturating_sub(1);
        if after == 1 {
            let network = &cluster.network;
            network.set_unix_ms(network.clock().unix_ms - back_ms);
        }
        after > 0
    }));
}

fn order(run: Run) -> Met {
    let mut random = Random::new(run.seed).fork();
    let options = options(run, &mut random);
    let is_rate_limited = options.limits.messages_burst_max <= 10;
    let mut world = World::new(run, options);
    add_crowd(&mut world, CROWD);
    if random.chance(100) {
        set_clock_back(&mut world, &mut random);
    }
    world.run_scripts();
    // Messages without an id may still wait until their sender's allowance grows.
    world.run_until("that every message was seen", |world| {
        world.books.are_seen()
    });
    world.assert_caught_up();
    world.assert_presence_known();
    exchange_directs(&mut world);
    world.books.assert_complete(|_| true, |_| true);
    world.books.assert_without_holes(|_| true);
    world.assert_presence();
    world.pass(4 * world.cluster.limits.heartbeat_ms * 1000);
    let mut met = Met::default();
    for member in &world.members {
        let (who, errors) = (&member.user, &member.errors);
        assert_eq!(member.endings, [], "{who} answers heartbeats");
        let may_err = |error: &String| is_rate_limited && error == "rate_limited";
        assert!(errors.iter().all(may_err), "{who}: {errors:?}");
        met.add("rate limits", errors.len() as u64);
    }
    world.some_leave();
    world.assert_presence();
    world.audit();
    world.meet(&mut met);
    met.add(
        "compressed",
        world
            .cluster
            .count(|stats| stats.messages_compressed.value()),
    );
    met.add(
        "inflated",
        world.cluster.count(|stats| stats.messages_inflated.value()),
    );
    world.end(&mut met);
    met
}

#[test]
fn order_and_completeness() {
    let must_meet = [
        "compressed",
        "inflated",
        "wakes",
        "sleeps",
        "deliveries",
        "recoveries",
        "losses",
        "duplicates",
        "rate limits",
        "paced accepts",
        "pings",
        "audited",
        "acks checked",
        "verdicts",
    ];
    let must_meet = [FAULTS, &must_meet].concat();
    for_each("order_and_completeness", 0..1000, &must_meet, order);
}
