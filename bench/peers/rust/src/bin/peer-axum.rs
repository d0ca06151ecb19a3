//! The plain protocol on axum's WebSockets.
//!
//! Bound of a connection: 8,192 messages wait at most; with one more it is dropped.
//!
//! axum's WebSockets are tokio-tungstenite behind hyper, so the choices are those of the server on tokio-tungstenite: the
//! multi-thread runtime, a task that reads and a task that writes for each connection on `/rooms`, broadcasts that clone
//! `Utf8Bytes`, all that waits fed and flushed once, and a read buffer of 4 KiB instead of 128 KiB.
//! `TCP_NODELAY` is set as axum documents it, by `tap_io`.

use std::io;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::future::{Abortable, ready};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use shardcast_peers::program::{self, CLOSE_WAIT};
use shardcast_peers::registry::{Outbox, Registry, Session};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How many waiting messages are taken from the channel at once.
const BATCH_MESSAGES_MAX: usize = 256;

/// Allocated for each connection and cleared before every read; the library's 128 KiB are for few, busy connections.
const READ_BUFFER_BYTES: usize = 4 * 1024;

type Rooms = Registry<Message>;

fn main() -> ExitCode {
    program::run_on_tokio(serve)
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let router = Router::new()
        .route("/echo", any(upgrade_to_echo))
        .route("/rooms", any(upgrade_to_rooms))
        .with_state(Arc::new(Rooms::default()));
    // A socket that cannot be set is one that has gone already.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, router).await
}

async fn upgrade_to_echo(upgrade: WebSocketUpgrade) -> Response {
    // However a connection ends, nothing is left to do but to drop it.
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .on_upgrade(async |socket| drop(echo(socket).await))
}

async fn upgrade_to_rooms(upgrade: WebSocketUpgrade, State(rooms): State<Arc<Rooms>>) -> Response {
    upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .on_upgrade(async |socket| converse(socket, rooms).await)
}

/// `forward` flushes only when no further message has come in yet.
async fn echo(socket: WebSocket) -> Result<(), axum::Error> {
    let (write, read) = socket.split();
    let messages =
        read.try_filter(|message| ready(matches!(message, Message::Text(_) | Message::Binary(_))));
    messages.forward(write).await
}

async fn converse(socket: WebSocket, rooms: Arc<Rooms>) {
    let (outbox, inbox) = Outbox::new();
    let (write_half, mut read_half) = socket.split();
    // The writer is what a full outbox ends: it may be waiting for the socket for ever.
    let mut writer = tokio::spawn(Abortable::new(
        write(write_half, inbox.messages),
        inbox.registration,
    ));
    tokio::select! {
        biased;
        _ = read(&mut read_half, Session::new(rooms, outbox)) => {}
        _ = &mut writer => return,
    }
    // The last sender went with the session, so the writer comes to an end when all is written. A socket that is
    // closed with bytes unread is reset, and the peer might never see a close frame.
    let rest = async { while let Some(Ok(_)) = read_half.next().await {} };
    tokio::time::timeout(CLOSE_WAIT, rest).await.unwrap_or(());
    writer.abort();
}

/// Reads until the peer closes or sends what is not of the protocol; then the last thing queued is a close frame.
async fn read(
    socket: &mut SplitStream<WebSocket>,
    mut session: Session<Message>,
) -> Result<(), axum::Error> {
    while let Some(message) = socket.try_next().await? {
        if receive(&mut session, message).is_break() {
            let reason = Utf8Bytes::from_static("malformed message");
            session.answer(Message::Close(Some(CloseFrame {
                code: close_code::UNSUPPORTED,
                reason,
            })));
            break;
        }
    }
    Ok(())
}

/// Breaks where the message is not one of the protocol. The library answers pings and closes by itself.
fn receive(session: &mut Session<Message>, message: Message) -> ControlFlow<()> {
    match &message {
        Message::Text(text) => match session.receive(text, || message.clone()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        },
        Message::Binary(_) => ControlFlow::Break(()),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => ControlFlow::Continue(()),
    }
}

/// Sends what waits until every sender has gone.
async fn write(
    mut socket: SplitSink<WebSocket, Message>,
    mut waiting: mpsc::Receiver<Message>,
) -> Result<(), axum::Error> {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MESSAGES_MAX).await > 0 {
        for message in batch.drain(..) {
            socket.feed(message).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}
