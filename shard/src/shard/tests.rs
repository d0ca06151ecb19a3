//! The loop on the simulated driver, where one shard and a client or two are enough to show something.

mod coalescing;
mod compression;
mod encrypted;
mod fairness;
mod first_message;
mod grants;
mod guarded;
mod held;
mod ordering;
mod rates;

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::app::{Admission as Upgrade, Context};
use crate::hub::{Event, Name, Target};
use crate::mailbox::{ControlSender, Mesh};
use crate::sim::{
    Faults, Opcode, SimDriver, SimEvent, SimFrame, SimNetwork, SimSetup, SimWebSocket,
};
use crate::ws::{Message, MessageKind, Refusal, UpgradeRequest};

/// Passes without rest that tell a spinning shard from a busy one.
const PASSES_MAX: usize = 1000;

/// Does what a message says.
struct Probe;

impl App for Probe {
    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        _: &UpgradeRequest<'_>,
    ) -> Result<Upgrade, Refusal> {
        Ok(Upgrade::of("guest"))
    }

    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) {
        let text = String::from_utf8_lossy(message.payload).into_owned();
        let (what, argument) = text.split_once(' ').unwrap_or((&text, ""));
        let echo = Bytes::copy_from_slice(argument.as_bytes());
        match what {
            "echo" => context.send(connection, MessageKind::Text, echo).unwrap(),
            "direct" => {
                let target = Target::Inbox("guest".into());
                context
                    .publish_from_server("guest".into(), target, echo)
                    .unwrap();
            }
            "publish" => {
                let target = Target::Room(argument.into());
                context
                    .publish_from_server("guest".into(), target, echo)
                    .unwrap();
            }
            "fill" => {
                let target = Target::Room("large".into());
                context
                    .publish_from_server("guest".into(), target, echo)
                    .unwrap();
            }
            "recall" => context
                .history(connection, "large".into(), None, None)
                .unwrap(),
            "close" => {
                context.close(connection, 4000, "as asked for").unwrap();
                context.send(connection, MessageKind::Text, echo).unwrap();
            }
            "timer" => context.timer_after(1),
            _ => {}
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_>) {
        context.count(crate::app::Count::BadRequest).unwrap();
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<MessageKind> {
        out.extend_from_slice(format!("{event:?}").as_bytes());
        Some(MessageKind::Text)
    }
}

type Orders =
    ControlSender<Box<crate::hub::mail::Request>, Box<crate::hub::mail::Delivery>, Control>;

/// Shards on one network.
struct Rig<A: App = Probe> {
    network: SimNetwork,
    shards: Vec<Shard<SimDriver, A>>,
    controls: Vec<Orders>,
    stats: Vec<Arc<ShardStats>>,
}

impl Rig {
    fn new(shards: u16, limits: Limits, slow_consumer: SlowConsumer) -> Self {
        Self::seeded(1, shards, limits, slow_consumer)
    }

    fn seeded(seed: u64, shards: u16, limits: Limits, slow_consumer: SlowConsumer) -> Self {
        Self::compressing(seed, shards, limits, slow_consumer, Compression::default())
    }

    fn compressing(
        seed: u64,
        shards: u16,
        limits: Limits,
        slow_consumer: SlowConsumer,
        compression: Compression,
    ) -> Self {
        Self::over(seed, shards, limits, slow_consumer, compression, None)
    }

    fn over(
        seed: u64,
        shards: u16,
        limits: Limits,
        slow_consumer: SlowConsumer,
        compression: Compression,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        Self::running_over(
            seed,
            shards,
            limits,
            slow_consumer,
            compression,
            tls,
            || Probe,
        )
    }

    fn one(limits: Limits) -> Self {
        Self::new(1, limits, SlowConsumer::Disconnect)
    }
}

impl<A: App> Rig<A> {
    fn running(
        seed: u64,
        shards: u16,
        limits: Limits,
        slow_consumer: SlowConsumer,
        compression: Compression,
        app: impl Fn() -> A,
    ) -> Self {
        Self::running_over(seed, shards, limits, slow_consumer, compression, None, app)
    }

    fn running_over(
        seed: u64,
        shards: u16,
        limits: Limits,
        slow_consumer: SlowConsumer,
        compression: Compression,
        tls: Option<Arc<ServerConfig>>,
        app: impl Fn() -> A,
    ) -> Self {
        let setup = SimSetup {
            slots: 256,
            buffers: 64,
            ..SimSetup::default()
        };
        let network = SimNetwork::new(seed, Faults::none());
        let limits = Arc::new(limits);
        let mesh = Mesh::new(shards, limits.mailbox_mails_max as usize);
        let admission = Arc::new(Admission::new(&limits));
        let stats: Vec<Arc<ShardStats>> = (0..shards).map(|_| Arc::default()).collect();
        let shard = |id: ShardId| {
            let options = ShardOptions {
                id,
                shards,
                limits: Arc::clone(&limits),
                slow_consumer,
                rooms: Arc::default(),
                compression,
                tls: tls.clone(),
                table_size: setup.slots,
                hash_seed: 7,
                random_seed: 7,
                origin: Arc::default(),
                admission: Arc::clone(&admission),
                stats: Arc::clone(&stats[usize::from(id)]),
                mesh: Arc::clone(&mesh),
            };
            Shard::new(SimDriver::new(&network, id, setup), app(), options)
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            controls: (0..shards).map(|id| mesh.control(id)).collect(),
            network,
            stats,
        }
    }

    /// Runs a shard as its executor does until it sleeps; answers until when. `None` where it has stopped.
    fn rest(&mut self, shard: usize) -> Option<u64> {
        let shard = &mut self.shards[shard];
        for _ in 0..PASSES_MAX {
            match shard.tick().unwrap() {
                Progress::Busy => {}
                Progress::Stopped => return None,
                Progress::Idle { until_us } => {
                    let asleep = shard.fall_asleep(until_us).unwrap();
                    shard.awake();
                    if asleep {
                        return Some(until_us.unwrap_or(u64::MAX));
                    }
                }
            }
        }
        panic!("the shard does not come to rest");
    }

    fn advance_ms(&mut self, milliseconds: u64) {
        self.network.advance(milliseconds * 1000);
    }

    /// A client of shard 0 whose connection is open.
    fn client(&mut self) -> SimWebSocket {
        self.client_with(&[])
    }

    /// The same with header lines of its own.
    fn client_with(&mut self, headers: &[(&str, &str)]) -> SimWebSocket {
        let connection = self.network.connect(0);
        let mut client = SimWebSocket::connect_with(connection, "/", headers);
        client.step(usize::MAX);
        self.rest(0);
        let events = client.step(usize::MAX);
        assert!(matches!(events[..], [SimEvent::Upgraded(_)]), "{events:?}");
        client
    }

    fn core(&self) -> &Core<A> {
        &self.shards[0].core
    }
}

fn texts(events: Vec<SimEvent>) -> Vec<String> {
    let text = |event| match event {
        SimEvent::Text(text) => Some(text),
        _ => None,
    };
    events.into_iter().filter_map(text).collect()
}

#[test]
fn an_echo_comes_back() {
    let mut rig = Rig::one(Limits::default());
    let mut client = rig.client();
    client.send_text("echo hello");
    client.step(usize::MAX);
    rig.rest(0);
    assert_eq!(texts(client.step(usize::MAX)), ["hello"]);
}

#[test]
fn a_pause_in_accepting_ends_and_the_shard_sleeps_again() {
    for stops in [false, true] {
        let mut rig = Rig::one(Limits::default());
        let _open = rig.client();
        let broken = Faults {
            accept_error_per_mille: 1000,
            ..Faults::none()
        };
        rig.network.set_faults(broken);
        let mut late = SimWebSocket::connect(&rig.network, 0, "/");
        late.step(usize::MAX);
        rig.rest(0);
        assert_eq!(rig.stats[0].accept_errors.value(), 1);
        rig.network.set_faults(Faults::none());
        if stops {
            let plan = StopPlan {
                window_ms: 10_000,
                stop_ms_max: 20_000,
                reconnect_after_ms: 0,
            };
            rig.controls[0].send(Control::Stop(plan)).unwrap();
        }
        rig.advance_ms(200);
        rig.rest(0);
        assert_eq!(
            rig.stats[0].connections_accepted.value(),
            1 + u64::from(!stops)
        );
    }
}

#[test]
fn a_stop_without_connections_ends_at_once() {
    let mut rig = Rig::one(Limits::default());
    rig.rest(0);
    let plan = StopPlan {
        window_ms: 1000,
        stop_ms_max: 10_000,
        reconnect_after_ms: 0,
    };
    rig.controls[0].send(Control::Stop(plan)).unwrap();
    assert_eq!(rig.rest(0), None);
}

#[test]
fn a_stop_drops_whoever_does_not_answer() {
    let mut rig = Rig::one(Limits::default());
    let mut client = rig.client();
    client.set_answers(false);
    let plan = StopPlan {
        window_ms: 0,
        stop_ms_max: 50,
        reconnect_after_ms: 0,
    };
    rig.controls[0].send(Control::Stop(plan)).unwrap();
    let started_us = rig.network.clock().monotonic_us;
    let mut until_us = rig.rest(0);
    while let Some(due_us) = until_us {
        let now_us = rig.network.clock().monotonic_us;
        assert!(due_us > now_us && due_us <= started_us + 51_000);
        rig.network.advance(due_us - now_us);
        until_us = rig.rest(0);
    }
    assert_eq!(rig.stats[0].stop_dropped.value(), 1);
}

#[test]
fn a_shard_does_not_sleep_over_bytes_that_a_full_mailbox_held_up() {
    let mut rig = Rig::new(2, small_mailboxes(), SlowConsumer::Disconnect);
    let mut client = rig.client();
    // They have said Hello: from here on shard 1 has nothing to tell, and wakes nobody.
    rig.rest(1);
    rig.rest(0);
    for number in 0..1500 {
        client.send_text(&format!("publish {number}"));
    }
    client.step(usize::MAX);
    let mut blocked = 0;
    while rig.stats[0].messages_received.value() < 1500 {
        rig.rest(0);
        let is_blocked = rig.core().post.is_blocked();
        assert!(is_blocked || rig.core().turns.is_empty());
        blocked += u32::from(is_blocked);
        rig.rest(1);
        if !rig.core().post.is_blocked() {
            rig.advance_ms(1);
        }
    }
    assert!(blocked > 0, "the mailbox was never full");
}

fn small_mailboxes() -> Limits {
    Limits {
        mailbox_mails_max: 256,
        ..Limits::default()
    }
}

#[test]
fn a_timer_that_is_due_does_not_keep_a_blocked_shard_awake() {
    let mut rig = Rig::new(2, small_mailboxes(), SlowConsumer::Disconnect);
    let mut client = rig.client();
    client.send_text("timer");
    for number in 0..400 {
        client.send_text(&format!("publish {number}"));
    }
    client.step(usize::MAX);
    rig.rest(0);
    assert!(rig.core().post.is_blocked());
    rig.advance_ms(5);
    rig.rest(0);
    assert_eq!(rig.stats[0].bad_requests.value(), 0, "the timer waits");
    for _ in 0..10 {
        rig.rest(1);
        rig.advance_ms(1);
        rig.rest(0);
    }
    assert_eq!(rig.stats[0].bad_requests.value(), 1);
}

#[test]
fn whoever_comes_after_a_stop_has_dropped_everybody_is_dropped_too() {
    for seed in 0..20 {
        let mut rig = Rig::seeded(seed, 1, Limits::default(), SlowConsumer::Disconnect);
        let _open = rig.client();
        let plan = StopPlan {
            window_ms: 1000,
            stop_ms_max: 0,
            reconnect_after_ms: 0,
        };
        rig.controls[0].send(Control::Stop(plan)).unwrap();
        rig.shards[0].tick().unwrap();
        let _late: Vec<_> = (0..5)
            .map(|_| SimWebSocket::connect(&rig.network, 0, "/"))
            .collect();
        assert_eq!(rig.rest(0), None, "seed {seed}");
        assert_eq!(rig.stats[0].connections_open.value(), 0);
    }
}

#[test]
fn a_message_put_together_leaves_no_memory_behind() {
    for messages_per_pass_max in 1..4 {
        let mut rig = Rig::one(Limits {
            messages_per_pass_max,
            ..Limits::default()
        });
        let mut client = rig.client();
        let frame = |fin, opcode| SimFrame {
            fin,
            opcode,
            compressed: false,
            payload: vec![b'x'; 1000],
        };
        client.send_frame(&frame(false, Opcode::Text));
        client.step(usize::MAX);
        rig.rest(0);
        let buffered = |rig: &mut Rig| {
            let connections = &mut rig.shards[0].core.table.connections;
            let key = connections.key_at(0).unwrap();
            connections.find(key).unwrap().session.buffered_bytes()
        };
        assert!(buffered(&mut rig) >= 1000);
        client.send_frame(&frame(true, Opcode::Continuation));
        client.step(usize::MAX);
        rig.rest(0);
        assert_eq!(rig.stats[0].messages_received.value(), 1);
        assert_eq!(buffered(&mut rig), 0, "{messages_per_pass_max}");
    }
}

#[test]
fn nothing_but_pongs_follows_a_close_frame() {
    let mut rig = Rig::one(Limits::default());
    let mut client = rig.client();
    client.set_answers(false);
    client.send_text("close too late");
    client.step(0);
    rig.rest(0);
    client.send_ping(b"still there?");
    client.step(0);
    rig.rest(0);
    let mut bytes = client.client().read(usize::MAX);
    let mut opcodes = Vec::new();
    while let Some((frame, size)) = SimFrame::decode(&bytes).unwrap() {
        bytes.drain(..size);
        opcodes.push(frame.opcode);
    }
    assert_eq!(opcodes, [Opcode::Close, Opcode::Pong]);
}

#[test]
fn pongs_behind_a_close_frame_do_not_pile_up() {
    for slow_consumer in [SlowConsumer::Disconnect, SlowConsumer::DropOldest] {
        let limits = Limits {
            outbox_messages_max: 100,
            ..Limits::default()
        };
        let mut rig = Rig::new(1, limits, slow_consumer);
        let mut client = rig.client();
        client.set_answers(false);
        client.send_text("close");
        for _ in 0..200 {
            for _ in 0..100 {
                client.send_ping(&[b'x'; 125]);
            }
            client.step(0);
            rig.rest(0);
        }
        // As many as the client's buffer takes, and as many as may wait.
        let most = 65_536 / 127 + 200;
        assert!(
            rig.stats[0].deliveries_sent.value() < most,
            "{slow_consumer:?}"
        );
    }
}

#[test]
fn what_was_sent_before_the_end_of_a_stream_counts() {
    let mut rig = Rig::one(Limits {
        messages_per_pass_max: 4,
        messages_per_second_max: 1000,
        messages_burst_max: 50,
        ..Limits::default()
    });
    let mut client = rig.client();
    for _ in 0..100 {
        client.send_text("nothing");
    }
    client.send_close(Some(1000), "");
    client.step(usize::MAX);
    client.client().close();
    rig.rest(0);
    assert!(
        rig.stats[0].messages_received.value() < 100,
        "the rate holds"
    );
    for _ in 0..100 {
        rig.advance_ms(10);
        rig.rest(0);
    }
    assert_eq!(rig.stats[0].messages_received.value(), 100);
    let events = client.step(usize::MAX);
    let closed = |event: &SimEvent| {
        matches!(
            event,
            SimEvent::Close {
                code: Some(1000),
                ..
            }
        )
    };
    assert!(events.iter().any(closed), "{events:?}");
    assert_eq!(rig.shards[0].counts().connections, 0);
}

#[test]
fn the_end_of_a_stream_within_a_message_ends_the_connection() {
    let mut rig = Rig::one(Limits {
        messages_per_pass_max: 1,
        ..Limits::default()
    });
    let mut client = rig.client();
    client.send_text("echo one");
    client.send_text("echo two");
    client.send_raw(&[0x81, 0xfe, 0x01]);
    client.step(usize::MAX);
    client.client().close();
    rig.rest(0);
    assert_eq!(rig.stats[0].messages_received.value(), 2);
    assert_eq!(rig.shards[0].counts().connections, 0);
}

#[test]
fn orders_wait_while_a_mailbox_is_full_but_a_stop_does_not() {
    let mut rig = Rig::new(2, small_mailboxes(), SlowConsumer::Disconnect);
    let publish = |number: u64| {
        Control::from(Publication {
            user: "server".into(),
            target: Target::Room(ecow::eco_format!("{number}")),
            content: Bytes::from_static(b"1"),
            id: None,
        })
    };
    let mut sent = 0;
    while rig.controls[0].send(publish(sent)).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "what the shard cannot pass on piles up");
        if sent % 500 == 0 {
            rig.rest(0);
        }
    }
    let mut rounds = 0;
    while rig
        .shards
        .iter()
        .map(|shard| shard.counts().hub.rooms)
        .sum::<u64>()
        < sent
    {
        rig.rest(1);
        rig.advance_ms(1);
        rig.rest(0);
        rounds += 1;
        assert!(rounds < 1000, "orders were lost");
    }

    for number in sent..sent + 500 {
        rig.controls[0].send(publish(number)).unwrap();
    }
    rig.rest(0);
    assert!(rig.core().post.is_blocked());
    let plan = StopPlan {
        window_ms: 0,
        stop_ms_max: 50,
        reconnect_after_ms: 0,
    };
    rig.controls[0].send(Control::Stop(plan)).unwrap();
    assert_eq!(rig.rest(0), None);
}

