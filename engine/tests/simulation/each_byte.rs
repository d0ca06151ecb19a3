//! A connection may break after any byte, in either direction. Wherever it does, whoever comes back has everything once, the
//! others notice nothing, and nothing is left of it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use shardcast_shard::sim::{Faults, Toward};

use super::cluster::ClusterOptions;
use super::member::Act;
use super::order::MAIN;
use super::seeds::{Met, Run, for_few};
use super::world::World;

/// More bytes than the victim's conversation has in one direction; the property itself finds where it ends.
const BYTES_MAX: usize = 10_000;

/// The victim's connection breaks after so many bytes. Answers whether it was still open then.
fn break_after(run: Run, toward: Toward, bytes: usize, met: &mut Met) -> bool {
    let mut faults = Faults::from_seed(run.seed).without_resets();
    // Bytes of one poll are lost together, so each byte has to be the last one of a piece; splits by chance would only hide some.
    (faults.pipe_bytes_min, faults.pipe_bytes_max) = (65_536, 65_536);
    let mut options = ClusterOptions::new(run.seed, faults);
    options.shards = 2;
    let mut world = World::new(run, options);
    let publish = Act::Publish {
        room: MAIN.to_owned(),
        has_id: true,
    };
    let direct = Act::Direct {
        to: "witness".to_owned(),
        has_id: true,
    };
    let presence = Act::Presence(MAIN.to_owned());
    let witness = world.add("witness".to_owned(), 0);
    witness.script.push_back(Act::Join(MAIN.to_owned()));
    // Whatever is acknowledged from here on has somebody who hears it.
    world.run_scripts();
    world.members[0]
        .script
        .extend([publish.clone(), publish.clone()]);
    let victim = world.add("victim".to_owned(), 1);
    victim.comes_back = true;
    victim.idle_per_mille = 0;
    victim.script.push_back(Act::Join(MAIN.to_owned()));
    victim
        .script
        .extend([publish.clone(), direct, presence, publish.clone(), publish]);
    let socket = victim.socket.as_ref().expect("it was just connected");
    socket.client().break_after(toward, bytes);
    world.run_scripts();
    world.run_until("that every message was seen", |world| {
        world.books.are_seen()
    });
    world.assert_caught_up();
    world.books.assert_ids_recognised(|_| true);
    world.books.assert_without_holes(|_| true);
    let victim = &world.members[1];
    if victim.connections == 1
        && let Some(socket) = &victim.socket
    {
        // The conversation is over. A break later on would only swallow the question that follows, which nobody asks again.
        socket.client().break_after(toward, usize::MAX);
    }
    world.assert_presence();
    let [witness, victim] = &world.members[..] else {
        panic!("there are two");
    };
    assert_eq!(witness.endings, [], "the witness is not concerned");
    let has_broken = victim.connections > 1;
    met.add("broken at a byte", u64::from(has_broken));
    world.meet(met);
    world.end(met);
    has_broken
}

fn each_byte(run: Run) -> Met {
    let mut met = Met::default();
    for toward in [Toward::Server, Toward::Client] {
        for bytes in 0..BYTES_MAX {
            let broken = catch_unwind(AssertUnwindSafe(|| {
                break_after(run, toward, bytes, &mut met)
            }));
            match broken {
                Ok(true) => {}
                Ok(false) => {
                    // All of the conversation is over before.
                    let what = match toward {
                        Toward::Server => "bytes toward the server",
                        Toward::Client => "bytes toward the client",
                    };
                    met.add(what, bytes as u64);
                    break;
                }
                Err(panic) => {
                    eprintln!("the connection broke after {bytes} bytes, {toward:?}");
                    resume_unwind(panic);
                }
            }
        }
    }
    met
}

#[test]
fn resets_at_each_byte() {
    let must_meet = [
        "broken at a byte",
        "bytes toward the server",
        "bytes toward the client",
        "reconnections",
        "recoveries",
        "duplicates",
    ];
    for_few("resets_at_each_byte", 0..2, &must_meet, each_byte);
}
