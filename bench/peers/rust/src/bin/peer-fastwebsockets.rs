//! The plain protocol on fastwebsockets, upgraded by hyper.
//!
//! Bound of a connection: 8,192 frames wait at most; with one more it is dropped.
//!
//! What makes it fast, in the library's own terms:
//!
//! * The multi-thread runtime, one worker a core that the process may use.
//! * The library's defaults unmask in place as frames are read, and write payloads beyond 1 KiB as vectors; both are
//!   what its documentation advises. `/echo` is the library's own example, unconstrained task included.
//! * A broadcast is framed once (`Frame::write`), and all members share the bytes. The library writes each frame to the
//!   socket by itself, so the writer here writes the frames: one alone as it is, several that wait as one write.
//! * After the upgrade the bare TCP stream is taken back from hyper and split into its owned halves, which share
//!   nothing but a count, where `tokio::io::split` of the upgraded stream would lock and call through a pointer.
//! * A task reads and a task writes, so that a delivery does not ask the reading side whether it has anything to do.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{self, Cursor};
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use fastwebsockets::upgrade::{self, UpgradeFut};
use fastwebsockets::{
    CloseCode, FragmentCollector, FragmentCollectorRead, Frame, OpCode, Payload, Role,
    WebSocketError,
};
use futures_util::future::Abortable;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use shardcast_peers::program::{self, CLOSE_WAIT};
use shardcast_peers::registry::{Outbox, Registry, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Chain};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// How many waiting frames are taken from the channel, and written, at once.
const BATCH_FRAMES_MAX: usize = 256;

type Rooms = Registry<Bytes>;
/// What hyper has read beyond the request comes first.
type Reader = FragmentCollectorRead<Chain<Cursor<Bytes>, OwnedReadHalf>>;

fn main() -> ExitCode {
    program::run_on_tokio(serve)
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let rooms = Arc::new(Rooms::default());
    program::accept_each(listener, move |stream| {
        let rooms = Arc::clone(&rooms);
        async move {
            let answer = service_fn(|request| ready(Ok::<_, Infallible>(respond(request, &rooms))));
            let http = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // However a connection ends, nothing is left to do but to drop it.
            drop(http.with_upgrades().await);
        }
    })
    .await
}

fn respond(mut request: Request<Incoming>, rooms: &Arc<Rooms>) -> Response<Empty<Bytes>> {
    let for_rooms = match request.uri().path() {
        "/echo" => false,
        "/rooms" => true,
        _ => return refusal(StatusCode::NOT_FOUND),
    };
    let Ok((response, upgrade)) = upgrade::upgrade(&mut request) else {
        return refusal(StatusCode::BAD_REQUEST);
    };
    if for_rooms {
        tokio::spawn(converse(upgrade, Arc::clone(rooms)));
    } else {
        tokio::spawn(tokio::task::unconstrained(echo(upgrade)));
    }
    response
}

fn refusal(status: StatusCode) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}

async fn echo(upgrade: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgrade.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            OpCode::Ping | OpCode::Pong | OpCode::Continuation => {}
        }
    }
}

async fn converse(upgrade: UpgradeFut, rooms: Arc<Rooms>) {
    // However a connection ends, nothing is left to do but to drop it.
    let Ok((mut reader, stream)) = split(upgrade).await else {
        return;
    };
    let (outbox, inbox) = Outbox::new();
    // The writer is what a full outbox ends: it may be waiting for the socket for ever.
    let mut writer = tokio::spawn(Abortable::new(
        write(stream, inbox.messages),
        inbox.registration,
    ));
    tokio::select! {
        biased;
        _ = read(&mut reader, Session::new(rooms, outbox)) => {}
        _ = &mut writer => return,
    }
    // The last sender went with the session, so the writer comes to an end when all is written. A socket that is
    // closed with bytes unread is reset, and the peer might never see a close frame.
    let rest = async { while reader.read_frame(&mut discard).await.is_ok() {} };
    tokio::time::timeout(CLOSE_WAIT, rest).await.unwrap_or(());
    writer.abort();
}

/// Takes the TCP stream back from hyper.
async fn split(upgrade: UpgradeFut) -> Result<(Reader, OwnedWriteHalf), WebSocketError> {
    let upgraded = upgrade.await?.into_inner().into_inner();
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return Err(WebSocketError::ConnectionClosed);
    };
    let (read_half, write_half) = parts.io.into_inner().into_split();
    let unread = Cursor::new(parts.read_buf).chain(read_half);
    // The writing half of the library goes unused: frames are written whole, see the head of this file.
    let (reader, _) =
        fastwebsockets::after_handshake_split(unread, tokio::io::sink(), Role::Server);
    Ok((FragmentCollectorRead::new(reader), write_half))
}

/// Reads until the peer closes or sends what is not of the protocol; then the last thing queued is a close frame.
async fn read(reader: &mut Reader, mut session: Session<Bytes>) -> Result<(), WebSocketError> {
    loop {
        let mut obliged = |frame| {
            session.answer(framed(frame));
            ready(Ok::<_, Infallible>(()))
        };
        let frame = reader.read_frame(&mut obliged).await?;
        let good = match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text => receive(&mut session, &frame.payload),
            OpCode::Ping | OpCode::Pong | OpCode::Continuation => true,
            OpCode::Binary => false,
        };
        if !good {
            session.answer(framed(Frame::close(
                CloseCode::Unsupported.into(),
                b"malformed message",
            )));
            return Ok(());
        }
    }
}

/// Whether the message is one of the protocol.
fn receive(session: &mut Session<Bytes>, payload: &[u8]) -> bool {
    // The library has found the text to be UTF-8 and hands out bytes nevertheless.
    let Ok(text) = std::str::from_utf8(payload) else {
        return false;
    };
    session
        .receive(text, || framed(Frame::text(Payload::Borrowed(payload))))
        .is_ok()
}

/// The frame as bytes, as a server sends them.
fn framed(mut frame: Frame<'_>) -> Bytes {
    let mut bytes = Vec::new();
    let length = frame.write(&mut bytes).len();
    bytes.truncate(length);
    bytes.into()
}

fn discard(_: Frame<'_>) -> Ready<Result<(), Infallible>> {
    ready(Ok(()))
}

/// Writes what waits until every sender has gone and all is written. The stream's direction ends with its half.
async fn write(mut stream: OwnedWriteHalf, mut waiting: mpsc::Receiver<Bytes>) -> io::Result<()> {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_FRAMES_MAX).await > 0 {
        match batch.as_slice() {
            [alone] => stream.write_all(alone).await?,
            several => stream.write_all(&several.concat()).await?,
        }
        batch.clear();
    }
    Ok(())
}
