//! One connection to a server, on a thread of its own: messages go in and out through bounded channels.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use tungstenite::http::{Response, Uri};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::backoff::End;
use crate::client::api::escaped;
use crate::client::text::beginning;

/// The path of a server whose address has none.
const PATH: &str = "/ws";

/// Time for a TCP connection to each address of the server.
const CONNECT_MS_MAX: u64 = 5_000;

/// Time for each exchange of a handshake.
const HANDSHAKE_MS_MAX: u64 = 10_000;

/// Time for a good-bye to leave and be answered.
const CLOSE_MS_MAX: u64 = 500;

/// Messages that wait to be written.
const WRITES_MAX: usize = 256;

/// Bytes of the text of a refused handshake that are shown.
const DETAIL_BYTES_MAX: usize = 300;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    is_secure: bool,
    host: String,
    port: u16,
    path: String,
}

impl Default for ServerUrl {
    fn default() -> Self {
        Self {
            is_secure: false,
            host: "127.0.0.1".to_owned(),
            port: 9000,
            path: PATH.to_owned(),
        }
    }
}

impl ServerUrl {
    /// Reads one.
    ///
    /// # Errors
    /// It is none; the text completes "invalid value".
    pub fn parse(text: &str) -> Result<Self, String> {
        let why = || "it must be an address such as ws://127.0.0.1:9000/ws".to_owned();
        let uri: Uri = text.parse().map_err(|_| why())?;
        let (is_secure, port) = match uri.scheme_str() {
            Some("ws") => (false, 80),
            Some("wss") => (true, 443),
            _ => return Err(why()),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            is_secure,
            host: uri.host().ok_or_else(why)?.to_owned(),
            port: uri.port_u16().unwrap_or(port),
            path: match path {
                "/" | "" => PATH,
                path => path,
            }
            .to_owned(),
        })
    }

    /// The address as it is shown.
    #[must_use]
    pub fn text(&self) -> String {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        format!("{scheme}://{}:{}{}", self.host, self.port, self.path)
    }

    /// The same with the name of a user.
    fn of_user(&self, user: Option<&str>) -> String {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        user.map_or_else(
            || self.text(),
            |user| format!("{}{separator}user={}", self.text(), escaped(user)),
        )
    }
}

/// Who connects, and whom one believes.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name, where no token says it.
    pub user: Option<String>,
    /// The file of the token. It is read for each connection, as tokens end.
    pub token: Option<PathBuf>,
    /// Certificates in place of the public authorities.
    pub authorities: Option<PathBuf>,
}

/// What a connection tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The handshake is done.
    Opened,
    /// A message.
    Text(String),
    /// The server is there.
    Alive,
    /// It is over.
    Ended(End),
}

/// What a connection tells, with the number that it was given.
pub type Telling = (u64, Heard);

/// A connection that is being made, or stands.
#[derive(Debug)]
pub struct Link {
    writes: Sender<String>,
    /// Wakes the thread: a byte for something to write, its end for the end.
    wake: UnixStream,
    thread: JoinHandle<()>,
}

