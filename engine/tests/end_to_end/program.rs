//! The commands of the binary that talk to a server, as processes.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use crate::client::PATIENCE;

/// A command without anything of ours in its environment.
pub(crate) fn shardcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHARDCAST_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a command has done.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Done {
    /// What it has printed, where it has succeeded.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// What it has said, where it has left with this code.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        self.error
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            error: text(output.stderr),
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Done {
    let output = shardcast(arguments).output();
    output.expect("the binary can be run").into()
}

/// The same with something to read.
pub(crate) fn run_with_input(arguments: &[&str], input: &str) -> Done {
    let mut child = shardcast(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be run");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin
        .write_all(input.as_bytes())
        .expect("it reads its input");
    drop(stdin);
    child.wait_with_output().expect("it ends").into()
}

/// A command that runs beside the test. It ends with the guard.
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// All lines that were looked at.
    seen: Vec<String>,
}

impl Program {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = shardcast(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let (sender, lines) = channel();
        let forward = |stream: Box<dyn Read + Send>| {
            let sender = sender.clone();
            thread::spawn(move || {
                let lines = BufReader::new(stream).lines();
                for line in lines.map_while(Result::ok) {
                    // Nobody looks any more.
                    let _ = sender.send(line);
                }
            });
        };
        forward(Box::new(child.stdout.take().expect("it is piped")));
        forward(Box::new(child.stderr.take().expect("it is piped")));
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Gives it a line to read.
    pub(crate) fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        writeln!(stdin, "{line}").expect("it reads its input");
    }

    /// Waits for a line that has this in it, on either stream.
    pub(crate) fn expect(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no line with {part}: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended before {part}: {:#?}", self.seen)
                }
            }
        }
    }

    /// All lines that were looked at so far.
    pub(crate) fn seen(&self) -> &[String] {
        &self.seen
    }

    /// Ends its input, and waits for its end. Tells its code and all that it has printed.
    pub(crate) fn finish(mut self) -> (Option<i32>, Vec<String>) {
        drop(self.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        let mut seen = std::mem::take(&mut self.seen);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {seen:#?}"),
            }
        }
        let status = self.child.wait().expect("it is ours");
        (status.code(), seen)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
