//! The chat without a terminal: each message is a line of standard output, and each line of standard input a message to the first room.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::process::ExitCode;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, never, select};

use super::conversation::{Entry, Target};
use super::live::{Live, Standing, now_unix_ms};
use super::session::{Command, Event, SENDS_MAX, Session};
use super::{PAUSE, refusal};
use crate::client::ClientError;
use crate::client::text::{harmless, moment};

/// Lines that have been read and not said yet.
const LINES_MAX: usize = 16;

/// Bytes of a line that are read; the rest counts as a line of its own.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Talks until the end of standard input, or of the connection, or a signal.
///
/// # Errors
/// The server refuses the connection, or standard output is gone.
pub fn run(mut live: Live, follow: bool, endings: &Receiver<i32>) -> Result<ExitCode, ClientError> {
    let lines = stdin_lines();
    let room = live.session.shown().map(|room| room.target.clone());
    let (mut is_over, mut outcome) = (false, ExitCode::SUCCESS);
    let mut said = None;
    loop {
        let standing = live.standing();
        tell_standing(&live, &standing, &mut said);
        if let Some(end) = live.stopped() {
            return Err(refusal(&live, end).into());
        }
        // Lines wait where the server has not taken those before them.
        let takes_lines = !is_over && live.session.sends().len() < SENDS_MAX;
        let lines = if takes_lines { &lines } else { &never() };
        select! {
            recv(endings) -> _ => break,
            recv(lines) -> line => match line {
                Ok(line) => say(&mut live.session, room.as_ref(), line, &mut outcome),
                Err(_) => is_over = true,
            },
            recv(live.tellings()) -> telling => {
                if let Ok(telling) = telling {
                    live.handle(telling);
                }
            }
            default(PAUSE) => {}
        }
        live.tick()?;
        print_events(&mut live.session, &mut outcome)?;
        if is_over && !follow && live.session.is_settled() {
            break;
        }
    }
    live.close();
    Ok(outcome)
}

/// Lines of standard input, read on a thread of its own, which ends with the process.
fn stdin_lines() -> Receiver<String> {
    let (sender, receiver) = bounded(LINES_MAX);
    thread::spawn(move || forward_lines(&sender));
    receiver
}

fn forward_lines(sender: &Sender<String>) {
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let mut part = stdin.by_ref().take(LINE_BYTES_MAX);
        match part.read_until(b'\n', &mut line) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if sender.send(text.to_owned()).is_err() {
            return;
        }
    }
}

fn say(session: &mut Session, room: Option<&Target>, line: String, outcome: &mut ExitCode) {
    // An empty line says nothing.
    if line.is_empty() {
        return;
    }
    let said = match room {
        Some(room) => session.command(Command::Say(room.clone(), line), now_unix_ms()),
        None => Err(super::session::Refused(
            "there is no room to say it in; name one on the command line".to_owned(),
        )),
    };
    if let Err(refused) = said {
        eprintln!("error: {refused}");
        *outcome = ExitCode::FAILURE;
    }
}

fn print_events(session: &mut Session, outcome: &mut ExitCode) -> io::Result<()> {
    let mut out = io::stdout().lock();
    while let Some(events) = session.poll_event() {
        for event in events {
            match event {
                Event::Entry(target, entry) => writeln!(out, "{}", line(&target, &entry))?,
                Event::Failed(why) => {
                    eprintln!("error: {}", harmless(&why));
                    *outcome = ExitCode::FAILURE;
                }
            }
        }
    }
    out.flush()
}

/// An entry as one line.
fn line(target: &Target, entry: &Entry) -> String {
    let place = harmless(&target.label());
    match entry {
        Entry::Message(message) => format!(
            "{} {place} {}: {}",
            moment(message.unix_ms),
            harmless(&message.user),
            harmless(&message.text)
        ),
        Entry::Notice(text) => format!("* {place}: {}", harmless(text)),
        Entry::Gap(1) => format!("* {place}: one message is missing here"),
        Entry::Gap(count) => format!("* {place}: {count} messages are missing here"),
        Entry::Anew => {
            format!("* {place}: the server has begun anew; messages may be missing here")
        }
    }
}

/// Says on standard error how the connection stands, where that has changed.
fn tell_standing(live: &Live, standing: &Standing, said: &mut Option<Standing>) {
    // What is counted down is said once.
    let kind = |standing: &Standing| std::mem::discriminant(standing);
    if said.as_ref().map(kind) == Some(kind(standing)) {
        return;
    }
    match standing {
        Standing::Connected => {
            let user = harmless(live.session.user().unwrap_or_default());
            eprintln!("connected as {user} to {}", live.url().text());
        }
        Standing::Waiting { why, seconds } => {
            eprintln!("the connection is gone ({why}); again in {seconds} s");
        }
        Standing::Connecting | Standing::Stopped(_) => return,
    }
    *said = Some(standing.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::chat::conversation::Message;

    #[test]
    fn a_message_is_one_line_and_drives_nothing() {
        let target = Target::Room("tea\u{1b}[m".to_owned());
        let user = "eve\u{7}".to_owned();
        let text = "one\ntwo\u{1b}[2J\r* forged".to_owned();
        let line = line(&target, &Entry::Message(Message::new(user, text, 0)));
        assert!(
            line.ends_with(" tea␛[m eve␇: one␊two␛[2J␍* forged"),
            "{line}"
        );
        assert!(!line.chars().any(char::is_control));
    }
}