impl Link {
    /// Connects. What it hears comes under `number`.
    ///
    /// # Errors
    /// The process can have no further descriptors or threads.
    pub fn open(
        number: u64,
        url: &ServerUrl,
        identity: &Identity,
        tell: Sender<Telling>,
    ) -> io::Result<Self> {
        let (writes, to_write) = bounded(WRITES_MAX);
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (url, identity) = (url.clone(), identity.clone());
        let thread = thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || {
                let end = match connect(&url, &identity) {
                    Ok(socket) => {
                        if tell.send((number, Heard::Opened)).is_err() {
                            return;
                        }
                        talk(socket, &to_write, woken, &|heard| {
                            tell.send((number, heard)).is_ok()
                        })
                    }
                    Err(end) => end,
                };
                // Whoever asked may have gone.
                drop(tell.send((number, Heard::Ended(end))));
            })?;
        Ok(Self {
            writes,
            wake,
            thread,
        })
    }

    /// Sends a message. Gives it back where too many wait.
    ///
    /// # Errors
    /// It was not taken.
    pub fn send(&self, text: String) -> Result<(), String> {
        self.writes
            .try_send(text)
            .map_err(crossbeam_channel::TrySendError::into_inner)?;
        // Where the pipe is full, the thread is being woken already.
        drop((&self.wake).write(&[0]));
        Ok(())
    }

    /// Ends it, and waits for the good-bye to leave.
    pub fn close(self) {
        drop(self.writes);
        drop(self.wake);
        let deadline = Instant::now() + Duration::from_millis(2 * CLOSE_MS_MAX);
        // One that still connects is left behind: it ends with the process.
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What a connection is carried by.
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

fn connect(url: &ServerUrl, identity: &Identity) -> Result<WebSocket<Stream>, End> {
    let lost = |error: io::Error| End::Lost(io_text(&error));
    let token = identity.token.as_deref().map(read_token).transpose();
    let token = token.map_err(End::Lost)?;
    let stream = connect_tcp(url).map_err(lost)?;
    let patience = Some(Duration::from_millis(HANDSHAKE_MS_MAX));
    stream.set_nodelay(true).map_err(lost)?;
    stream.set_read_timeout(patience).map_err(lost)?;
    stream.set_write_timeout(patience).map_err(lost)?;
    let stream = match url.is_secure {
        false => Stream::Plain(stream),
        true => {
            let session = tls(url, identity.authorities.as_deref()).map_err(End::Lost)?;
            Stream::Tls(Box::new(StreamOwned::new(session, stream)))
        }
    };
    let user = identity.user.as_deref().filter(|_| token.is_none());
    let mut request = url
        .of_user(user)
        .into_client_request()
        .map_err(|error| End::Lost(error.to_string()))?;
    if let Some(token) = token {
        let value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| End::Lost("the file of the token holds none".to_owned()))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let (socket, _) = tungstenite::client(request, stream).map_err(|error| match error {
        HandshakeError::Failure(error) => ended(error),
        HandshakeError::Interrupted(_) => End::Lost("no answer in time".to_owned()),
    })?;
    socket.get_ref().tcp().set_nonblocking(true).map_err(lost)?;
    Ok(socket)
}

fn connect_tcp(url: &ServerUrl) -> io::Result<TcpStream> {
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let mut outcome = Err(io::Error::other("the name has no address"));
    for address in (host, url.port).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, Duration::from_millis(CONNECT_MS_MAX));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The token in a file.
///
/// # Errors
/// Why there is none.
pub fn read_token(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read the token in {}: {error}", path.display()))?;
    match text.trim() {
        "" => Err(format!("{} holds no token", path.display())),
        token => Ok(token.to_owned()),
    }
}

fn tls(url: &ServerUrl, authorities: Option<&Path>) -> Result<ClientConnection, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unusable =
                |why: String| format!("cannot use the certificates in {}: {why}", path.display());
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| unusable(error.to_string()))?;
            for certificate in certificates {
                certificate
                    .map_err(|error| unusable(error.to_string()))
                    .and_then(|certificate| {
                        roots
                            .add(certificate)
                            .map_err(|error| unusable(error.to_string()))
                    })?;
            }
        }
    }
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())
}

/// Reads and writes until the connection ends or nobody wants it any more.
fn talk(
    mut socket: WebSocket<Stream>,
    to_write: &Receiver<String>,
    mut woken: UnixStream,
    tell: &dyn Fn(Heard) -> bool,
) -> End {
    let gone = || End::Lost("closed by this side".to_owned());
    loop {
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => {
                    if !tell(Heard::Text(text.as_str().to_owned())) {
                        return gone();
                    }
                }
                Ok(Message::Close(frame)) => {
                    // The answer leaves, or the server has gone without it.
                    drop(socket.flush());
                    return closed(frame.as_ref());
                }
                Ok(_) => {
                    if !tell(Heard::Alive) {
                        return gone();
                    }
                }
                Err(error) if would_block(&error) => break,
                Err(error) => return ended(error),
            }
        }
        let mut waits_to_write = false;
        loop {
            match to_write.try_recv() {
                Ok(text) => match socket.write(Message::text(text)) {
                    Ok(()) => {}
                    Err(error) if would_block(&error) => {
                        waits_to_write = true;
                        break;
                    }
                    Err(error) => return ended(error),
                },
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    say_goodbye(&mut socket);
                    return gone();
                }
            }
        }
        match socket.flush() {
            Ok(()) => {}
            Err(error) if would_block(&error) => waits_to_write = true,
            Err(error) => return ended(error),
        }
        if let Err(error) = wait(socket.get_ref().tcp(), &woken, waits_to_write, None) {
            return End::Lost(io_text(&error));
        }
        // How many bytes there are tells nothing: what is to be written waits in the channel.
        let mut bytes = [0; 64];
        while matches!(woken.read(&mut bytes), Ok(1..)) {}
    }
}

