//! Whatever a peer sends, its own connection alone suffers for it.

use shardcast_shard::driver::ShardId;
use shardcast_shard::sim::{Faults, Opcode, Random, SimClient, SimFrame};

use super::cluster::{Cluster, ClusterOptions};
use super::order::{Crowd, add_crowd};
use super::seeds::{FAULTS, Met, Run, for_each};
use super::world::{Stranger, World};

const CROWD: Crowd = Crowd {
    members: (6, 12),
    publishers: (2, 4),
    messages: 60,
};

const STRANGERS_MAX: usize = 40;

const REQUEST: &str = "GET /ws?user=mallory HTTP/1.1\r\nHost: simulation\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Requests that the protocol must refuse, or carry out harmlessly.
const TEXTS: &[&str] = &[
    r#"{"type":"join","room":"den"}"#,
    r#"{"type":"message","room":"den","content":{"a":[1,2]},"id":"same"}"#,
    r#"{"type":"message","room":"main","content":"never joined"}"#,
    r#"{"type":"direct","to":"mallory","content":0,"id":"same"}"#,
    r#"{"type":"history","room":"main","limit":0}"#,
    r#"{"type":"history","room":"den","since":{"epoch":9007199254740993,"seq":18446744073709551615}}"#,
    r#"{"type":"leave","room":"den"}"#,
    r#"{"type":"leave","room":"never"}"#,
    r#"{"type":"presence","room":"den"}"#,
    r#"{"type":"heartbeat"}"#,
    r#"{"type":"join","room":""}"#,
    r#"{"type":"join","room":7}"#,
    r#"{"type":"nonsense"}"#,
    r#"{"type":"join","room":"den","since":{"epoch":-1,"seq":"x"}}"#,
    r#"[1,2,3]"#,
    r#"{"type":"#,
    "\u{0}",
    "",
];

fn random_bytes(random: &mut Random, most: usize) -> Vec<u8> {
    let length = random.magnitude_between(1, most);
    (0..length).map(|_| random.next_u64() as u8).collect()
}

fn texts(random: &mut Random) -> Vec<u8> {
    let count = random.magnitude_between(1, 60);
    let frame = |_| {
        SimFrame::whole(Opcode::Text, TEXTS[random.index(TEXTS.len())].as_bytes())
            .encode([1, 2, 3, 4])
    };
    (0..count).flat_map(frame).collect()
}