#[test]
fn whoever_was_turned_away_takes_no_place() {
    let mut rig = Rig::one(Limits {
        shard_connections_max: 16,
        ..Limits::default()
    });
    let mut inside: Vec<_> = (0..16).map(|_| rig.client()).collect();
    let mut outside: Vec<_> = (0..3)
        .map(|_| SimWebSocket::connect(&rig.network, 0, "/"))
        .collect();
    rig.rest(0);
    for client in &mut outside {
        let events = client.step(usize::MAX);
        assert!(matches!(&events[..], [SimEvent::Refused(response), ..] if response.status == 503));
    }
    drop(inside.pop());
    rig.rest(0);
    let next = rig.client();
    assert_eq!(rig.stats[0].refused_full.value(), 3);
    drop((inside, outside, next));
    rig.rest(0);
    assert_eq!(rig.shards[0].counts().connections, 0);
}

#[test]
fn a_full_table_lets_wait_whom_it_cannot_answer_yet() {
    let mut rig = Rig::one(Limits {
        close_ms_max: 100,
        accepts_per_second_max: 0,
        ..Limits::default()
    });
    let _inside: Vec<_> = (0..256 - TABLE_RESERVE).map(|_| rig.client()).collect();
    // They do not read what they are told, so that each of them keeps its place for a time.
    let mut crowd = Vec::new();
    for _ in 0..TABLE_RESERVE + 8 {
        crowd.push(SimWebSocket::connect(&rig.network, 0, "/"));
        rig.shards[0].tick().unwrap();
    }
    for _ in 0..20 {
        rig.rest(0);
        rig.advance_ms(100);
    }
    for client in &mut crowd {
        let events = client.step(usize::MAX);
        assert!(
            matches!(&events[..], [SimEvent::Refused(response), ..] if response.status == 503),
            "{events:?}"
        );
    }
    assert_eq!(rig.stats[0].accept_errors.value(), 0);
}

