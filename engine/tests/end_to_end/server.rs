//! The program under test as a child process.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::certificate::Certificate;

/// How long the program may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// What a program prints when it is ready, before the port.
const READY: [&str; 2] = [
    "listening on ws://127.0.0.1:",
    "listening on wss://127.0.0.1:",
];

/// A running server on a port of its own. Ends with the guard, whatever happens to the test.
pub(crate) struct Server {
    child: Child,
    port: u16,
    /// What it shows clients, where connections are encrypted.
    pub(crate) certificate: Option<Certificate>,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Server {
    /// `shardcast serve` with more arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(Self::serve(arguments))
    }

    /// The same over TLS, with a certificate of its own.
    pub(crate) fn start_tls(arguments: &[&str]) -> Self {
        let certificate = Certificate::new();
        let mut command = Self::serve(arguments);
        command
            .arg("--tls-cert")
            .arg(certificate.path())
            .arg("--tls-key")
            .arg(certificate.key_path());
        let mut server = Self::spawn(command);
        server.certificate = Some(certificate);
        server
    }

    /// The same on a port that another server had.
    pub(crate) fn start_again(port: u16, arguments: &[&str]) -> Self {
        let mut command = Self::program();
        let address = format!("127.0.0.1:{port}");
        command.args(["--listen", &address]).args(arguments);
        Self::spawn(command)
    }

    /// The same with the fault hooks that only tests switch on.
    pub(crate) fn start_with_faults(arguments: &[&str]) -> Self {
        let mut command = Self::serve(arguments);
        command.env("SHARDCAST_FAULTS", "1");
        Self::spawn(command)
    }

    /// The same with the echo that the conformance suite is run against.
    pub(crate) fn start_as_echo(arguments: &[&str]) -> Self {
        let mut command = Self::serve(arguments);
        command.env("SHARDCAST_ECHO", "1");
        Self::spawn(command)
    }

    /// An example program, which cargo puts beside the binary.
    pub(crate) fn example(name: &str, arguments: &[&str]) -> Self {
        let path = example_path(name);
        assert!(
            path.exists(),
            "{} is missing: run `cargo test -p shardcast` or `cargo build --examples` first, because a run \
             of one test binary alone does not build the examples",
            path.display()
        );
        let mut command = Command::new(path);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(command)
    }

    fn serve(arguments: &[&str]) -> Command {
        let mut command = Self::program();
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        command
    }

    fn program() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
        command
            .args(["serve", "--log-format", "text"])
            // Many run at one time. Tests of the admin API give the flag.
            .env("SHARDCAST_ADMIN", "off");
        command
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let (ready_sender, ready) = channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let readers = vec![
            collect(stdout, Arc::clone(&output), ready_sender.clone()),
            collect(stderr, Arc::clone(&output), ready_sender),
        ];
        let mut server = Self {
            child,
            port: 0,
            certificate: None,
            output,
            readers,
        };
        server.port = server.await_port(&ready);
        server
    }

    fn await_port(&self, ready: &Receiver<u16>) -> u16 {
        ready.recv_timeout(START_PATIENCE).unwrap_or_else(|_| {
            panic!(
                "the program did not say `{}PORT/ws`; it printed: {:#?}",
                READY[0],
                self.output()
            )
        })
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The address for clients.
    pub(crate) fn url(&self) -> String {
        match self.certificate {
            // The certificate is one of this name.
            Some(_) => format!("wss://localhost:{}/ws", self.port),
            None => format!("ws://127.0.0.1:{}/ws", self.port),
        }
    }

    /// Every line it has printed so far, on either stream.
    pub(crate) fn output(&self) -> Vec<String> {
        self.output.lock().expect("no reader panics").clone()
    }

    /// Asks it to end, as an operator or a service manager would.
    pub(crate) fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Asks it to load again what it can, as `systemctl reload` does.
    pub(crate) fn hang_up(&self) {
        self.signal(libc::SIGHUP);
    }

    /// Takes all of its threads off their cores, wherever they are, until `proceed`.
    pub(crate) fn stop(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Ends a `stop`.
    pub(crate) fn proceed(&self) {
        self.signal(libc::SIGCONT);
    }

    #[allow(unsafe_code)]
    fn signal(&self, signal: libc::c_int) {
        let pid = i32::try_from(self.pid()).expect("process ids fit");
        // SAFETY: `kill` touches no memory, and the child has not been waited for, so the id is still its own.
        let outcome = unsafe { libc::kill(pid, signal) };
        assert_eq!(outcome, 0, "cannot signal the server");
    }

    /// Waits for its end and for all of its output.
    pub(crate) fn wait_exit(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                for reader in self.readers.drain(..) {
                    reader.join().expect("no reader panics");
                }
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the server did not end; it printed: {:#?}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where the child has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        for reader in self.readers.drain(..) {
            drop(reader.join());
        }
        if std::thread::panicking() {
            println!("the server printed: {:#?}", self.output());
        }
    }
}

/// Where cargo puts the example `name`: beside the binary, in `examples`.
fn example_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_shardcast"))
        .parent()
        .expect("a binary lies in a directory")
        .join("examples")
        .join(name)
}

/// Keeps every line of a stream and reports the port as soon as one names it.
fn collect(
    stream: impl Read + Send + 'static,
    output: Arc<Mutex<Vec<String>>>,
    ready: Sender<u16>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(port) = port_in(&line) {
                // Nobody waits any more where the same line is printed twice.
                ready.send(port).ok();
            }
            output.lock().expect("no holder panics").push(line);
        }
    })
}

fn port_in(line: &str) -> Option<u16> {
    let after = READY.iter().find_map(|ready| line.split_once(ready))?.1;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
