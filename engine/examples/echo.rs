//! Sends every message back to whoever sent it: text and binary, on any path. No rooms, no JSON.
//!
//! `cargo run --release --example echo -- --listen 127.0.0.1:9000 --shards 2`

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Parser;
use shardcast::{
    Admission, App, ConnectionKey, Context, Engine, Event, Message, MessageKind, Refusal,
    UpgradeRequest, run_until_signalled,
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

struct Echo;

impl App for Echo {
    fn on_upgrade(
        &mut self,
        _context: &mut Context<'_>,
        _request: &UpgradeRequest<'_>,
    ) -> Result<Admission, Refusal> {
        Ok(Admission::of("echo"))
    }

    fn on_message(
        &mut self,
        context: &mut Context<'_>,
        connection: ConnectionKey,
        message: Message<'_>,
    ) {
        let payload = Bytes::copy_from_slice(message.payload);
        if context.send(connection, message.kind, payload).is_err() {
            unreachable!("one answer to a message is never too much");
        }
    }

    // Without rooms there are no events.
    fn encode(&mut self, _event: &Event, _out: &mut Vec<u8>) -> Option<MessageKind> {
        None
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    let running = Engine::new()
        .listen(options.listen)
        .configure(|config| {
            config.shards = options.shards.unwrap_or(config.shards);
            // Whoever measures an echo wants all of it.
            config.limits.messages_per_second_max = 0;
            // The largest message of the conformance suite (`scripts/autobahn.sh`).
            config.limits.message_size_max = 16 << 20;
        })
        .start(|_shard| Echo)?;
    Ok(run_until_signalled(running, "/")?)
}
