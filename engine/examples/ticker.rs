//! A room server that publishes prices of its own: join the room `ticks` to get one ten times a second.
//!
//! `cargo run --release --example ticker -- --listen 127.0.0.1:9000 --shards 2`

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Parser;
use shardcast::{
    Admission, App, ConnectionKey, Context, Engine, Event, Message, MessageKind, Name, Refusal,
    Rooms, Target, UpgradeRequest, run_until_signalled,
};

#[derive(Parser)]
struct Options {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// How many shards; one per physical core where none is given.
    #[arg(long)]
    shards: Option<usize>,
}

const INTERVAL_MS: u64 = 100;

/// The rooms of the binary, and a timer on one of the shards.
struct Ticker {
    rooms: Rooms,
    price_cents: u64,
}

impl App for Ticker {
    fn on_start(&mut self, context: &mut Context<'_>) {
        // One shard publishes; members on all shards receive.
        if context.shard() == 0 {
            context.timer_after(INTERVAL_MS);
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_>) {
        self.price_cents = self.price_cents - 50 + context.random() % 101;
        let price = format!(r#"{{"symbol":"SHRD","price_cents":{}}}"#, self.price_cents);
        let room = Target::Room(Name::from("ticks"));
        if context
            .publish_from_server(Name::from("ticker"), room, Bytes::from(price))
            .is_err()
        {
            unreachable!("one message is never too much");
        }
        context.timer_after(INTERVAL_MS);
    }

    // Everything else is as in the rooms.
    fn on_upgrade(
        &mut self,
        context: &mut Context<'_>,
        request: &UpgradeRequest<'_>,
    ) -> Result<Admission, Refusal> {
        self.rooms.on_upgrade(context, request)
    }

    fn on_open(&mut self, context: &mut Context<'_>, connection: ConnectionKey, user: &Name) {
        self.rooms.on_open(context, connection, user);
    }

    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) {
        self.rooms.on_message(context, connection, message);
    }

    fn encode(&mut self, event: &Event, out: &mut Vec<u8>) -> Option<MessageKind> {
        self.rooms.encode(event, out)
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    let running = Engine::new()
        .listen(options.listen)
        .configure(|config| config.shards = options.shards.unwrap_or(config.shards))
        .start(|_shard| Ticker {
            rooms: Rooms::new(Vec::new()),
            price_cents: 100_000,
        })?;
    Ok(run_until_signalled(running, "/ws")?)
}
