//! `shardcast top`: a server's metrics, live on a screen, or one picture as text.
//!
//! [`activity`] is what the server tells, [`view`] what is looked at, [`screen`] draws it and [`once`] prints it.

pub mod activity;
pub mod once;
pub mod screen;
pub mod view;

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use self::activity::Activity;
use self::view::{Doing, View};
use super::ClientError;
use super::api::{Api, ApiError, ApiOptions};
use super::terminal::{self, Screen};

/// Between two questions, where the server does not say how often it measures.
const INTERVAL_MS: u64 = 1000;

/// The longest such pause.
const INTERVAL_MS_MAX: u64 = 10_000;

/// Between two pictures where nothing happens.
const PAUSE: Duration = Duration::from_millis(500);

/// What the command was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which admin API.
    pub api: ApiOptions,
    /// Whether one picture is enough.
    pub once: bool,
}

/// An answer of the server, or why there is none.
type Answer = Result<Activity, ApiError>;

/// Shows it until the user has enough.
///
/// # Errors
/// The admin API cannot be asked to begin with, or the terminal is gone.
pub fn run(options: &Options) -> Result<ExitCode, ClientError> {
    let api = Api::new(&options.api)?;
    // Whoever names no server that there is is told so at once, and not on a screen.
    let mut first = ask(&api, None)?;
    if options.once || !io::stdout().is_terminal() || !terminal::is_interactive() {
        // Rooms are counted only while somebody asks: the second answer has some.
        thread::sleep(interval(&first));
        first.update(ask(&api, first.newest_unix_ms())?);
        io::stdout().write_all(once::text(&first).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    on_screen(api, first)
}

fn ask(api: &Api, after: Option<u64>) -> Answer {
    let after = after.map_or_else(String::new, |unix_ms| format!("?after={unix_ms}"));
    api.get(&format!("/v1/activity{after}"))
}

fn interval(activity: &Activity) -> Duration {
    Duration::from_millis(match activity.interval_ms {
        0 => INTERVAL_MS,
        ms => ms.min(INTERVAL_MS_MAX),
    })
}

fn on_screen(api: Api, first: Activity) -> Result<ExitCode, ClientError> {
    let endings = terminal::endings()?;
    let url = api.url().to_owned();
    let answers = asking(api, &first);
    let mut view = View::new(first, url);
    let mut screen = Screen::take()?;
    let keys = terminal::events();
    loop {
        screen.draw(|frame| screen::draw(frame, &mut view))?;
        select! {
            recv(endings) -> _ => break,
            recv(keys) -> event => match event {
                Ok(event) if view.handle(&event) == Doing::Nothing => {}
                // The user has enough, or the terminal is gone.
                _ => break,
            },
            recv(answers) -> answer => match answer {
                Ok(Ok(activity)) => view.update(activity),
                Ok(Err(error)) => view.fail(&error),
                Err(_) => break,
            },
            default(PAUSE) => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks again and again, on a thread of its own, which ends with the process.
fn asking(api: Api, first: &Activity) -> Receiver<Answer> {
    let (sender, receiver) = bounded(1);
    let (after, pause) = (first.newest_unix_ms(), interval(first));
    thread::spawn(move || ask_on(&api, after, pause, &sender));
    receiver
}

fn ask_on(api: &Api, mut after: Option<u64>, mut pause: Duration, sender: &Sender<Answer>) {
    loop {
        thread::sleep(pause);
        let answer = ask(api, after);
        match &answer {
            Ok(activity) => {
                after = activity.newest_unix_ms().or(after);
                pause = interval(activity);
            }
            // One that comes back may have another clock.
            Err(_) => after = None,
        }
        if sender.send(answer).is_err() {
            return;
        }
    }
}
