//! A program at a terminal: tmux plays the terminal.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::PATIENCE;

/// Between two looks at the screen.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether there is a tmux. Says so where there is none; continuous integration has to have one.
pub(crate) fn is_there() -> bool {
    let is_there = Command::new("tmux").arg("-V").output().is_ok();
    if !is_there {
        assert!(
            std::env::var_os("CI").is_none(),
            "tmux is not installed: scripts/check.sh installs it"
        );
        eprintln!("SKIPPED: tmux is not installed");
    }
    is_there
}

/// A terminal of 100 columns and 30 rows with a program on it. Its tmux server is its own and ends with it.
pub(crate) struct Tmux {
    socket: String,
}

impl Tmux {
    /// Runs a line of the shell.
    pub(crate) fn run(line: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tmux = Self {
            socket: format!("shardcast-test-{}-{number}", std::process::id()),
        };
        let size = ["-x", "100", "-y", "30"];
        let mut arguments = vec!["-f", "/dev/null", "new-session", "-d"];
        arguments.extend(size);
        arguments.push(line);
        tmux.tmux(&arguments);
        tmux
    }

    /// Types a text as it stands.
    pub(crate) fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// Presses a key by its name.
    pub(crate) fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// Types a line and enters it.
    pub(crate) fn enter(&self, line: &str) {
        self.type_text(line);
        self.press("Enter");
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &rows]);
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        let output = self.tmux(&["capture-pane", "-p"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until all of these are on the screen, and tells what is there then.
    pub(crate) fn expect(&self, parts: &[&str]) -> String {
        self.expect_where(&format!("{parts:?}"), |screen| {
            parts.iter().all(|part| screen.contains(part))
        })
    }

    /// Waits until the screen is like that.
    pub(crate) fn expect_where(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if fits(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "no {what}:\n{screen}");
            thread::sleep(PAUSE);
        }
    }

    /// The program that the shell runs.
    pub(crate) fn pid(&self) -> i32 {
        let output = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let children = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(children).expect("the shell runs");
        let child = children.split_whitespace().next();
        child
            .expect("it runs something")
            .parse()
            .expect("process ids are numbers")
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let output = Command::new("tmux")
            .args(["-u", "-L", &self.socket])
            .args(arguments)
            // What is typed in a test is no login, and nothing of ours is in its environment.
            .env_remove("TMUX")
            .env_remove("SHARDCAST_SERVER")
            .env_remove("SHARDCAST_API")
            .env("SHELL", "/bin/sh")
            .output()
            .expect("tmux can be run");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {arguments:?}: {error}");
        output
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let screen = Command::new("tmux")
                .args(["-L", &self.socket, "capture-pane", "-p"])
                .output();
            if let Ok(output) = screen {
                println!("{}", String::from_utf8_lossy(&output.stdout));
            }
        }
        // It may have ended with its program.
        drop(
            Command::new("tmux")
                .args(["-L", &self.socket, "kill-server"])
                .output(),
        );
    }
}
