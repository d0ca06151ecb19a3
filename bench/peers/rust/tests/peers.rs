//! Every server as a process of its own, driven by tungstenite as a client: the plain protocol means the same on each.
//!
//! Deadlines are generous: they tell a hang from an answer, never a fast machine from a slow one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};

const DEADLINE: Duration = Duration::from_secs(20);

/// A running server; killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(program: &str) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim_end()
            .strip_prefix("listening on ws://")
            .unwrap()
            .to_owned();
        Self { child, address }
    }

    fn connect(&self, path: &str) -> Client {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) =
            tungstenite::client(format!("ws://{}{path}", self.address), stream).unwrap();
        Client { socket }
    }

    fn join(&self, room: &str) -> Client {
        let mut client = self.connect("/rooms");
        client.ask(&format!("join {room}"));
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

struct Client {
    socket: WebSocket<TcpStream>,
}

impl Client {
    fn say(&mut self, text: &str) {
        self.socket.send(text.into()).unwrap();
    }

    fn hear(&mut self) -> String {
        self.socket.read().unwrap().into_text().unwrap().to_string()
    }

    /// Says what the server answers with the same.
    fn ask(&mut self, text: &str) {
        self.say(text);
        assert_eq!(self.hear(), text);
    }

    fn close_code(&mut self) -> CloseCode {
        let Message::Close(Some(frame)) = self.socket.read().unwrap() else {
            panic!("no close frame with a code")
        };
        frame.code
    }
}

fn echoes_text_and_binary(server: &Server) {
    let mut client = server.connect("/echo");
    for length in [0, 1, 125, 126, 1000, 5000, 65_535, 65_536, 200_000] {
        for message in [
            Message::text("x".repeat(length)),
            Message::binary(vec![7; length]),
        ] {
            client.socket.send(message.clone()).unwrap();
            assert_eq!(client.socket.read().unwrap(), message);
        }
    }
    for number in 0..100 {
        client.socket.write(number.to_string().into()).unwrap();
    }
    client.socket.send(Message::Ping("ping".into())).unwrap();
    let mut answers: Vec<Message> = (0..101).map(|_| client.socket.read().unwrap()).collect();
    answers.retain(|answer| answer.is_text());
    assert_eq!(
        answers,
        (0..100)
            .map(|number| Message::text(number.to_string()))
            .collect::<Vec<_>>()
    );
    assert_closes_in_order(client);
}

fn delivers_to_members_alone(server: &Server) {
    let (mut ada, mut bob, mut eve) = (server.join("r"), server.join("r"), server.join("other"));
    ada.say("send r from  ada ä");
    assert_eq!(ada.hear(), "send r from  ada ä");
    assert_eq!(bob.hear(), "send r from  ada ä");
    eve.say("send r from eve");
    assert_eq!(ada.hear(), "send r from eve");
    assert_eq!(bob.hear(), "send r from eve");
    // Whatever had gone to a non-member would come before this.
    eve.ask("send other x");
    // Joining twice is joining once.
    ada.ask("join r");
    ada.ask("send r y");
    ada.ask("login ada");
    assert_eq!(bob.hear(), "send r y");
    let longest = format!("send r {}", "t".repeat(64 * 1024));
    ada.ask(&longest);
    assert_eq!(bob.hear(), longest);
}

fn delivers_direct_messages(server: &Server) {
    let (mut ada, mut bob) = (server.connect("/rooms"), server.connect("/rooms"));
    ada.ask("login ada-2");
    bob.ask("login bob-2");
    bob.say("direct ada-2 hello");
    bob.say("direct nobody hello");
    assert_eq!(ada.hear(), "direct ada-2 hello");
    ada.ask("direct ada-2 to myself");
    bob.ask("direct bob-2 to myself");
    // A name belongs to the latest, whether the one before has been missed yet or not.
    drop(ada);
    let mut next = server.connect("/rooms");
    next.ask("login ada-2");
    bob.say("direct ada-2 again");
    assert_eq!(next.hear(), "direct ada-2 again");
}

fn keeps_the_order(server: &Server) {
    let (mut ada, mut bob) = (server.join("order"), server.join("order"));
    for number in 0..1000 {
        ada.socket
            .write(format!("send order {number}").into())
            .unwrap();
    }
    ada.socket.flush().unwrap();
    for number in 0..1000 {
        let expected = format!("send order {number}");
        assert_eq!(ada.hear(), expected);
        assert_eq!(bob.hear(), expected);
    }
}

fn closes_on_what_is_no_command(server: &Server) {
    for message in [
        Message::text("leave r"),
        Message::text("join a/b"),
        Message::text("send r "),
        Message::text(format!("send r {}", "t".repeat(64 * 1024 + 1))),
        Message::binary("join r"),
    ] {
        let mut client = server.join("bad");
        client.socket.send(message).unwrap();
        assert_eq!(client.close_code(), CloseCode::Unsupported);
        assert!(matches!(client.socket.read(), Err(Error::ConnectionClosed)));
    }
    // What was answered before the bad message still comes.
    let mut client = server.connect("/rooms");
    client.socket.write("join first".into()).unwrap();
    client.say("bad");
    assert_eq!(client.hear(), "join first");
    assert_eq!(client.close_code(), CloseCode::Unsupported);
}

fn forgets_members_that_leave(server: &Server) {
    let (mut ada, bob, eve) = (
        server.join("left"),
        server.join("left"),
        server.join("left"),
    );
    assert_closes_in_order(bob);
    drop(eve);
    for number in 0..100 {
        ada.ask(&format!("send left {number}"));
    }
    // The room of the last member that leaves is a new one for the next.
    drop(ada);
    server.join("left").ask("send left x");
}

/// A member that does not read is dropped when its bound is exceeded, and the others miss nothing.
fn drops_a_member_that_does_not_read(server: &Server) {
    const ROUND: usize = 400;
    let (mut quick, mut slow) = (server.join("slow"), server.join("slow"));
    let text = format!("send slow {}", "t".repeat(2000));
    for _ in 0..50 {
        for _ in 0..ROUND {
            quick.socket.write(text.as_str().into()).unwrap();
        }
        quick.socket.flush().unwrap();
        for _ in 0..ROUND {
            assert_eq!(quick.hear(), text);
        }
    }
    let mut heard = 0;
    let end = loop {
        match slow.socket.read() {
            Ok(message) => assert_eq!(message.into_text().unwrap(), text),
            Err(end) => break end,
        }
        heard += 1;
    };
    assert!(heard < 50 * ROUND);
    let timed_out =
        matches!(&end, Error::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!timed_out, "the connection is still open");
}

fn refuses_other_paths(server: &Server) {
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let failure =
        tungstenite::client(format!("ws://{}/other", server.address), stream).unwrap_err();
    let tungstenite::HandshakeError::Failure(Error::Http(response)) = failure else {
        panic!("{failure}")
    };
    assert_eq!(response.status(), 404);
}

fn assert_closes_in_order(mut client: Client) {
    client.socket.close(None).unwrap();
    let end = loop {
        match client.socket.read() {
            Ok(message) => assert!(message.is_close(), "{message:?}"),
            Err(end) => break end,
        }
    };
    assert!(matches!(end, Error::ConnectionClosed), "{end}");
}

/// One module a server, with every property as a test of its own.
macro_rules! properties_of {
    ($server:ident, $program:literal: $($property:ident)*) => {
        mod $server {
            $(
                #[test]
                fn $property() {
                    super::$property(&super::Server::start(env!(concat!("CARGO_BIN_EXE_", $program))));
                }
            )*
        }
    };
    ($($server:ident = $program:literal)*) => {
        $(
            properties_of!($server, $program:
                echoes_text_and_binary delivers_to_members_alone delivers_direct_messages keeps_the_order
                closes_on_what_is_no_command forgets_members_that_leave drops_a_member_that_does_not_read refuses_other_paths);
        )*
    };
}

properties_of! {
    tokio_tungstenite = "peer-tokio-tungstenite"
    axum = "peer-axum"
    fastwebsockets = "peer-fastwebsockets"
    floor = "floor"
}

#[test]
fn arguments_are_checked() {
    for arguments in [
        &[] as &[&str],
        &["--listen", "nonsense"],
        &["--listen", "127.0.0.1:0", "more"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_floor"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success());
        assert!(
            String::from_utf8(output.stderr)
                .unwrap()
                .contains("--listen ADDRESS:PORT")
        );
    }
}
