//! A backend for webhooks: a plain HTTP/1.1 server in threads of the test, which keeps what it was sent and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::certificate::Certificate;
use crate::client::PATIENCE;
use crate::server::Server;

/// A request that came whole.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) body: Value,
    /// The status that it was answered with.
    pub(crate) status: u16,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The events in it; none where it is a question.
    pub(crate) fn events(&self) -> &[Value] {
        self.body.as_array().map_or(&[], Vec::as_slice)
    }
}

/// What a backend does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16, String),
    /// Never, until the client gives up.
    Hang,
}

impl Reply {
    pub(crate) fn ok(body: impl ToString) -> Self {
        Self::Status(200, body.to_string())
    }
}

type Replies = dyn Fn(&Value) -> Reply + Send;

/// What all threads of a backend share.
struct State {
    requests: Mutex<Vec<Request>>,
    replies: Mutex<Box<Replies>>,
    streams: Mutex<Vec<TcpStream>>,
    tls: Option<Arc<ServerConfig>>,
}

/// See the module.
pub(crate) struct Backend {
    address: SocketAddr,
    state: Arc<State>,
    listening: Option<Listening>,
}

struct Listening {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Backend {
    /// One that answers everything with an empty 200, on an address that no client is given by chance.
    pub(crate) fn start() -> Self {
        Self::with(None)
    }

    /// The same over TLS.
    pub(crate) fn start_tls(certificate: &Certificate) -> Self {
        Self::with(Some(certificate.server_config()))
    }

    fn with(tls: Option<Arc<ServerConfig>>) -> Self {
        let state = State {
            requests: Mutex::default(),
            replies: Mutex::new(Box::new(|_| Reply::ok(""))),
            streams: Mutex::default(),
            tls,
        };
        // The certificate is one of `localhost`.
        let host = if state.tls.is_some() { 1 } else { 9 };
        let mut backend = Self {
            address: SocketAddr::from(([127, 0, 0, host], 0)),
            state: Arc::new(state),
            listening: None,
        };
        backend.up();
        backend
    }

    /// Says what becomes of requests from now on.
    pub(crate) fn reply(&self, replies: impl Fn(&Value) -> Reply + Send + 'static) {
        *self.state.replies.lock().unwrap() = Box::new(replies);
    }

    pub(crate) fn url(&self) -> String {
        match self.state.tls {
            Some(_) => format!("https://localhost:{}/hook", self.address.port()),
            None => format!("http://{}/hook", self.address),
        }
    }

    /// Whoever connects is refused, and whoever is connected is cut off.
    pub(crate) fn down(&mut self) {
        if let Some(Listening { ends, thread }) = self.listening.take() {
            ends.store(true, Ordering::Relaxed);
            // Wakes it.
            drop(TcpStream::connect(self.address));
            thread.join().unwrap();
        }
        for stream in self.state.streams.lock().unwrap().drain(..) {
            // Where the client was first there is nothing to cut off.
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }

    /// On the same address as before.
    pub(crate) fn up(&mut self) {
        let listener = TcpListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        let ends = Arc::new(AtomicBool::new(false));
        let (state, over) = (Arc::clone(&self.state), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.unwrap();
                let mut streams = state.streams.lock().unwrap();
                streams.push(stream.try_clone().unwrap());
                let state = Arc::clone(&state);
                thread::spawn(move || match &state.tls {
                    None => serve(&state, stream),
                    Some(tls) => {
                        let session = ServerConnection::new(Arc::clone(tls)).unwrap();
                        serve(&state, StreamOwned::new(session, stream));
                    }
                });
            }
        });
        self.listening = Some(Listening { ends, thread });
    }

    /// All requests so far, in the order of their answers.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// All events that were taken so far, in order.
    pub(crate) fn events(&self) -> Vec<Value> {
        let requests = self.requests();
        let taken = requests.iter().filter(|request| request.status == 200);
        taken
            .flat_map(|request| request.events().to_vec())
            .collect()
    }

    /// All questions of a kind so far.
    pub(crate) fn questions(&self, kind: &str) -> Vec<Value> {
        let requests = self.requests().into_iter();
        let bodies = requests.map(|request| request.body);
        bodies.filter(|body| body["type"] == kind).collect()
    }

    /// Waits until the events that were taken fit.
    pub(crate) fn await_events(&self, what: &str, fit: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.events();
            if fit(&events) {
                return events;
            }
            assert!(Instant::now() < deadline, "no {what} in {events:#?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.down();
    }
}

/// One connection, until it ends.
fn serve(state: &State, stream: impl Read + Write) {
    let mut reader = BufReader::new(stream);
    while let Some((headers, text)) = read(&mut reader) {
        let body: Value = serde_json::from_str(&text).expect("a webhook is JSON");
        let reply = (state.replies.lock().unwrap())(&body);
        let Reply::Status(status, answer) = reply else {
            // Until the client closes.
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).ok();
            return;
        };
        let request = Request {
            headers,
            text,
            body,
            status,
        };
        state.requests.lock().unwrap().push(request);
        let response = format!(
            "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        );
        let out = reader.get_mut();
        if out.write_all(response.as_bytes()).is_err() || out.flush().is_err() {
            return;
        }
    }
}

/// One request: its headers, with names in lower case, and its body.
fn read(reader: &mut BufReader<impl Read>) -> Option<(Vec<(String, String)>, String)> {
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(": ") else {
            assert_eq!(line, "POST /hook HTTP/1.1");
            continue;
        };
        let name = name.to_ascii_lowercase();
        if name == "content-length" {
            length = value.parse().expect("a length is a number");
        }
        headers.push((name, value.to_owned()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((headers, String::from_utf8(body).expect("JSON is UTF-8")))
}

/// A server of two shards whose webhooks go to the backend.
pub(crate) fn server(backend: &Backend, arguments: &[&str]) -> Server {
    let url = backend.url();
    let own = ["--shards", "2", "--webhook-url", &url];
    Server::start_with_faults(&[&own, arguments].concat())
}

/// Events of a kind, in order.
pub(crate) fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .collect()
}

/// How many there are.
pub(crate) fn count(events: &[Value], kind: &str) -> usize {
    of_kind(events, kind).len()
}

/// What one of the counters says in the log at the end.
pub(crate) fn counted(server: &Server, counter: &str) -> u64 {
    let output = server.output();
    let line = output
        .iter()
        .find(|line| line.contains("webhooks have ended"))
        .unwrap_or_else(|| panic!("the counters are missing: {output:#?}"));
    let (_, rest) = line.split_once(&format!("{counter}=")).unwrap();
    rest.split(' ').next().unwrap().trim().parse().unwrap()
}

/// Waits for a line of the log that has all of the parts.
pub(crate) fn await_line(server: &Server, parts: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    let fits = |line: &String| parts.iter().all(|part| line.contains(part));
    while !server.output().iter().any(fits) {
        assert!(
            Instant::now() < deadline,
            "no line has {parts:?}: {:#?}",
            server.output()
        );
        thread::sleep(Duration::from_millis(10));
    }
}