/// Frames that break RFC 6455, or bounds, each in its own way.
fn broken_frames(random: &mut Random) -> Vec<u8> {
    let whole = |opcode, payload: &[u8]| SimFrame::whole(opcode, payload).encode([9, 8, 7, 6]);
    let part = |fin, opcode, payload: &[u8]| {
        SimFrame {
            fin,
            opcode,
            compressed: false,
            payload: payload.to_vec(),
        }
        .encode([0; 4])
    };
    match random.below(12) {
        0 => vec![0x81, 0x02, b'h', b'i'],
        1 => vec![0xF1, 0x80, 0, 0, 0, 0],
        2 => vec![0x83, 0x80, 0, 0, 0, 0],
        3 => [&[0x82, 0xFF][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat(),
        4 => whole(Opcode::Text, &[0xC3, 0x28]),
        5 => whole(Opcode::Close, &[0x03]),
        6 => whole(Opcode::Close, &999_u16.to_be_bytes()),
        7 => part(true, Opcode::Continuation, b"of nothing"),
        8 => [
            part(false, Opcode::Text, b"{"),
            part(true, Opcode::Text, b"}"),
        ]
        .concat(),
        9 => part(false, Opcode::Ping, b"in pieces"),
        10 => whole(Opcode::Ping, &[0; 126]),
        _ => whole(
            Opcode::Binary,
            &vec![0; random.magnitude_between(1, 100_000)],
        ),
    }
}

/// What a stranger sends: never quite what it should.
fn attack(random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(8) {
        0 => random_bytes(random, 20_000),
        1 => REQUEST.as_bytes()[..random.index(REQUEST.len())].to_vec(),
        2 => format!(
            "GET /ws HTTP/1.1\r\nX: {}",
            "x".repeat(random.magnitude_between(1, 20_000))
        )
        .into_bytes(),
        3 => REQUEST.replace("13", "12").into_bytes(),
        4 => [
            REQUEST.as_bytes(),
            &texts(random),
            &random_bytes(random, 1000),
        ]
        .concat(),
        5 => [REQUEST.as_bytes(), &texts(random), &broken_frames(random)].concat(),
        6 => {
            let ping = SimFrame::whole(Opcode::Ping, &[7; 125]).encode([0; 4]);
            [
                REQUEST.as_bytes(),
                &ping.repeat(random.magnitude_between(1, 500)),
            ]
            .concat()
        }
        _ => [REQUEST.as_bytes(), &texts(random)].concat(),
    };
    if random.chance(300) {
        for _ in 0..random.magnitude_between(1, 20) {
            let index = random.index(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(index) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
    bytes
}

/// How a stranger goes once it has sent everything.
#[derive(Clone, Copy, Debug)]
enum Farewell {
    Close,
    Reset,
    Vanish,
    /// It stays until the server has had enough.
    Never,
}

/// A peer that sends what it likes, reads or not, and goes.
fn stranger(random: &mut Random, shard: ShardId) -> Stranger {
    let mut bytes = attack(random);
    let reads = random.chance(700);
    let farewell = [
        Farewell::Close,
        Farewell::Reset,
        Farewell::Vanish,
        Farewell::Never,
    ][random.index(4)];
    let mut delay = random.below(300);
    let mut client: Option<SimClient> = None;
    let mut gone = false;
    Box::new(move |cluster: &mut Cluster| {
        if gone {
            return false;
        }
        if delay > 0 {
            delay -= 1;
            return true;
        }
        let client_now = client.get_or_insert_with(|| cluster.network.connect(shard));
        let piece = cluster.random.magnitude_between(1, 4096).min(bytes.len());
        let written = client_now.write(&bytes[..piece]);
        bytes.drain(..written);
        let read = if reads {
            client_now.read(4096).len()
        } else {
            0
        };
        let done =
            client_now.is_closed() || (bytes.is_empty() && !matches!(farewell, Farewell::Never));
        if done {
            match farewell {
                Farewell::Close => client_now.close(),
                Farewell::Reset => client_now.reset(),
                Farewell::Vanish | Farewell::Never => {}
            }
            // With bytes left unread this is a reset too.
            client = None;
            gone = true;
        }
        written > 0 || read > 0 || done
    })
}

fn hostile_clients(run: Run) -> Met {
    let mut random = Random::new(run.seed).fork();
    let mut options = ClusterOptions::new(run.seed, Faults::from_seed(run.seed).without_resets());
    options.shards = random.between(1, 4) as u16;
    // Few places, so that some strangers are turned away.
    options.setup.slots = 64 + 24;
    options.limits.message_size_max = 32_768;
    options.limits.receive_buffer_bytes = options.setup.buffer_bytes as u64;
    let mut world = World::new(run, options);
    add_crowd(&mut world, CROWD);
    world.run_until("that everybody is there", |world| {
        world.members.iter().all(|member| member.open)
    });
    let shards = u64::from(world.cluster.shards());
    for _ in 0..random.between(1, STRANGERS_MAX) {
        let shard = random.below(shards) as ShardId;
        world.strangers.push(stranger(&mut random, shard));
    }
    world.run_scripts();
    world.run_until("that every message was seen", |world| {
        world.books.are_seen()
    });
    world.assert_caught_up();
    world.books.assert_complete(|_| true, |_| true);
    world.books.assert_without_holes(|_| true);
    // Long enough for strangers who never finish their handshake or never close.
    world.pass(
        (world.cluster.limits.handshake_ms_max + world.cluster.limits.close_ms_max) * 1000 * 2,
    );
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
    met.add(
        "handshakes rejected",
        world
            .cluster
            .count(|stats| stats.handshakes_rejected.value()),
    );
    met.add(
        "protocol errors",
        world.cluster.count(|stats| stats.close_protocol.value()),
    );
    met.add(
        "malformed messages",
        world
            .cluster
            .count(|stats| stats.malformed_messages.value()),
    );
    met.add(
        "bad requests",
        world.cluster.count(|stats| stats.bad_requests.value()),
    );
    met.add(
        "refused as full",
        world.cluster.count(|stats| stats.refused_full.value()),
    );
    world.meet(&mut met);
    world.end(&mut met);
    met
}

#[test]
fn hostile_strangers() {
    let must_meet = [
        "handshakes rejected",
        "protocol errors",
        "malformed messages",
        "bad requests",
        "refused as full",
    ];
    let must_meet = [FAULTS, &must_meet].concat();
    for_each("hostile_strangers", 0..300, &must_meet, hostile_clients);
}