#[test]
fn a_consumer_that_is_too_slow_at_once_has_its_handshake_answered() {
    let mut rig = Rig::one(Limits {
        outbox_messages_max: 16,
        ..Limits::default()
    });
    let mut client = SimWebSocket::connect(&rig.network, 0, "/");
    // All of it in one buffer, behind the request.
    for _ in 0..20 {
        client.send_text("echo x");
    }
    client.step(usize::MAX);
    rig.rest(0);
    let events = client.step(usize::MAX);
    assert!(
        matches!(
            &events[..],
            [
                SimEvent::Upgraded(_),
                SimEvent::Close {
                    code: Some(1013),
                    ..
                }
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn what_waited_to_be_decoded_goes_with_its_connection() {
    let mut rig = Rig::one(Limits {
        messages_per_second_max: 10,
        messages_burst_max: 1,
        ..Limits::default()
    });
    for name in ["first", "second"] {
        let mut client = rig.client();
        for _ in 0..5 {
            client.send_text(&format!("echo {name}"));
        }
        client.step(usize::MAX);
        let mut heard = Vec::new();
        for _ in 0..20 {
            rig.rest(0);
            heard.extend(texts(client.step(usize::MAX)));
            if name == "first" {
                break;
            }
            rig.advance_ms(50);
        }
        heard.retain(|text| !text.contains("RateLimited"));
        assert!(heard.iter().all(|text| text == name), "{heard:?}");
        client.client().reset();
        // It is not read now, so that it is gone shows when it is sent something.
        rig.advance_ms(100);
        rig.rest(0);
        assert_eq!(rig.shards[0].counts().connections, 0);
    }
}
