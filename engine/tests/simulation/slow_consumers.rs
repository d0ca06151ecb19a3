//! Who reads too slowly is dealt with as the policy says, and nobody else notices.

use shardcast_shard::driver::ShardId;
use shardcast_shard::outbox::SlowConsumer;
use shardcast_shard::room_settings::RoomSettings;
use shardcast_shard::sim::{Faults, Random};

use super::cluster::ClusterOptions;
use super::member::{Act, Ending, Member};
use super::order::MAIN;
use super::seeds::{Met, Run, for_each};
use super::world::World;

const SIDE: &str = "side";

const THIRD: &str = "third";

/// What happens to who is too slow, in which room.
#[derive(Clone, Copy)]
enum Policies {
    /// The same in all rooms.
    Alike(SlowConsumer),
    /// Another in each room; which of the three has which follows from the seed.
    ByRoom,
}

impl Policies {
    /// The policy of each room.
    fn of_rooms(self, run: Run) -> [(&'static str, SlowConsumer); 3] {
        let mut policies = match self {
            Self::Alike(policy) => [policy; 3],
            Self::ByRoom => [
                SlowConsumer::Disconnect,
                SlowConsumer::DropOldest,
                SlowConsumer::Conflate,
            ],
        };
        policies.rotate_left((run.seed % 3) as usize);
        let [main, side, third] = policies;
        [(MAIN, main), (SIDE, side), (THIRD, third)]
    }
}

/// The room with a policy, where it is the only one.
fn room_with(rooms: &[(&'static str, SlowConsumer)], policy: SlowConsumer) -> Option<&'static str> {
    let mut found = rooms.iter().filter(|(_, other)| *other == policy);
    match (found.next(), found.next()) {
        (Some((room, _)), None) => Some(room),
        _ => None,
    }
}

/// Messages of each publisher: all together many times what an outbox and a socket hold.
const MESSAGES: usize = 200;

const PUBLISHERS: usize = 3;

/// How often some of the slow leave a room and join it again. That somebody came or went is never dropped, so it must not fill an outbox.
const COMINGS: usize = 4;

fn options(run: Run, policies: Policies, random: &mut Random) -> ClusterOptions {
    let mut faults = Faults::from_seed(run.seed).without_resets();
    // Large enough that who reads keeps up, small enough that who does not is noticed.
    faults.pipe_bytes_min = 2048;
    faults.pipe_bytes_max = 8192;
    let mut options = ClusterOptions::new(run.seed, faults);
    let [special @ .., (_, policy)] = policies.of_rooms(run);
    options.slow_consumer = policy;
    if let Policies::ByRoom = policies {
        options
            .rooms
            .extend(special.map(|(room, policy)| RoomSettings {
                slow_consumer: Some(policy),
                ..RoomSettings::new(room.parse().expect("a name is a pattern"))
            }));
    }
    options.limits.outbox_bytes_max = random.between(8192, 12_288) as u64;
    options.limits.outbox_unread_bytes_max = 4096;
    // Also more than fits into an outbox: whoever comes back and asks for it must not be too slow by that alone.
    options.limits.history_messages_max = [16, 1000][random.index(2)];
    options.limits.outbox_messages_max = [64, 8192][random.index(2)];
    options.limits.gather_bytes_max = random.magnitude_between(1024, 65_536) as u64;
    options
}

/// Adds publishers, others who read, and in the end those who will not; answers how many read.
fn add_members(world: &mut World, rooms: &[&str], random: &mut Random) -> usize {
    let shards = u64::from(world.cluster.shards());
    let (fast, slow) = (PUBLISHERS + random.between(3, 6), random.between(1, 4));
    for index in 0..fast + slow {
        let member = world.add(format!("u{index}"), random.below(shards) as ShardId);
        member
            .script
            .extend(rooms.iter().map(|room| Act::Join((*room).to_owned())));
        member.comes_back = true;
        member.idle_per_mille = random.below(200) as u16;
    }
    fast
}

/// Has the publishers publish, and the slow read little from now on.
fn slow_down(world: &mut World, fast: usize, rooms: &[&str], random: &mut Random) {
    for member in &mut world.members[..PUBLISHERS] {
        // They go on at the pace of their acknowledgements, so that who reads can keep up.
        member.unacked_max = 2;
        member.script.extend((0..MESSAGES).map(|_| {
            let room = if random.chance(700) {
                MAIN
            } else {
                rooms[random.between(1, rooms.len() - 1)]
            };
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
                let room = rooms[random.between(1, rooms.len() - 1)].to_owned();
                let comings = [Act::Leave(room.clone()), Act::Join(room)];
                member
                    .script
                    .extend(std::iter::repeat_n(comings, COMINGS).flatten());
            }
        }
    }
}

fn slow_consumers(run: Run, policies: Policies) -> Met {
    let mut random = Random::new(run.seed).fork();
    let options = options(run, policies, &mut random);
    let of_rooms = policies.of_rooms(run);
    let rooms: &[&str] = match policies {
        Policies::Alike(_) => &[MAIN, SIDE],
        Policies::ByRoom => &[MAIN, SIDE, THIRD],
    };
    let close_us_max = options.limits.close_ms_max * 1000;
    let mut world = World::new(run, options);
    world.rules.gaps = of_rooms
        .iter()
        .any(|(_, policy)| *policy != SlowConsumer::Disconnect);
    world.rules.kept = room_with(&of_rooms, SlowConsumer::Disconnect);
    world.rules.conflating = room_with(&of_rooms, SlowConsumer::Conflate);
    let conflating = world.rules.conflating;
    let fast = add_members(&mut world, rooms, &mut random);
    world.run_scripts();
    slow_down(&mut world, fast, rooms, &mut random);
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
    // Of a conflating room there may be messages that nobody has seen.
    let matters = |room: &str| Some(room) != conflating;
    world.books.assert_complete(matters, |_| true);
    world.books.assert_without_holes(matters);
    let mut met = Met::default();
    for member in &world.members {
        if let Some(view) = conflating.and_then(|room| member.rooms.get(room)) {
            assert!(!view.ends_with_gap, "{} lacks the latest", member.user);
            met.add("left out", view.dropped);
        }
    }
    world.assert_presence();
    for (index, member) in world.members.iter().enumerate() {
        let views = member.rooms.iter().filter(|(room, _)| matters(room));
        let dropped: u64 = views.map(|(_, view)| view.dropped).sum();
        let (endings, who) = (&member.endings, &member.user);
        if index < fast {
            assert!(
                endings.is_empty() && dropped == 0,
                "{who} is not slow: {endings:?}, {dropped} dropped"
            );
        } else if world.rules.gaps && world.rules.kept.is_none() {
            assert_eq!(*endings, [], "{who} must be left connected");
        } else {
            let expected =
                |ending: &Ending| !matches!(ending, Ending::Closed { code } if *code != Some(1013));
            assert!(
                endings.iter().all(expected) && (dropped == 0 || world.rules.gaps),
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
    let property = |run| slow_consumers(run, Policies::Alike(SlowConsumer::Disconnect));
    for_each(
        "slow_consumers_are_disconnected",
        0..100,
        &must_meet,
        property,
    );
}

#[test]
fn slow_consumers_are_told_what_they_missed() {
    let property = |run| slow_consumers(run, Policies::Alike(SlowConsumer::DropOldest));
    for_each(
        "slow_consumers_are_told_what_they_missed",
        0..100,
        &["dropped", "gaps behind a join"],
        property,
    );
}

#[test]
fn each_room_deals_with_slow_consumers_in_its_own_way() {
    let property = |run| slow_consumers(run, Policies::ByRoom);
    for_each(
        "each_room_deals_with_slow_consumers_in_its_own_way",
        0..100,
        &["dropped", "left out", "closed 1013"],
        property,
    );
}
