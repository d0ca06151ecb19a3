//! The engine as a program embeds it, where things go wrong in the program's own part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use shardcast::config::Config;
use shardcast::engine::Engine;
use shardcast_shard::app::{Admission, App, Context};
use shardcast_shard::driver::ConnectionKey;
use shardcast_shard::hub::Event;
use shardcast_shard::ws::{Message, MessageKind, Refusal, UpgradeRequest};

/// Ends its shard with the first message.
struct Crashing;

impl App for Crashing {
    fn on_upgrade(
        &mut self,
        _: &mut Context<'_>,
        _: &UpgradeRequest<'_>,
    ) -> Result<Admission, Refusal> {
        Ok(Admission::of("ada"))
    }

    fn on_message(&mut self, context: &mut Context<'_>, _: ConnectionKey, _: Message<'_>) {
        context.crash_shard().unwrap();
    }

    fn encode(&mut self, _: &Event, _: &mut Vec<u8>) -> Option<MessageKind> {
        None
    }
}

/// Fails instead of waiting for ever.
fn in_time<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, answer) = mpsc::channel();
    thread::spawn(move || sender.send(call()));
    answer
        .recv_timeout(Duration::from_secs(20))
        .expect("it hangs")
}

fn engine(address: SocketAddr) -> Engine {
    Engine::with_config(Config::default())
        .listen(address)
        .shards(2)
}

#[test]
fn an_engine_that_does_not_start_leaves_nothing_behind() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let error = in_time(move || {
        let started = engine(address).start(|shard| {
            assert!(shard == 0, "the second shard has no application");
            Crashing
        });
        started.err().map(|error| error.to_string())
    });
    let error = error.expect("it started without an application");
    assert!(
        error.contains("the second shard has no application"),
        "{error}"
    );
    assert!(
        TcpStream::connect(address).is_err(),
        "the first shard goes on"
    );
}

#[test]
fn a_shard_that_cannot_come_back_does_not_hold_up_a_stop() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let any = "127.0.0.1:0".parse().unwrap();
    let running = engine(any)
        .start(move |_| {
            assert!(
                count.fetch_add(1, Ordering::Relaxed) < 2,
                "no third application"
            );
            Crashing
        })
        .unwrap();
    let (mut socket, _) = tungstenite::connect(format!("ws://{}/", running.address())).unwrap();
    socket.send("crash".into()).unwrap();
    assert!(socket.read().is_err());
    // Some of the attempts to bring it back.
    in_time(move || {
        while made.load(Ordering::Relaxed) < 5 {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let summary = in_time(move || running.stop());
    assert_eq!(summary.connections, 1);
}

#[test]
fn a_second_engine_does_not_share_the_address() {
    let any = "127.0.0.1:0".parse().unwrap();
    let running = engine(any).start(|_| Crashing).unwrap();
    let address = running.address();
    let second = engine(address).start(|_| Crashing);
    let error = second.err().map(|error| error.to_string());
    assert!(
        error.is_some_and(|error| error.contains("cannot listen on")),
        "clients would reach one or the other"
    );
    let _summary = running.stop();
    // The address is free at once, also where connections to it were closed from here.
    let again = engine(address).start(|_| Crashing).unwrap();
    let _summary = again.stop();
}
