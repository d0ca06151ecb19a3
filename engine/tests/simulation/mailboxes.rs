//! Mailboxes as small as they can be and a shard that hardly ever has its turn: publishers wait, nothing is lost,
//! and nobody waits for ever.

use shardcast_shard::sim::{Faults, Random};

use super::cluster::ClusterOptions;
use super::member::Act;
use super::seeds::{FAULTS, Met, Run, for_each};
use super::world::World;

/// Requests that each member sends without waiting for an answer: together far more than all mailboxes hold.
const MESSAGES: usize = 150;

fn small_mailboxes(run: Run) -> Met {
    let mut random = Random::new(run.seed).fork();
    let mut options = ClusterOptions::new(run.seed, Faults::from_seed(run.seed).without_resets());
    options.shards = random.between(6, 10) as u16;
    options.limits.mailbox_mails_max = 256;
    options.limits.mail_per_pass_max = 16;
    options.limits.messages_per_pass_max = random.magnitude_between(1, 64) as u64;
    let mut world = World::new(run, options);
    let tardy = world.cluster.any_shard();
    if random.chance(700) {
        world.cluster.tardy = Some((tardy, random.between(900, 995) as u16));
    }
    let rooms: Vec<String> = (0..random.between(2, 6))
        .map(|number| format!("room {number}"))
        .collect();
    let shards = world.cluster.shards();
    for index in 0..shards {
        let member = world.add(format!("u{index}"), index);
        member.idle_per_mille = random.below(300) as u16;
        member.script.extend(rooms.iter().cloned().map(Act::Join));
    }
    // Direct messages reach whoever is there: everybody is, before they begin.
    world.run_scripts();
    // Where only one shard has something to say, no mail comes back that would keep it awake by chance.
    let (speakers, messages) = match random.chance(600) {
        true => (1, 6 * MESSAGES),
        false => (world.members.len(), MESSAGES),
    };
    for member in &mut world.members[..speakers] {
        member.acts_max = random.magnitude_between(1, 100);
        let directs_per_mille = if speakers == 1 {
            1000
        } else {
            [0, 500][random.index(2)]
        };
        member.script.extend((0..messages).map(|_| {
            if random.chance(directs_per_mille) {
                return Act::Direct {
                    to: format!("u{}", random.below(u64::from(shards))),
                    has_id: false,
                };
            }
            let room = rooms[random.index(rooms.len())].clone();
            Act::Publish {
                room,
                has_id: random.coin(),
            }
        }));
    }
    world.run_scripts();
    world.run_until("that every message was seen", |world| {
        world.books.are_seen() && world.are_directs_heard()
    });
    world.assert_directs_heard();
    world.assert_caught_up();
    world.books.assert_complete(|_| true, |_| true);
    world.books.assert_without_holes(|_| true);
    world.assert_presence();
    let mut met = Met::default();
    for member in &world.members {
        assert_eq!(
            (&member.endings[..], &member.errors[..]),
            (&[][..], &[][..]),
            "{}",
            member.user
        );
    }
    world.meet(&mut met);
    world.end(&mut met);
    met
}

#[test]
fn mailboxes_that_are_small() {
    for_each(
        "mailboxes_that_are_small",
        0..400,
        &[FAULTS, &["mailboxes found full"]].concat(),
        small_mailboxes,
    );
}