/// Waits until there is something to read, something to do or, where that is asked, room to write.
fn wait(
    tcp: &TcpStream,
    woken: &UnixStream,
    to_write: bool,
    time: Option<Duration>,
) -> io::Result<()> {
    let mut flags = PollFlags::IN;
    flags.set(PollFlags::OUT, to_write);
    let mut polled = [PollFd::new(tcp, flags), PollFd::new(woken, PollFlags::IN)];
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    match poll(&mut polled, time.as_ref()) {
        Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sends a close frame and waits for a moment until the server has answered it.
fn say_goodbye(socket: &mut WebSocket<Stream>) {
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    let time = Some(Duration::from_millis(CLOSE_MS_MAX));
    // Whatever fails here, the connection is over.
    drop(socket.get_ref().tcp().set_nonblocking(false));
    drop(socket.get_ref().tcp().set_read_timeout(time));
    drop(socket.get_ref().tcp().set_write_timeout(time));
    let deadline = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
    let mut outcome = socket.close(Some(frame)).and_then(|()| socket.flush());
    while outcome.is_ok() && Instant::now() < deadline {
        outcome = socket.read().map(drop);
    }
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

fn closed(frame: Option<&CloseFrame>) -> End {
    frame.map_or_else(
        || End::Lost("closed by the server".to_owned()),
        |frame| End::Closed {
            code: frame.code.into(),
            reason: frame.reason.to_string(),
        },
    )
}

fn ended(error: Error) -> End {
    match error {
        Error::Http(response) => refused(&response),
        Error::Io(error) => End::Lost(io_text(&error)),
        Error::ConnectionClosed | Error::AlreadyClosed => {
            End::Lost("closed by the server".to_owned())
        }
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            End::Lost("the server has gone".to_owned())
        }
        error => End::Lost(error.to_string()),
    }
}

fn refused(response: &Response<Option<Vec<u8>>>) -> End {
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.body().as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    let detail = body.trim();
    End::Refused {
        status: response.status().as_u16(),
        retry_after_s: retry_after,
        detail: beginning(detail, DETAIL_BYTES_MAX).to_owned(),
    }
}

fn io_text(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
        ErrorKind::UnexpectedEof => "the server has gone".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            ("ws://127.0.0.1:9000/ws", Some("ws://127.0.0.1:9000/ws")),
            ("ws://example", Some("ws://example:80/ws")),
            ("wss://example/", Some("wss://example:443/ws")),
            ("wss://[::1]:9443/x?y=1", Some("wss://[::1]:9443/x?y=1")),
            ("http://127.0.0.1:9000/ws", None),
            ("127.0.0.1:9000", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let parsed = ServerUrl::parse(text).ok().map(|url| url.text());
            assert_eq!(parsed.as_deref(), expected, "{text}");
        }
        assert_eq!(ServerUrl::default().text(), "ws://127.0.0.1:9000/ws");
    }

    #[test]
    fn the_user_stands_in_the_query() {
        let url = ServerUrl::parse("ws://h:1/ws").unwrap();
        assert_eq!(url.of_user(Some("a b&c")), "ws://h:1/ws?user=a%20b%26c");
        let url = ServerUrl::parse("ws://h:1/ws?x=1").unwrap();
        assert_eq!(url.of_user(Some("ada")), "ws://h:1/ws?x=1&user=ada");
        assert_eq!(url.of_user(None), "ws://h:1/ws?x=1");
    }
}
