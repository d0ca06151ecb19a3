//! What a run says of itself while it runs, on standard error: one line that is rewritten on a terminal, a plain line now
//! and then elsewhere, nothing when it is to be quiet.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{ProgressBar, ProgressStyle};

use super::units;

/// Time between two lines where there is no terminal to rewrite one on.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// How a run goes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tick {
    /// Connections open.
    pub connections: u64,
    /// Messages sent a second; absent in a phase that sends none.
    pub messages_per_s: Option<f64>,
    /// Deliveries a second; absent in a phase that has none.
    pub deliveries_per_s: Option<f64>,
    /// p99 of the last second, in microseconds.
    pub p99_us: Option<f64>,
    /// Seconds until the phase ends, where that is known.
    pub left_s: Option<f64>,
}

/// The progress line of one run. It goes when it is finished or dropped.
pub struct Progress {
    output: Output,
    workload: String,
    phase: String,
}

enum Output {
    Quiet,
    Terminal(ProgressBar),
    Plain {
        writer: Box<dyn Write + Send>,
        /// When the last line of numbers was written.
        written: Option<Instant>,
    },
}

impl Progress {
    /// The progress of a run of `workload`, on standard error.
    #[must_use]
    pub fn new(workload: &str, quiet: bool) -> Self {
        let output = if quiet {
            Output::Quiet
        } else if Term::stderr().is_term() {
            Output::Terminal(line())
        } else {
            Output::plain(Box::new(io::stderr()))
        };
        Self::on(output, workload)
    }

    fn on(output: Output, workload: &str) -> Self {
        Self {
            output,
            workload: workload.to_owned(),
            phase: String::new(),
        }
    }

    /// Says that another part of the run begins, such as `ramp`.
    pub fn phase(&mut self, phase: &str) {
        phase.clone_into(&mut self.phase);
        let text = format!("{} · {phase}", self.workload);
        match &mut self.output {
            Output::Quiet => {}
            Output::Terminal(line) => line.set_message(text),
            Output::Plain { writer, written } => {
                say(writer, &text);
                *written = None;
            }
        }
    }

    /// Says how it goes. Call it as often as the numbers change; lines are no more frequent than a reader can use.
    pub fn tick(&mut self, tick: &Tick) {
        self.tick_at(tick, Instant::now());
    }

    fn tick_at(&mut self, tick: &Tick, now: Instant) {
        let text = || format!("{} · {} · {}", self.workload, self.phase, describe(tick));
        match &mut self.output {
            Output::Quiet => {}
            Output::Terminal(line) => line.set_message(text()),
            Output::Plain { writer, written } => {
                let due = written.is_none_or(|last| now.duration_since(last) >= PLAIN_INTERVAL);
                if due {
                    say(writer, &text());
                    *written = Some(now);
                }
            }
        }
    }

    /// A line that stays, above the one that is rewritten.
    pub fn note(&mut self, note: &str) {
        match &mut self.output {
            Output::Quiet => {}
            Output::Terminal(line) => line.println(note),
            Output::Plain { writer, .. } => say(writer, note),
        }
    }

    /// Takes the line away, as the report follows.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Output::Terminal(line) = &self.output {
            line.finish_and_clear();
        }
    }
}

impl Output {
    fn plain(writer: Box<dyn Write + Send>) -> Self {
        Self::Plain {
            writer,
            written: None,
        }
    }
}

/// A line that indicatif rewrites in place and cuts at the terminal's width.
fn line() -> ProgressBar {
    let line = ProgressBar::no_length();
    // The template is constant; were it refused, indicatif's own would show the same message.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        line.set_style(style);
    }
    line.enable_steady_tick(Duration::from_millis(120));
    line
}

/// The numbers of a moment; those that are not known are left out.
fn describe(tick: &Tick) -> String {
    let parts = [
        Some(format!("{} connections", units::count(tick.connections))),
        tick.messages_per_s
            .map(|rate| format!("{} messages/s", units::significant(rate))),
        tick.deliveries_per_s
            .map(|rate| format!("{} deliveries/s", units::significant(rate))),
        tick.p99_us
            .map(|p99_us| format!("p99 {}", units::duration_us(p99_us))),
        tick.left_s
            .map(|left_s| format!("{:.0} s left", left_s.max(0.0))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// Writes a line. Nobody is told if that fails: whoever closed standard error does not want to know.
fn say(writer: &mut Box<dyn Write + Send>, text: &str) {
    let _closed = writeln!(writer, "{}", units::printable(text));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().unwrap().clone();
            let text = String::from_utf8(bytes).unwrap().replace('\u{a0}', " ");
            text.lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn without_a_terminal_a_line_is_written_now_and_then() {
        let written = Written::default();
        let mut progress = Progress::on(Output::plain(Box::new(written.clone())), "rooms");
        let tick = Tick {
            connections: 10_000,
            messages_per_s: Some(100.0),
            deliveries_per_s: Some(10_000.0),
            p99_us: Some(812.0),
            left_s: Some(41.6),
        };
        let begun = Instant::now();
        progress.phase("measuring");
        for second in 0..10 {
            progress.tick_at(&tick, begun + Duration::from_secs(second));
        }
        progress.note("the server closed 3 connections");
        progress.finish();
        let line = "rooms · measuring · 10,000 connections · 100 messages/s · 10,000 deliveries/s · p99 812 µs · 42 s left";
        assert_eq!(
            written.lines(),
            [
                "rooms · measuring",
                line,
                line,
                "the server closed 3 connections"
            ]
        );
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let tick = Tick {
            connections: 5,
            ..Tick::default()
        };
        assert_eq!(describe(&tick), "5 connections");
    }
}
