//! The plain protocol on tokio-tungstenite.
//!
//! Bound of a connection: 8,192 messages wait at most; with one more it is dropped.
//!
//! What makes it fast, in the library's own terms:
//!
//! * The multi-thread runtime, one worker a core that the process may use.
//! * A task reads and a task writes. One task that waits for both is simpler and takes 1.2 KB less a connection, but asks
//!   the reading side at each delivery whether it has anything to do, and the library clears its read buffer
//!   before it asks the socket: 1.3 µs a delivery, measured with 1,000 members.
//! * A broadcast clones `Utf8Bytes`: the text that came in is what every member sends, never copied before the
//!   socket's own write buffer.
//! * All that waits is taken at once (`recv_many`), fed, and flushed once, so what gathers behind a busy worker leaves in
//!   one system call.
//! * The read buffer is 4 KiB, as the library advises for many connections. The default, 128 KiB, is allocated for each
//!   connection and cleared again before every read.

use std::io;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;

use futures_util::future::{Abortable, ready};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use shardcast_peers::program::{self, CLOSE_WAIT};
use shardcast_peers::registry::{Outbox, Registry, Session};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// How many waiting messages are taken from the channel at once.
const BATCH_MESSAGES_MAX: usize = 256;

type Rooms = Registry<Message>;
type Socket = WebSocketStream<TcpStream>;

#[derive(Clone, Copy)]
enum Route {
    Echo,
    Rooms,
}

fn main() -> ExitCode {
    program::run_on_tokio(serve)
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let rooms = Arc::new(Rooms::default());
    program::accept_each(listener, move |stream| {
        connection(stream, Arc::clone(&rooms))
    })
    .await
}

async fn connection(stream: TcpStream, rooms: Arc<Rooms>) {
    // However a connection ends, nothing is left to do but to drop it.
    match upgrade(stream).await {
        Ok((socket, Route::Echo)) => drop(echo(socket).await),
        Ok((socket, Route::Rooms)) => converse(socket, rooms).await,
        Err(_) => {}
    }
}

// The library's callback returns a whole response where it refuses.
#[allow(clippy::result_large_err)]
async fn upgrade(stream: TcpStream) -> Result<(Socket, Route), Error> {
    let mut route = Route::Echo;
    let routed = |request: &Request, response: Response| {
        route = match request.uri().path() {
            "/echo" => Route::Echo,
            "/rooms" => Route::Rooms,
            _ => {
                let mut refusal = ErrorResponse::new(None);
                *refusal.status_mut() = StatusCode::NOT_FOUND;
                return Err(refusal);
            }
        };
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
    let socket =
        tokio_tungstenite::accept_hdr_async_with_config(stream, routed, Some(config)).await?;
    Ok((socket, route))
}

/// `forward` flushes only when no further message has come in yet.
async fn echo(socket: Socket) -> Result<(), Error> {
    let (write, read) = socket.split();
    read.try_filter(|message| ready(message.is_text() || message.is_binary()))
        .forward(write)
        .await
}

async fn converse(socket: Socket, rooms: Arc<Rooms>) {
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
    socket: &mut SplitStream<Socket>,
    mut session: Session<Message>,
) -> Result<(), Error> {
    while let Some(message) = socket.try_next().await? {
        if receive(&mut session, message).is_break() {
            let reason = Utf8Bytes::from_static("malformed message");
            session.answer(Message::Close(Some(CloseFrame {
                code: CloseCode::Unsupported,
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
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {
            ControlFlow::Continue(())
        }
    }
}

/// Sends what waits until every sender has gone.
async fn write(
    mut socket: SplitSink<Socket, Message>,
    mut waiting: mpsc::Receiver<Message>,
) -> Result<(), Error> {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MESSAGES_MAX).await > 0 {
        for message in batch.drain(..) {
            socket.feed(message).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}
