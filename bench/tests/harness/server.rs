//! Small servers in the test's own process that speak the plain protocol on `/rooms` and send everything back on `/echo`:
//! correct unless the test says what is to go wrong.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket, accept_hdr};

/// What becomes of one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is made.
    Deliver,
    /// It is not.
    Drop,
    /// It is made twice.
    Repeat,
    /// It is made after the next one to the same connection.
    AfterNext,
    /// It is made, and once more to a stranger: a member of another room, or another user.
    AlsoElsewhere,
    /// A stranger has it instead of its receiver.
    Elsewhere,
    /// Its receiver is closed instead, with code 1013: try again later.
    Close,
}

/// One delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    /// Which one of all that the server has made, from 0 on.
    pub(crate) number: u64,
    /// It is to one user, not to a room.
    pub(crate) direct: bool,
}

/// Decides on each delivery. It may take its time: nothing else happens meanwhile.
type Judge = Box<dyn FnMut(Delivery) -> Fate + Send>;

/// How a connection begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Welcome {
    /// As it should.
    Open,
    /// The handshake is answered with this status.
    Status(u16),
    /// The handshake succeeds, and a close frame with this code follows.
    Close(u16),
    /// The handshake succeeds, and these bytes follow.
    Bytes(&'static [u8]),
}

/// A server on a port of its own. Ends with the guard.
pub(crate) struct Server {
    address: SocketAddr,
    hall: Arc<Mutex<Hall>>,
    ends: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Server {
    /// One that does everything right.
    pub(crate) fn correct() -> Self {
        Self::with_fates(|_| Fate::Deliver)
    }

    /// One whose deliveries fare as the test decides.
    pub(crate) fn with_fates(judge: impl FnMut(Delivery) -> Fate + Send + 'static) -> Self {
        Self::start(Welcome::Open, Box::new(judge))
    }

    /// One that receives connections in its own way.
    pub(crate) fn with_welcome(welcome: Welcome) -> Self {
        Self::start(welcome, Box::new(|_| Fate::Deliver))
    }

    fn start(welcome: Welcome, judge: Judge) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let hall = Arc::new(Mutex::new(Hall::new(judge)));
        let ends = Arc::new(AtomicBool::new(false));
        let (its_hall, its_ends) = (Arc::clone(&hall), Arc::clone(&ends));
        let listener = std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                if its_ends.load(Ordering::SeqCst) {
                    return;
                }
                let hall = Arc::clone(&its_hall);
                std::thread::spawn(move || connection(number, stream, welcome, &hall));
            }
        });
        Self {
            address,
            hall,
            ends,
            listener: Some(listener),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many deliveries there were to decide on.
    pub(crate) fn deliveries(&self) -> u64 {
        lock(&self.hall).deliveries
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // Wakes the listener. Connections end with the client that made them.
        drop(TcpStream::connect(self.address));
        drop(self.listener.take().map(JoinHandle::join));
    }
}

/// All connections.
struct Hall {
    rooms: HashMap<String, Vec<Member>>,
    users: HashMap<String, Member>,
    judge: Judge,
    deliveries: u64,
    /// What waits for the next delivery to the same connection.
    held: Vec<(usize, String)>,
}

/// The sending half of a connection.
#[derive(Clone)]
struct Member {
    number: usize,
    socket: Arc<Mutex<WebSocket<TcpStream>>>,
}

impl Member {
    /// A connection that is gone takes nothing more; its reader says so to the hall.
    fn say(&self, text: &str) {
        drop(lock(&self.socket).send(Message::text(text)));
    }

    fn close(&self, code: u16) {
        drop(lock(&self.socket).close(Some(close_frame(code))));
    }
}

impl Hall {
    fn new(judge: Judge) -> Self {
        Self {
            rooms: HashMap::new(),
            users: HashMap::new(),
            judge,
            deliveries: 0,
            held: Vec::new(),
        }
    }

    /// One message of the plain protocol.
    fn hear(&mut self, member: &Member, text: &str) {
        let words: Vec<&str> = text.splitn(3, ' ').collect();
        match words[..] {
            ["login", name] => {
                self.users.insert(name.to_owned(), member.clone());
                member.say(text);
            }
            ["join", room] => {
                let members = self.rooms.entry(room.to_owned()).or_default();
                members.push(member.clone());
                member.say(text);
            }
            ["send", room, _] => {
                let other = self.rooms.iter().find(|(name, _)| *name != room);
                let stranger = other.and_then(|(_, members)| members.first().cloned());
                for receiver in self.rooms.get(room).cloned().unwrap_or_default() {
                    self.deliver(&receiver, text, false, stranger.as_ref());
                }
            }
            ["direct", name, _] => {
                let other = self.users.iter().find(|(other, _)| *other != name);
                let stranger = other.map(|(_, member)| member.clone());
                if let Some(receiver) = self.users.get(name).cloned() {
                    self.deliver(&receiver, text, true, stranger.as_ref());
                }
            }
            _ => panic!("no command of the plain protocol: {text}"),
        }
    }

    fn deliver(&mut self, receiver: &Member, text: &str, direct: bool, stranger: Option<&Member>) {
        let number = self.deliveries;
        self.deliveries += 1;
        let fate = (self.judge)(Delivery { number, direct });
        match fate {
            Fate::Deliver => receiver.say(text),
            Fate::Drop => {}
            Fate::Repeat => {
                receiver.say(text);
                receiver.say(text);
            }
            Fate::AfterNext => {
                self.held.push((receiver.number, text.to_owned()));
                return;
            }
            Fate::AlsoElsewhere => {
                receiver.say(text);
                stranger.expect("there is another").say(text);
            }
            Fate::Elsewhere => stranger.expect("there is another").say(text),
            Fate::Close => receiver.close(1013),
        }
        self.held.retain(|(number, held)| {
            let due = *number == receiver.number;
            if due {
                receiver.say(held);
            }
            !due
        });
    }

    fn leave(&mut self, number: usize) {
        for members in self.rooms.values_mut() {
            members.retain(|member| member.number != number);
        }
        self.users.retain(|_, member| member.number != number);
    }
}

/// Serves one connection until it ends, however it does.
fn connection(number: usize, mut stream: TcpStream, welcome: Welcome, hall: &Mutex<Hall>) {
    stream.set_nodelay(true).unwrap();
    if let Welcome::Status(status) = welcome {
        // Read before it is answered, as the close would otherwise reset the connection and take the answer with it.
        let mut request = [0; 4096];
        drop(std::io::Read::read(&mut stream, &mut request));
        let answer =
            format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        drop(stream.write_all(answer.as_bytes()));
        return;
    }
    let Ok(writer) = stream.try_clone() else {
        return;
    };
    let mut echoes = false;
    #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
    let note_path = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        echoes = request.uri().path() == "/echo";
        Ok(response)
    };
    let Ok(mut reader) = accept_hdr(stream, note_path) else {
        return;
    };
    match welcome {
        Welcome::Close(code) => drop(reader.close(Some(close_frame(code)))),
        Welcome::Bytes(bytes) => drop((&writer).write_all(bytes)),
        Welcome::Open | Welcome::Status(_) => {}
    }
    let member = Member {
        number,
        socket: Arc::new(Mutex::new(WebSocket::from_raw_socket(
            writer,
            Role::Server,
            None,
        ))),
    };
    while let Ok(message) = reader.read() {
        let Message::Text(text) = message else {
            continue;
        };
        let mut hall = lock(hall);
        if echoes {
            hall.deliver(&member, &text, false, None);
        } else {
            hall.hear(&member, &text);
        }
    }
    lock(hall).leave(number);
}

fn close_frame(code: u16) -> CloseFrame {
    CloseFrame {
        code: code.into(),
        reason: "".into(),
    }
}

/// A thread that panicked has failed its test by the deliveries that are missing; the others go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
